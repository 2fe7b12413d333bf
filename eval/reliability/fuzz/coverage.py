"""Search guided by coverage with Atheris (libFuzzer): a mutation that reaches new code becomes a parent itself.

NIfTI only, whose reader is Python that can report its coverage; ITK's files are left to `random_search`. Needs the
package `atheris`, which has wheels for Linux on x86-64 only; `random_search` needs nothing.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from random import Random

from eval.reliability.fuzz.findings import Log, read_seeds
from eval.reliability.fuzz.mutate import MAX_BYTES, mutate
from eval.reliability.fuzz.seeds import make_seeds
from eval.reliability.fuzz.target import ITK_SUFFIXES, Finding, Reader

_PRODUCT = ("gfscreen.scan.volume", "nibabel.nifti1", "nibabel.nifti2", "nibabel.quaternions", "nibabel.volumeutils")


def coverage_search(reader: Reader, log: Log, executions: int, seed: int, corpus: Path) -> None:
    """Run libFuzzer for `executions` files. It ends the process itself, so the log is written as it goes."""
    import atheris

    _instrument(atheris)
    seeds = [one for one in make_seeds() if one.suffix not in ITK_SUFFIXES]
    read_seeds(reader, seeds)
    for number, one in enumerate(seeds):
        (corpus / f"{number:03d}").write_bytes(one.data)

    # Tracing itself leaks: 0.75 kB an execution with the reader's functions rewritten and no fuzzer at all, 0.02 kB
    # without. What one file takes is still watched; growth over a run is left to `random_search`.
    reader.growth_is_own = False

    def one_input(entry: bytes) -> None:
        # The reader goes by content, not by name.
        try:
            reader.execute(entry, ".nii.gz")
        except Finding as error:
            log.add(error, entry, ".nii.gz")
        if reader.executions % 500 == 0 or reader.executions >= executions:
            log.write()

    def custom(entry: bytes, maximum: int, number: int) -> bytes:
        rng = Random(number)
        if not entry or rng.random() < 0.1:
            return bytes(atheris.Mutate(entry, maximum))
        return mutate(entry, rng, rng.choice(seeds).data)[:maximum]

    options = [f"-runs={executions}", f"-seed={seed + 1}", f"-max_len={MAX_BYTES}", "-timeout=60", "-rss_limit_mb=0"]
    atheris.Setup(
        [sys.argv[0], *options, "-verbosity=0", "-print_final_stats=1", str(corpus)], one_input, custom_mutator=custom
    )
    atheris.Fuzz()


def _instrument(atheris: object) -> None:
    """Have the reader report its branches: its functions are rewritten in place."""
    instrument = atheris.instrument_func  # type: ignore[attr-defined]
    for name, module in list(sys.modules.items()):
        if name.startswith(_PRODUCT):
            for key, value in list(vars(module).items()):
                if isinstance(value, types.FunctionType) and value.__module__ == name:
                    value.__code__ = instrument(value).__code__
                    setattr(module, key, value)
