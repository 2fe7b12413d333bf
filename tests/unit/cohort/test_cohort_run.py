"""`gfscreen cohort run` on a real Ray: masks of `predict`, a table that others read, kills that lose nothing.

Skipped where Ray is not installed, unless GFSCREEN_REQUIRE_RAY=1.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from eval.reliability.threshold_engine import write_threshold_plan, write_threshold_weights
from gfscreen.cohort.records import Layout, read_records
from gfscreen.command.cli import main
from tests.helpers.nifti_files import write_painted
from tests.helpers.places import ROOT
from tests.helpers.ray_cluster import GPU_POOL, STUB_DRIVER, another_node, cluster, environment, need_ray

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address():
    """One Ray for all tests here: starting one takes longer than the tests."""
    need_ray()
    with cluster(cpus=4, gpus=2) as found:
        yield found


def cohort(*arguments) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gfscreen", "cohort", "run", *map(str, arguments)]
    return subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True, cwd=ROOT)


class Stubs:
    """A manifest of items for stub workers, and drivers that run it."""

    def __init__(self, folder: Path, address: str, names: list[str], sleep_s: float = 0.1) -> None:
        self.output, self.address, self.sleep_s = folder / "cohort", address, sleep_s
        self.weights = write_threshold_plan(folder / "weights")
        self.manifest = folder / "list.csv"
        self.manifest.write_text("path,name\n" + "".join(f"list.csv,{name}\n" for name in names))

    def start(self, workers: int = 2) -> subprocess.Popen[str]:
        arguments = [self.manifest, self.output, self.weights, self.address, workers, self.sleep_s]
        command = [sys.executable, "-c", STUB_DRIVER, *map(str, arguments)]
        return subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True, cwd=ROOT)

    @property
    def seen(self) -> Counter[str]:
        """How often each item was begun."""
        log = self.output / "seen.txt"
        return Counter(line.split()[0] for line in log.read_text().splitlines()) if log.is_file() else Counter()

    def wait_for(self, count: int, process: subprocess.Popen[str]) -> None:
        end = time.monotonic() + 120
        while self.seen.total() < count:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.05)

    def worker_pids(self) -> list[int]:
        """Processes that have begun an item lately, the last one first."""
        lines = (self.output / "seen.txt").read_text().splitlines()
        return list(dict.fromkeys(int(line.split()[1]) for line in reversed(lines)))

    @property
    def records(self):
        return {record.name: record for record in read_records(Layout(self.output))}


def test_masks_are_those_of_predict_and_the_table_is_read_by_others(address, tmp_path):
    duckdb, pandas = pytest.importorskip("duckdb"), pytest.importorskip("pandas")
    weights = write_threshold_weights(tmp_path / "weights")
    (tmp_path / "in").mkdir()
    for name in ("a_0000", "b_0000", "c_0000"):
        write_painted(tmp_path / "in" / f"{name}.nii.gz")
    (tmp_path / "in" / "bad.nii.gz").write_bytes(b"junk")
    output = tmp_path / "cohort"
    arguments = ["-i", tmp_path / "in", "-o", output, "--weights", weights, "--ray", address]
    process = cohort(*arguments, "--cpus-per-worker", 1, "--workers", 2)
    log = process.communicate()[1]
    assert process.returncode == 1, log
    assert log.splitlines()[-1] == f"INFO: 4 series: 3 done, 1 failed; {output / 'cohort.parquet'}"
    assert "ERROR: bad: bad.nii.gz: expected a NIfTI file" in log

    assert main(["predict", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "masks"), "--weights", str(weights)]) == 1
    expected = {path.name: path.read_bytes() for path in (tmp_path / "masks").iterdir()}
    assert {path.name: path.read_bytes() for path in (output / "masks").iterdir()} == expected

    table = str(output / "cohort.parquet")
    rows = duckdb.sql(
        f"select name, status, lesion_volume_ml, suspicion, error from '{table}' order by name"
    ).fetchall()
    assert [(row[0], row[1]) for row in rows] == [("a", "ok"), ("b", "ok"), ("bad", "failed"), ("c", "ok")]
    assert rows[0][2] > 0
    assert duckdb.sql(f"select count(*) from '{table}' where suspicion is null").fetchall() == [(4,)]
    frame = pandas.read_parquet(table).set_index("name")
    assert frame.loc["b", "lesion_volume_ml"] == rows[1][2]
    assert frame.loc["bad", "error"] == rows[2][4]
    manifest = json.loads((weights / "manifest.json").read_text())
    assert manifest["format"] == 1
    assert set(frame["weights_sha256"]) == {json.loads((output / "cohort.json").read_text())["weights_sha256"]}

    before = {path: path.stat().st_mtime_ns for path in (output / "masks").iterdir()}
    (tmp_path / "in" / "bad.nii.gz").unlink()
    again = cohort(*arguments)
    log = again.communicate()[1]
    assert again.returncode == 0, log
    assert "3 series: 3 done (3 by an earlier run), 0 failed" in log
    assert {path: path.stat().st_mtime_ns for path in (output / "masks").iterdir()} == before


def test_workers_killed_and_one_that_kills(address, tmp_path):
    names = [f"i{n:02d}" for n in range(40)]
    stubs = Stubs(tmp_path, address, [*names[:10], "killer", *names[10:]])
    process = stubs.start()
    for count in (6, 24):
        stubs.wait_for(count, process)
        os.kill(stubs.worker_pids()[0], signal.SIGKILL)
    log = process.communicate()[1]
    assert process.returncode == 1, log
    records = stubs.records
    assert set(records) == {*names, "killer"}
    killer = records.pop("killer")
    assert (killer.set_aside, killer.tries) == (True, 2)
    assert "ERROR: killer: it ended its worker 2 times" in log
    assert {record.status for record in records.values()} == {"ok"}
    assert "41 series: 40 done, 1 failed (1 set aside)" in log
    assert stubs.seen["killer"] == 2
    # Nothing twice but what a worker held when it was killed: two items each.
    assert sum(count - 1 for name, count in stubs.seen.items() if name != "killer") <= 2 * 4


def test_a_node_killed(address, tmp_path):
    """What was being read there is read elsewhere, and is not held against it."""
    names = [f"i{n:02d}" for n in range(160)]
    stubs = Stubs(tmp_path, address, names, sleep_s=0.5)
    with another_node(address, cpus=2) as node:
        process = stubs.start(workers=6)
        there = psutil.Process(node.pid)
        end = time.monotonic() + 120
        while not stubs.seen or not {p.pid for p in there.children(recursive=True)} & set(stubs.worker_pids()):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)
        for one in [there, *there.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        log = process.communicate()[1]
    assert process.returncode == 0, log
    records = stubs.records
    assert set(records) == set(names)
    assert {record.status for record in records.values()} == {"ok"}, log
    assert "its worker ended under it; tried again" in log
    assert sum(count - 1 for count in stubs.seen.values()) <= 2 * 2


def test_the_driver_killed_and_told_to_stop(address, tmp_path):
    stubs = Stubs(tmp_path, address, [f"i{n:02d}" for n in range(40)], sleep_s=0.3)
    process = stubs.start()
    stubs.wait_for(8, process)
    process.kill()
    process.communicate()
    time.sleep(1.0)  # Ray ends its workers
    done = set(stubs.records)
    assert 4 <= len(done) < 40
    begun = stubs.seen

    process = stubs.start()
    stubs.wait_for(begun.total() + 6, process)
    process.send_signal(signal.SIGTERM)
    log = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM, log
    assert "told to stop: what is being screened is finished, nothing more is begun" in log
    assert "not begun; run again to go on" in log
    drained = stubs.records
    assert done < set(drained) < {f"i{n:02d}" for n in range(40)}
    # Nothing that was begun is lost, nothing finished was begun again.
    assert set(stubs.seen - begun) <= set(drained) - done
    assert (stubs.output / "cohort.parquet").is_file()

    seen = stubs.seen
    process = stubs.start()
    log = process.communicate()[1]
    assert process.returncode == 0, log
    assert set(stubs.seen - seen) == {f"i{n:02d}" for n in range(40)} - set(drained)


def test_each_worker_on_gpus_has_one_of_its_own(address, tmp_path):
    """Ray is told of two GPUs, which nobody touches: two workers, each of which sees one and the other not."""
    Layout(tmp_path).make()
    names = [f"g{n}" for n in range(8)]
    done = subprocess.run(
        [sys.executable, "-c", GPU_POOL, str(tmp_path), address, *names],
        env=environment(), capture_output=True, text=True, cwd=ROOT, check=False, timeout=120,
    )  # fmt: skip
    assert sorted(done.stdout.split("\n")[:-1]) == [f"{name} ok" for name in names], done.stderr
    seen = [line.split() for line in (tmp_path / "seen.txt").read_text().splitlines()]
    assert sorted(name for name, _, _ in seen) == names
    gpu_of = {pid: gpu for _, pid, gpu in seen}
    assert sorted(gpu_of.values()) == ["0", "1"]
    assert len({(pid, gpu) for _, pid, gpu in seen}) == 2


def test_nobody_at_the_address(tmp_path):
    need_ray()
    (tmp_path / "in").mkdir()
    write_painted(tmp_path / "in" / "a_0000.nii.gz")
    weights = write_threshold_weights(tmp_path / "weights")
    began = time.monotonic()
    process = cohort("-i", tmp_path / "in", "-o", tmp_path / "out", "--weights", weights, "--ray", "127.0.0.1:1")
    log = process.communicate()[1]
    assert process.returncode == 2
    assert log.splitlines()[-1].startswith("ERROR: --ray 127.0.0.1:1: nobody answers (Connection refused); start Ray")
    assert time.monotonic() - began < 30
