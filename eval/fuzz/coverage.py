"""Search guided by coverage with Atheris (libFuzzer): a mutation that reaches new code becomes a parent itself.

Needs the package `atheris`, which has wheels for Linux on x86-64 only; `random_search` needs nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

from eval.fuzz.mutate import MAX_BYTES, mutate
from eval.fuzz.seeds import SUFFIXES, make_seeds
from eval.fuzz.target import Finding, Reader
from eval.fuzz.worker import Log, read_seeds

_PRODUCT = ("gfscreen.volume", "nibabel.nifti1", "nibabel.nifti2", "nibabel.quaternions", "nibabel.volumeutils")


def coverage_search(reader: Reader, log: Log, executions: int, seed: int, corpus: Path) -> None:
    """Run libFuzzer for `executions` files. It ends the process itself, so the log is written as it goes."""
    import atheris

    _instrument(atheris)
    seeds = make_seeds()
    read_seeds(reader, seeds)
    # The first byte of an entry names the suffix, so that libFuzzer may change it as well.
    for number, one in enumerate(seeds):
        (corpus / f"{number:03d}").write_bytes(bytes([SUFFIXES.index(one.suffix)]) + one.data)

    def one_input(entry: bytes) -> None:
        if not entry:
            return
        suffix = SUFFIXES[entry[0] % len(SUFFIXES)]
        try:
            reader.execute(entry[1:], suffix)
        except Finding as error:
            log.add(error, entry[1:], suffix)
        if reader.executions % 500 == 0 or reader.executions >= executions:
            log.write()

    def custom(entry: bytes, maximum: int, number: int) -> bytes:
        rng = Random(number)
        if not entry or rng.random() < 0.1:
            return bytes(atheris.Mutate(entry, maximum))
        return (entry[:1] + mutate(entry[1:], rng, rng.choice(seeds).data))[:maximum]

    options = [f"-runs={executions}", f"-seed={seed + 1}", f"-max_len={MAX_BYTES}", "-timeout=60", "-rss_limit_mb=0"]
    atheris.Setup(
        [sys.argv[0], *options, "-verbosity=0", "-print_final_stats=1", str(corpus)], one_input, custom_mutator=custom
    )
    atheris.Fuzz()


def _instrument(atheris: object) -> None:
    """Have the reader report its branches: its functions are rewritten in place."""
    import types

    instrument = atheris.instrument_func  # type: ignore[attr-defined]
    for name, module in list(sys.modules.items()):
        if name.startswith(_PRODUCT):
            for key, value in list(vars(module).items()):
                if isinstance(value, types.FunctionType) and value.__module__ == name:
                    value.__code__ = instrument(value).__code__
                    setattr(module, key, value)
