"""A Ray of this machine for tests, and stubs that take the place of screening in its workers."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from eval.cohort import nodes
from gfscreen.cohort.records import Layout, Record, write_record
from gfscreen.cohort.sources.items import Item

_HIDDEN = Path(__file__).with_name("hidden")
alone = nodes.alone


def need_ray() -> None:
    """Skips where Ray or pyarrow is not installed; with GFSCREEN_REQUIRE_RAY=1 it fails."""
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None:
        message = "needs ray and pyarrow (pip install 'gfscreen[cohort]')"
        if os.environ.get("GFSCREEN_REQUIRE_RAY") == "1":
            pytest.fail(message)
        pytest.skip(message)


def environment() -> dict[str, str]:
    """As of a measurement, with a package hidden whose import keeps every process of Ray busy."""
    variables = nodes.environment()
    return {**variables, "PYTHONPATH": os.pathsep.join([str(_HIDDEN), variables["PYTHONPATH"]])}


def cluster(cpus: int, gpus: int = 0) -> AbstractContextManager[str]:
    """A node with so many CPUs, and GPUs that nobody has to have; the address of its head."""
    return nodes.cluster(cpus, environment(), gpus)


def another_node(address: str, cpus: int) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """One more node of a cluster, in a process group of its own."""
    return nodes.another_node(address, cpus, environment())


class StubWorker:
    """Sleeps for an item and writes its record and a mask of its own; kills its worker for an item called `killer`.

    What it has screened it appends to DIR/seen.txt, a line each, before it sleeps: name, process, its GPUs. together:
    it sleeps on until so many processes have done so, at most a minute: on a busy machine one may begin long before
    another.
    """

    def __init__(self, root: Path, sleep_s: float, together: int = 1) -> None:
        self._layout, self._sleep_s, self._together = Layout(root), sleep_s, together

    def __call__(self, item: Item, tries: int) -> Record:
        with (self._layout.root / "seen.txt").open("a") as log:
            log.write(f"{item.name} {os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES', '-')}\n")
        if item.name == "killer":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self._sleep_s)
        end = time.monotonic() + 60
        while self._processes() < self._together and time.monotonic() < end:
            time.sleep(0.1)
        self._layout.mask(item.name).write_bytes(b"mask")
        record = Record(
            item.name, status="ok", tries=tries, source=item.place, worker="stub", finished_unix_s=time.time()
        )
        write_record(self._layout, record)
        return record

    def _processes(self) -> int:
        """How many processes have begun to screen."""
        return len({line.split()[1] for line in (self._layout.root / "seen.txt").read_text().splitlines()})


# A driver that screens by stubs: MANIFEST OUTPUT WEIGHTS ADDRESS WORKERS SLEEP_S.
STUB_DRIVER = """
import sys
from functools import partial
from pathlib import Path
from gfscreen.cohort.options import CohortOptions
from gfscreen.cohort.run import run_cohort
from gfscreen.command.cli import _configure_logging
from gfscreen.stopping import Stopped
from tests.helpers.ray_cluster import StubWorker

_configure_logging(False, False)
manifest, output, weights, address, workers, sleep_s = sys.argv[1:]
options = CohortOptions(manifest, Path(output), Path(weights), ray=address, workers=int(workers), cpus=1)
try:
    sys.exit(run_cohort(options, factory=partial(StubWorker, Path(output), float(sleep_s))))
except Stopped as stop:
    sys.exit(stop.exit_code)
"""

# The same on a pool of workers with a GPU each, as many as there are: OUTPUT ADDRESS NAME...
GPU_POOL = """
import sys
from functools import partial
from pathlib import Path
from gfscreen.cohort.pool.cluster import connect
from gfscreen.cohort.pool.dispatch import Pool
from gfscreen.cohort.sources.items import Item
from tests.helpers.ray_cluster import StubWorker

output, address, *names = sys.argv[1:]
pool = Pool(connect(address), partial(StubWorker, Path(output), 0.3, together=2), None, 2, 1)
for record in pool.run(iter([Item(name, name) for name in names]), lambda: False):
    if record is not None:
        print(record.name, record.status, flush=True)
"""
