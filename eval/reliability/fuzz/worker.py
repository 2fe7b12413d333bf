"""The process that executes: one file after the other until told to stop; what it finds it writes down, and goes on.

Started by `run`, because a fault in a native library ends a process: the file it died on is then still there.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path
from random import Random

from eval.reliability.fuzz.dicom_seeds import make_dicom_seeds
from eval.reliability.fuzz.findings import Log, read_seeds
from eval.reliability.fuzz.mutate import mutate
from eval.reliability.fuzz.seeds import Seed, make_seeds
from eval.reliability.fuzz.target import ITK_SUFFIXES, Finding, Reader, declared_limits

CORPUS_SIZE = 400
# MetaImage and NRRD cost a round trip to ITK's process each, and are not what the challenge sends: one in so many.
ITK_EVERY = 25
INPUT_FOLDER = "input"


def random_search(reader: Reader, log: Log, executions: int, seed: int, seeds: list[Seed]) -> None:
    """Mutations of seeds, and of mutations that were accepted: no coverage, no other package."""
    rng = Random(seed)
    read_seeds(reader, seeds)
    corpus = [one for one in seeds if one.suffix not in ITK_SUFFIXES]
    itk_corpus = [one for one in seeds if one.suffix in ITK_SUFFIXES]
    while reader.executions < executions:
        pool = itk_corpus if itk_corpus and reader.executions % ITK_EVERY == 0 else corpus
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


def _search(reader: Reader, args: argparse.Namespace) -> None:
    log = Log(args.folder, reader)
    if args.engine == "atheris":
        from eval.reliability.fuzz.coverage import coverage_search

        with tempfile.TemporaryDirectory() as corpus:
            coverage_search(reader, log, args.executions, args.seed, Path(corpus))
    else:
        seeds = make_dicom_seeds() if args.engine == "dicom" else make_seeds()
        random_search(reader, log, args.executions, args.seed, seeds)


def main(argv: list[str] | None = None) -> int:
    """Entry of the worker process; see `run` for the options' meaning."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--executions", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--engine", choices=("random", "atheris", "dicom"), required=True)
    args = parser.parse_args(argv)
    logging.disable(logging.CRITICAL)
    scratch = args.folder / INPUT_FOLDER
    scratch.mkdir(exist_ok=True)
    with declared_limits():
        _search(Reader(scratch), args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
