"""What the measured program itself uses: a container's cgroup (v1 or v2), or a process tree."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

MIB = 1024 * 1024
CGROUP_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class OwnReading:
    """`ram_mb`: memory charged (with page cache for a cgroup; summed RSS for a tree, shared pages counted twice).

    `anonymous_mb`: without page cache, cgroups only. `cpu_s`: CPU seconds so far. `peak_mb`: the kernel's own peak so
    far, cgroups only. None where not told.
    """

    ram_mb: float | None
    anonymous_mb: float | None
    cpu_s: float | None
    peak_mb: float | None
    pids: frozenset[int]


class OwnProbe(Protocol):
    """Something that can be asked, again and again, what the measured program uses."""

    source: str

    def read(self) -> OwnReading | None:
        """A reading, or None when the program has not started or is gone."""
        ...


class TreeProbe:
    """A local process and its descendants."""

    def __init__(self, pid: int) -> None:
        self.source = "process tree"
        self._pid = pid
        self._cpu: dict[tuple[int, float], float] = {}

    def read(self) -> OwnReading | None:
        """Sum over the tree. CPU of a process that ended between two readings counts up to its last one."""
        rss = 0
        pids = set()
        for process in tree(self._pid):
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    rss += process.memory_info().rss
                    self._cpu[(process.pid, process.create_time())] = times.user + times.system
            except psutil.Error:
                continue
            pids.add(process.pid)
        if not pids:
            return None
        return OwnReading(rss / MIB, None, sum(self._cpu.values()), None, frozenset(pids))


def tree(pid: int) -> list[psutil.Process]:
    """The process and its descendants that are alive now."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


@dataclass(frozen=True)
class Cgroup:
    """The directories that hold a container's memory and CPU accounting (one and the same in version 2)."""

    version: int
    memory: Path
    cpu: Path | None

    def read(self) -> OwnReading | None:
        """A reading, or None once the container is gone."""
        ram = _number(self.memory / ("memory.current" if self.version == 2 else "memory.usage_in_bytes"))
        if ram is None:
            return None
        peak = _number(self.memory / ("memory.peak" if self.version == 2 else "memory.max_usage_in_bytes"))
        stat = _table(self.memory / "memory.stat")
        anonymous = stat.get("anon") if self.version == 2 else stat.get("total_rss", stat.get("rss"))
        return OwnReading(_mib(ram), _mib(anonymous), self._cpu_s(), _mib(peak), self._pids())

    def _cpu_s(self) -> float | None:
        if self.cpu is None:
            return None
        if self.version == 2:
            microseconds = _table(self.cpu / "cpu.stat").get("usage_usec")
            return None if microseconds is None else microseconds / 1e6
        nanoseconds = _number(self.cpu / "cpuacct.usage")
        return None if nanoseconds is None else nanoseconds / 1e9

    def _pids(self) -> frozenset[int]:
        return frozenset(int(word) for word in _text(self.memory / "cgroup.procs").split() if word.isdigit())


def find_cgroup(container_id: str, root: Path = CGROUP_ROOT, proc_text: str | None = None) -> Cgroup | None:
    """Find a container's cgroup by Docker's two naming schemes, or by the text of `/proc/<pid>/cgroup`."""
    names = [f"docker/{container_id}", f"system.slice/docker-{container_id}.scope"]
    by_controller = _parse_proc(proc_text or "")
    for name in [*names, by_controller.get("", "")]:
        if name and (root / name / "memory.current").is_file():
            return Cgroup(2, root / name, root / name)
    for name in [*names, by_controller.get("memory", "")]:
        memory = root / "memory" / name
        if name and (memory / "memory.usage_in_bytes").is_file():
            cpus = [
                root / c / n for c in ("cpuacct", "cpu,cpuacct") for n in (by_controller.get("cpuacct", name), name)
            ]
            return Cgroup(1, memory, next((c for c in cpus if (c / "cpuacct.usage").is_file()), None))
    return None


def _parse_proc(text: str) -> dict[str, str]:
    """Controller to path of `/proc/<pid>/cgroup`; version 2 has the empty controller."""
    found = {}
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            for controller in parts[1].split(","):
                found[controller] = parts[2].lstrip("/")
    return found


class ContainerProbe:
    """A container named by the id that `docker run --cidfile` writes once it exists."""

    def __init__(self, cid_file: Path, root: Path = CGROUP_ROOT) -> None:
        self.source = "cgroup"
        self._cid_file = cid_file
        self._root = root
        self._cgroup: Cgroup | None = None
        self._asked_docker = False

    def read(self) -> OwnReading | None:
        """A reading while the container lives."""
        if self._cgroup is None:
            container_id = _text(self._cid_file).strip()
            if not container_id:
                return None
            self._cgroup = find_cgroup(container_id, self._root)
            if self._cgroup is None and not self._asked_docker:
                self._asked_docker = True
                self._cgroup = find_cgroup(container_id, self._root, _proc_text(container_id))
            if self._cgroup is None:
                return None
            self.source = f"cgroup v{self._cgroup.version}"
        return self._cgroup.read()


def _proc_text(container_id: str) -> str:
    command = ["docker", "inspect", "--format", "{{.State.Pid}}", container_id]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return _text(Path("/proc") / (done.stdout.strip() or "none") / "cgroup")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _table(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _mib(value: int | None) -> float | None:
    return None if value is None else value / MIB
