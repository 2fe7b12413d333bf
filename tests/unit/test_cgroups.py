"""Limits of control groups: the smallest on the way up, cache is free, odd files say nothing; also on real groups."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gfscreen
from gfscreen.cgroups import cpu_quota, memory_left_bytes

MIB = 1 << 20
# As v1 writes "no limit": with pages of 4 KiB, of 64 KiB, and before Linux 3.19.
UNLIMITED = [9223372036854771712, 9223372036854710272, 9223372036854775807, -1]


LIMITED = {"memory_max": 100 * MIB, "memory_current": 30 * MIB}
LIMITED_V1 = {"memory_limit_in_bytes": 100 * MIB, "memory_usage_in_bytes": 30 * MIB}


class Machine:
    """A fake /proc/self and what is mounted below a root."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.root = folder / "proc", folder / "root"
        self.proc.mkdir()
        self.root.mkdir()
        self._lines: list[str] = []

    def own(self, *lines: str) -> Machine:
        (self.proc / "cgroup").write_text("".join(f"{line}\n" for line in lines))
        return self

    def mount(self, point: str, top: str = "/", kind: str = "cgroup2", options: str = "rw") -> Machine:
        number = len(self._lines) + 30
        self._lines.append(f"{number} 23 0:{number} {top} {point} rw,nosuid - {kind} cgroup {options}\n")
        (self.proc / "mountinfo").write_text("".join(self._lines))
        return self

    def group(self, path: str, **files: object) -> Machine:
        """Files of a group; `memory_max` is memory.max, a dict is memory.stat's form."""
        folder = self.root / path.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if isinstance(content, dict):
                content = "".join(f"{key} {value}\n" for key, value in content.items())
            (folder / name.replace("_", ".", 1)).write_text(f"{content}\n")
        return self

    def v1(self, path: str, **files: object) -> Machine:
        return self.group(f"/sys/fs/cgroup/memory{path}", **files)

    @property
    def memory(self) -> int | None:
        return memory_left_bytes(self.proc, self.root)

    @property
    def cpus(self) -> float | None:
        return cpu_quota(self.proc, self.root)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def v2(machine: Machine) -> Machine:
    """Own group /slurm/job/step, all of the tree to be seen."""
    machine.group("/sys/fs/cgroup/slurm/job/step")
    return machine.own("0::/slurm/job/step").mount("/sys/fs/cgroup")


@pytest.fixture
def v1(machine: Machine) -> Machine:
    """The same in v1, with memory and CPUs in hierarchies of their own."""
    machine.v1("/slurm/job/step").group("/sys/fs/cgroup/cpu,cpuacct/slurm/job/step")
    machine.own("9:name=systemd:/x", "4:memory:/slurm/job/step", "2:cpu,cpuacct:/slurm/job/step", "0::/x")
    machine.mount("/sys/fs/cgroup/memory", kind="cgroup", options="rw,memory")
    return machine.mount("/sys/fs/cgroup/cpu,cpuacct", kind="cgroup", options="rw,cpu,cpuacct")


