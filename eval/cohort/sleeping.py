"""A worker that sleeps in place of screening, and a driver that hands it items: what is left is the pool itself.

`python -m eval.cohort.sleeping MANIFEST OUTPUT WEIGHTS ADDRESS WORKERS SLEEP_S` is the driver.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from gfscreen.cohort.options import CohortOptions
from gfscreen.cohort.records import Layout, Record, write_record
from gfscreen.cohort.run import run_cohort
from gfscreen.cohort.sources.items import Item
from gfscreen.errors import GFScreenError


class SleepingWorker:
    """Sleeps `sleep_s` for an item, one at a time as networks do, then writes a mask of four bytes and the record."""

    def __init__(self, root: Path, sleep_s: float) -> None:
        self._layout, self._sleep_s = Layout(root), sleep_s
        self._one = threading.Lock()

    def __call__(self, item: Item, tries: int) -> Record:
        """The record, whose `worker` is this process, and whose `seconds_total` is the sleep as the clock saw it."""
        with self._one:
            began_s = time.monotonic()
            time.sleep(self._sleep_s)
            slept_s = time.monotonic() - began_s
            finished_s = time.time()
        self._layout.mask(item.name).write_bytes(b"mask")
        record = Record(
            item.name,
            status="ok",
            tries=tries,
            source=item.place,
            seconds={"total": round(slept_s, 4)},
            finished_unix_s=round(finished_s, 4),
            worker=str(os.getpid()),
        )
        write_record(self._layout, record)
        return record


def main(arguments: Sequence[str]) -> int:
    """The driver; the exit code of `gfscreen cohort run`."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s", stream=sys.stderr)
    manifest, output, weights, address, workers, sleep_s = arguments
    options = CohortOptions(manifest, Path(output), Path(weights), ray=address, workers=int(workers), cpus=1)
    # By its module's name, not `__main__`: workers must find the class.
    from eval.cohort import sleeping

    try:
        return run_cohort(options, factory=partial(sleeping.SleepingWorker, Path(output), float(sleep_s)))
    except GFScreenError as error:
        sys.stderr.write(f"ERROR: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
