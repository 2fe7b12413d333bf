"""The process that executes: one file after the other until told to stop; what it finds it writes down, and goes on.

Started by `run`, because a fault in a native library ends a process: the file it died on is then still there.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import traceback
from pathlib import Path
from random import Random

from eval.reliability.fuzz.mutate import mutate
from eval.reliability.fuzz.seeds import Seed, make_seeds
from eval.reliability.fuzz.target import ITK_SUFFIXES, Finding, Reader

CORPUS_SIZE = 400
# MetaImage and NRRD cost a round trip to ITK's process each, and are not what the challenge sends: one in so many.
ITK_EVERY = 25
# A finding of the same kind at the same place is kept once.
STATE_FILE = "worker.json"
INPUT_FOLDER = "input"


def place_of(error: BaseException) -> str:
    """File and line of the innermost frame of the product: what tells findings apart."""
    cause = error.__cause__ or error
    frames = [f for f in traceback.extract_tb(cause.__traceback__) if "gfscreen" in f.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "outside the product"


class Log:
    """Counts and findings, written to a file that `run` reads, also after this process has died."""

    def __init__(self, folder: Path, reader: Reader) -> None:
        self._folder, self._reader = folder, reader
        self.findings: dict[str, dict[str, object]] = {}

    def add(self, error: Finding, data: bytes, suffix: str) -> None:
        """Keep a finding and the file that made it, once per kind and place."""
        key = f"{error.kind} at {place_of(error)}"
        known = self.findings.get(key)
        if known is not None:
            known["times"] = int(str(known["times"])) + 1
            return
        name = f"finding-{error.kind}-{len(self.findings)}-{self._reader.executions}{suffix}"
        (self._folder / name).write_bytes(data)
        self.findings[key] = {"what": key, "message": str(error)[:300], "file": name, "times": 1}
        self.write()

    def write(self) -> None:
        """Write the state so far."""
        state = {
            "executions": self._reader.executions,
            "outcomes": dict(self._reader.outcomes),
            "slowest_s": round(self._reader.slowest_s, 3),
            "largest_mb": round(self._reader.largest_mb, 1),
            "growth_mb": round(self._reader.growth_mb, 1),
            "findings": list(self.findings.values()),
        }
        temporary = self._folder / (STATE_FILE + ".part")
        temporary.write_text(json.dumps(state), encoding="utf-8")
        temporary.replace(self._folder / STATE_FILE)


def read_seeds(reader: Reader, seeds: list[Seed]) -> None:
    """Every seed must be accepted, or nothing is tested; also loads what is loaded on first use."""
    for seed in seeds:
        outcome = reader.execute(seed.data, seed.suffix)
        if outcome != "scan":
            raise RuntimeError(f"a valid {seed.suffix} file is refused; the reader or the seeds are wrong")
    reader.start()


def random_search(reader: Reader, log: Log, executions: int, seed: int) -> None:
    """Mutations of seeds, and of mutations that were accepted: no coverage, no other package."""
    rng = Random(seed)
    seeds = make_seeds()
    read_seeds(reader, seeds)
    corpus = [one for one in seeds if one.suffix not in ITK_SUFFIXES]
    itk_corpus = [one for one in seeds if one.suffix in ITK_SUFFIXES]
    while reader.executions < executions:
        pool = itk_corpus if reader.executions % ITK_EVERY == 0 else corpus
        parent, other = rng.choice(pool), rng.choice(seeds)
        data = mutate(parent.data, rng, other.data)
        suffix = parent.suffix if rng.random() < 0.97 else other.suffix
        try:
            outcome = reader.execute(data, suffix)
        except Finding as error:
            log.add(error, data, suffix)
            continue
        if outcome == "scan" and len(pool) < CORPUS_SIZE and rng.random() < 0.05:
            pool.append(Seed(suffix, data))
        if reader.executions % 500 == 0:
            log.write()
    log.write()


def main(argv: list[str] | None = None) -> int:
    """Entry of the worker process; see `run` for the options' meaning."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--executions", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--engine", choices=("random", "atheris"), required=True)
    args = parser.parse_args(argv)
    logging.disable(logging.CRITICAL)
    scratch = args.folder / INPUT_FOLDER
    scratch.mkdir(exist_ok=True)
    reader = Reader(scratch)
    log = Log(args.folder, reader)
    if args.engine == "atheris":
        from eval.reliability.fuzz.coverage import coverage_search

        with tempfile.TemporaryDirectory() as corpus:
            coverage_search(reader, log, args.executions, args.seed, Path(corpus))
    else:
        random_search(reader, log, args.executions, args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