class TestMemoryV2:
    @pytest.mark.parametrize("level", ["", "/slurm", "/slurm/job", "/slurm/job/step"])
    def test_a_limit_anywhere_on_the_way_up(self, v2, level):
        # 100 - 30 = 70 MiB.
        v2.group(f"/sys/fs/cgroup{level}", memory_max=100 * MIB, memory_current=30 * MIB)
        assert v2.memory == 70 * MIB

    def test_the_group_with_least_left_counts_and_not_the_one_with_the_lowest_limit(self, v2):
        v2.group("/sys/fs/cgroup/slurm/job/step", memory_max=100 * MIB, memory_current=10 * MIB)
        # Other steps of the job fill it: 200 - 160 = 40 MiB are left.
        v2.group("/sys/fs/cgroup/slurm/job", memory_max=200 * MIB, memory_current=160 * MIB)
        v2.group("/sys/fs/cgroup/slurm", memory_max="max", memory_current=900 * MIB)
        assert v2.memory == 40 * MIB

    def test_a_group_beside_ours_says_nothing(self, v2):
        v2.group("/sys/fs/cgroup/slurm/other", memory_max=MIB, memory_current=0)
        assert v2.memory is None

    def test_page_cache_is_free(self, v2):
        # 100 - (95 - 50 - 20) = 75 MiB; anonymous memory and shared files are used.
        statistics = {"anon": 25 * MIB, "file": 70 * MIB, "inactive_file": 50 * MIB, "active_file": 20 * MIB}
        v2.group("/sys/fs/cgroup/slurm", memory_max=100 * MIB, memory_current=95 * MIB, memory_stat=statistics)
        assert v2.memory == 75 * MIB

    def test_never_more_than_the_limit(self, v2):
        """The files are read one after the other: cache may have come in between."""
        statistics = {"inactive_file": 90 * MIB, "active_file": 20 * MIB}
        v2.group("/sys/fs/cgroup/slurm", memory_max=100 * MIB, memory_current=95 * MIB, memory_stat=statistics)
        assert v2.memory == 100 * MIB

    def test_never_less_than_nothing(self, v2):
        v2.group("/sys/fs/cgroup/slurm", memory_max=100 * MIB, memory_current=101 * MIB)
        assert v2.memory == 0

    @pytest.mark.parametrize(("high", "most", "left"), [(60, 100, 50), (100, 60, 50), (60, "max", 50), ("max", 60, 50)])
    def test_where_the_kernel_slows_down_is_a_limit(self, v2, high, most, left):
        # 60 - 10 = 50 MiB.
        size = {name: n if n == "max" else n * MIB for name, n in (("memory_high", high), ("memory_max", most))}
        v2.group("/sys/fs/cgroup/slurm/job", memory_current=10 * MIB, **size)
        assert v2.memory == left * MIB

    def test_no_limit(self, v2):
        v2.group("/sys/fs/cgroup/slurm", memory_max="max", memory_high="max", memory_current=MIB)
        assert v2.memory is None


class TestMemoryV1:
    @pytest.mark.parametrize("level", ["", "/slurm", "/slurm/job", "/slurm/job/step"])
    def test_a_limit_anywhere_on_the_way_up(self, v1, level):
        v1.v1(level, memory_limit_in_bytes=100 * MIB, memory_usage_in_bytes=30 * MIB)
        assert v1.memory == 70 * MIB

    @pytest.mark.parametrize("number", UNLIMITED)
    def test_no_limit(self, v1, number):
        statistics = {"hierarchical_memory_limit": number}
        v1.v1("/slurm", memory_limit_in_bytes=number, memory_usage_in_bytes=MIB, memory_stat=statistics)
        assert v1.memory is None

    def test_page_cache_of_the_groups_below_is_free_as_their_usage_counts(self, v1):
        # 100 - (95 - 50 - 20) = 75 MiB. Without `total_` it is what the group itself holds.
        statistics = {"inactive_file": 1, "active_file": 1}
        statistics |= {"total_inactive_file": 50 * MIB, "total_active_file": 20 * MIB}
        v1.v1("/slurm", memory_limit_in_bytes=100 * MIB, memory_usage_in_bytes=95 * MIB, memory_stat=statistics)
        assert v1.memory == 75 * MIB

    def test_page_cache_on_kernels_without_totals(self, v1):
        # 100 - (95 - 50) = 55 MiB.
        statistics = {"inactive_file": 50 * MIB}
        v1.v1("/slurm", memory_limit_in_bytes=100 * MIB, memory_usage_in_bytes=95 * MIB, memory_stat=statistics)
        assert v1.memory == 55 * MIB

    def test_a_limit_above_what_a_container_sees(self, machine):
        machine.own("4:memory:/docker/1").mount("/sys/fs/cgroup/memory", "/docker/1", "cgroup", "rw,memory")
        statistics = {"hierarchical_memory_limit": 50 * MIB}
        machine.v1("", memory_limit_in_bytes=UNLIMITED[0], memory_usage_in_bytes=10 * MIB, memory_stat=statistics)
        # 50 - 10 = 40 MiB.
        assert machine.memory == 40 * MIB

    @pytest.mark.parametrize(("hierarchy", "left"), [(0, None), (1, 70 * MIB)])
    def test_a_group_that_does_not_count_those_below(self, v1, hierarchy, left):
        v1.v1("/slurm", memory_use_hierarchy=hierarchy).v1("/slurm/job", memory_use_hierarchy=hierarchy)
        v1.v1("/slurm", memory_limit_in_bytes=100 * MIB, memory_usage_in_bytes=30 * MIB)
        assert v1.memory == left

    def test_own_limit_without_hierarchy(self, v1):
        v1.v1("/slurm/job/step", memory_use_hierarchy=0)
        v1.v1("/slurm/job/step", memory_limit_in_bytes=100 * MIB, memory_usage_in_bytes=30 * MIB)
        assert v1.memory == 70 * MIB

    def test_both_versions_at_once(self, v1):
        """systemd's hybrid mode: the smaller counts, wherever it is."""
        v1.mount("/sys/fs/cgroup/unified").group("/sys/fs/cgroup/unified/x", memory_max=60 * MIB, memory_current=0)
        v1.v1("/slurm", memory_limit_in_bytes=100 * MIB, memory_usage_in_bytes=0)
        assert v1.memory == 60 * MIB


class TestWhereTheGroupIs:
    """70 MiB where the limit is found."""

    @pytest.mark.parametrize(
        ("own", "top", "folder"),
        [
            pytest.param("/", "/", "", id="a namespace of its own"),
            pytest.param("/init.scope", "/", "/init.scope", id="a group in a namespace"),
            pytest.param("/docker/1", "/docker/1", "", id="Docker without namespace: host's path, own mount"),
            pytest.param("/docker/1/a", "/docker/1", "/a", id="a group in such a container"),
            pytest.param("/docker/1", "/", "", id="the host's path is not to be seen"),
            pytest.param("/kube/pod/1", "/", "/kube", id="only a group above is to be seen"),
            pytest.param("/docker/1", "/docker/2", "", id="another path in mountinfo, and no other mount"),
            pytest.param("/../b", "/..", "/b", id="moved beside the namespace's root"),
            pytest.param("/../b", "/", "", id="moved out of what is mounted"),
            pytest.param("/", "/..", "", id="the host's groups are mounted, own name unknown"),
            pytest.param("/gone (deleted)", "/", "", id="the group was removed"),
            pytest.param("/a:b", "/", "/a:b", id="a colon in the name"),
            pytest.param("/döner", "/", "/döner", id="not ASCII"),
        ],
    )
    def test_v2(self, machine, own, top, folder):
        machine.own(f"0::{own}").mount("/sys/fs/cgroup", top).group(f"/sys/fs/cgroup{folder}", **LIMITED)
        assert machine.memory == 70 * MIB

    @pytest.mark.parametrize("own", ["/docker/1", "/"])
    def test_v1_in_a_container(self, machine, own):
        machine.own(f"4:memory:{own}").mount("/sys/fs/cgroup/memory", own, "cgroup", "rw,memory")
        assert machine.v1("", **LIMITED_V1).memory == 70 * MIB

    def test_a_mount_that_covers_another(self, machine):
        """Field: the own group is bound over the top of the tree, under the same name."""
        machine.own("4:memory:/field-1").mount("/sys/fs/cgroup/memory", "/", "cgroup", "rw,memory")
        machine.mount("/sys/fs/cgroup/memory", "/field-1", "cgroup", "rw,memory")
        assert machine.v1("", **LIMITED_V1).memory == 70 * MIB

    def test_a_mount_of_somebody_elses_groups_says_nothing(self, machine):
        machine.own("0::/mine").mount("/sys/fs/cgroup").mount("/srv/theirs", "/theirs")
        machine.group("/sys/fs/cgroup/mine", memory_max="max", memory_current=0)
        machine.group("/srv/theirs", memory_max=1, memory_current=0)
        assert machine.memory is None

    def test_the_host_is_mounted_into_a_namespace(self, machine):
        """`docker run -v /sys/fs/cgroup:/sys/fs/cgroup`: no file tells our name there, but our process is listed."""
        machine.own("0::/").mount("/sys/fs/cgroup", "/../..")
        machine.group("/sys/fs/cgroup/docker/2", memory_max=MIB, memory_current=0, cgroup_procs=1)
        machine.group("/sys/fs/cgroup/docker/1", **LIMITED, cgroup_procs=f"1\n{os.getpid()}")
        assert machine.memory == 70 * MIB

    def test_a_mount_point_with_blanks(self, machine):
        machine.own("0::/a").mount("/mnt/my\\040groups").group("/mnt/my groups/a", **LIMITED)
        assert machine.memory == 70 * MIB

    @pytest.mark.parametrize("mountinfo", [None, "", "36 35 98:0 / / rw - ext4 /dev/vda rw\n"])
    @pytest.mark.parametrize("version", [1, 2])
    def test_no_mount_to_be_found(self, machine, mountinfo, version):
        """Then the places by custom: LXCFS shows groups as a file system of its own."""
        if mountinfo is not None:
            (machine.proc / "mountinfo").write_text(mountinfo)
        if version == 1:
            machine.v1("", **LIMITED_V1)
        else:
            machine.group("/sys/fs/cgroup", **LIMITED)
        assert machine.memory == 70 * MIB

    def test_nothing_at_all(self, tmp_path):
        assert memory_left_bytes(tmp_path / "none", tmp_path / "nothing") is None
        assert cpu_quota(tmp_path / "none", tmp_path / "nothing") is None


class TestCPUs:
    @pytest.mark.parametrize(
        ("text", "quota"),
        [
            ("max 100000", None),
            ("max", None),
            ("150000 100000", 1.5),
            ("50000", 0.5),
            ("150000 0", None),
            ("0 100000", None),
            ("-1 100000", None),
            ("x 100000", None),
            ("100000 x", None),
            ("", None),
        ],
    )
    def test_v2(self, v2, text, quota):
        v2.group("/sys/fs/cgroup/slurm/job", cpu_max=text)
        assert v2.cpus == quota

    @pytest.mark.parametrize(
        ("quota_us", "period_us", "quota"),
        [(-1, 100000, None), (150000, 100000, 1.5), (150000, 0, None), ("", 100000, None), (25000, "x", 0.25)],
    )
    def test_v1(self, v1, quota_us, period_us, quota):
        folder = "/sys/fs/cgroup/cpu,cpuacct/slurm/job"
        v1.group(folder, cpu_cfs_quota_us=quota_us, cpu_cfs_period_us=period_us)
        assert v1.cpus == quota

    def test_the_smallest_on_the_way_up(self, v2):
        v2.group("/sys/fs/cgroup/slurm/job/step", cpu_max="400000 100000")
        v2.group("/sys/fs/cgroup/slurm/job", cpu_max="100000 50000")
        v2.group("/sys/fs/cgroup/slurm", cpu_max="max 100000")
        assert v2.cpus == 2.0


class TestOdd:
    @pytest.mark.parametrize("text", ["", "x", "12 34", "-5", "1e9", "nan", "\0", "9" * 5000])
    def test_a_limit_that_is_none(self, v2, text):
        v2.group("/sys/fs/cgroup/slurm", memory_max=text, memory_current=0)
        assert v2.memory is None

    @pytest.mark.parametrize("text", ["", "x", "-5"])
    def test_usage_that_is_none_leaves_the_limit(self, v2, text):
        v2.group("/sys/fs/cgroup/slurm", memory_max=100 * MIB, memory_current=text)
        assert v2.memory == 100 * MIB

    @pytest.mark.parametrize("text", ["", "active_file", "active_file x", "active_file -5", "active_file 1 2", "\0"])
    def test_statistics_that_are_none(self, v2, text):
        v2.group("/sys/fs/cgroup/slurm", memory_max=100 * MIB, memory_current=30 * MIB, memory_stat=text)
        assert v2.memory == 70 * MIB

    def test_a_folder_where_a_file_should_be(self, v2):
        for name in ("memory.max", "cpu.max"):
            (v2.root / "sys/fs/cgroup/slurm" / name).mkdir()
        assert v2.memory is None
        assert v2.cpus is None

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.binary(max_size=40), min_size=8, max_size=8))
    def test_whatever_the_files_hold_nothing_is_raised(self, v2, contents):
        group = v2.root / "sys/fs/cgroup"
        names = ["memory.max", "memory.high", "memory.current", "memory.stat", "cpu.max"]
        files = [v2.proc / "cgroup", v2.proc / "mountinfo", *(group / name for name in names)]
        before = {path: path.read_bytes() for path in files if path.exists()}
        for path, content in zip(files, contents, strict=False):
            path.write_bytes(before.get(path, b"") + content)
        assert v2.memory is None or v2.memory >= 0
        assert v2.cpus is None or v2.cpus > 0
        for path in files:
            path.write_bytes(before.get(path, b""))


# Prints both limits, and with an argument first fills the page cache by so many MiB of a file.
SEEN = """
import os, sys
from gfscreen.cgroups import cpu_quota, memory_left_bytes
for group in sys.argv[3:]:
    open(group + "/cgroup.procs", "w").write(str(os.getpid()))
for _ in range(int(sys.argv[1])):
    open(sys.argv[2], "ab").write(bytes(1 << 20))
print(memory_left_bytes(), cpu_quota())
"""


class TestReal:
    """Groups that the kernel makes: limits in the upper one, the process in the lower one."""

    @pytest.fixture
    def groups(self) -> Iterator[dict[str, Path]]:
        """Upper groups by controller, each with a group `low`. Skips where none can be made."""
        made: list[Path] = []
        upper: dict[str, Path] = {}
        try:
            for controller in ("memory", "cpu"):
                top = Path("/sys/fs/cgroup") / controller
                if not (top / "cgroup.procs").exists():
                    top = top.parent
                    if controller not in (top / "cgroup.subtree_control").read_text().split():
                        (top / "cgroup.subtree_control").write_text(f"+{controller}")
                group = top / f"gfscreen-test-{os.getpid()}"
                for folder in (group, group / "low"):
                    if folder not in made:
                        folder.mkdir()
                        made.append(folder)
                upper[controller] = group
        except OSError as error:
            self._remove(made)
            pytest.skip(f"needs root and control groups that can be made: {error}")
        yield upper
        self._remove(made)

    @staticmethod
    def _remove(made: list[Path]) -> None:
        for folder in reversed(made):
            for _ in range(50):  # the kernel takes a moment to see that the process has gone
                try:
                    folder.rmdir()
                    break
                except OSError:
                    time.sleep(0.1)

    @staticmethod
    def _seen(groups: dict[str, Path], file: Path, fill_mib: int) -> tuple[int, float]:
        lower = {str(group / "low") for group in groups.values()}
        done = subprocess.run(
            [sys.executable, "-c", SEEN, str(fill_mib), str(file), *lower],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(Path(gfscreen.__file__).parents[1])},
        )
        left, quota = done.stdout.split()
        return int(left), float(quota)

    @pytest.fixture
    def file(self) -> Iterator[Path]:
        """A file on a disk: of a file system in memory nothing is given back."""
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            yield Path(folder) / "file"

    def test_limits_above_the_own_group_and_a_full_page_cache(self, groups, file):
        memory, cpu = groups["memory"], groups["cpu"]
        if (memory / "memory.max").exists():
            (memory / "memory.max").write_text(str(128 * MIB))
            (cpu / "cpu.max").write_text("150000 100000")
        else:
            (memory / "memory.limit_in_bytes").write_text(str(128 * MIB))
            (cpu / "cpu.cfs_quota_us").write_text("150000")
        left, quota = self._seen(groups, file, 0)
        assert quota == 1.5
        # An interpreter takes a few MiB.
        assert 64 * MIB < left <= 128 * MIB
        # More than the limit: what is left of it is cache.
        left, _ = self._seen(groups, file, 200)
        usage = next(memory / name for name in ("memory.current", "memory.usage_in_bytes") if (memory / name).exists())
        if int(usage.read_text()) < 64 * MIB:
            pytest.skip("needs a file system in /var/tmp whose files stay in the page cache")
        assert 64 * MIB < left <= 128 * MIB
