"""What the machine does to a run: disk full, folder gone, memory short, GPU failing, clock set, leftovers, damage."""

from __future__ import annotations

import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import gfscreen.scan.volume.files
from eval.reliability.faults.place import LARGE_SHAPE, Place
from eval.reliability.faults.result import Result
from eval.reliability.threshold_engine import write_threshold_weights
from eval.reliability.torture.patient import paint
from eval.reliability.torture.run import screen_folder
from eval.reliability.torture.store import plain_affine, save
from gfscreen.files import write_atomically

# A case has some tens of batches: somewhere in the third one.
MIDDLE_BATCH = 90
GPU_ERRORS = (
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: unspecified launch failure",
    "CUDA out of memory. Tried to allocate 2.00 GiB",
)


def _after(place: Place, code: int, expected: int, said: str, problems: list[str]) -> list[str]:
    """Complaints unless the run ended with `expected` and one line says `said`."""
    found = list(problems)
    lines = place.said()
    if code != expected:
        found.append(f"exit code {code}, expected {expected}: {lines[-1:]}")
    if not any(said in line for line in lines):
        found.append(f"nothing says {said!r}: {lines[-2:]}")
    return found


def full_disk(place: Place) -> Result:
    """The output folder is a file system of 12 KB. Needs the right to mount one."""
    result = Result("disk full", 1)
    place.fresh()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12k", "tmpfs", str(place.outputs)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        result.not_run = f"no small file system can be mounted here ({done.stderr.strip()})"
        return result
    try:
        code = place.run()
        result.note(0, _after(place, code, 1, "No space left on device", place.problems()))
        result.detail = f"{len(list(place.outputs.iterdir()))} masks fitted"
    finally:
        subprocess.run(["umount", str(place.outputs)], check=True)
    result.note(0, place.resume())
    return result


def file_too_large(place: Place) -> Result:
    """No mask may grow beyond 300 bytes, as by a quota."""
    result = Result("file size limited, as by a quota", 1)
    place.fresh()

    def limit() -> None:
        def limited(path: Path, data: bytes) -> None:
            before = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
            try:
                write_atomically(path, data)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)

        setattr(gfscreen.scan.volume.files, "write_atomically", limited)  # noqa: B010 - for mypy

    code = place.run(prepare=limit)
    result.note(0, [*_after(place, code, 1, "File too large", place.problems()), *place.resume()])
    return result


def _once(number: int, act: Callable[[], None]) -> Callable[[int], None]:
    """Something that happens before one batch."""

    def before_each(batch: int) -> None:
        if batch == number:
            act()

    return before_each


def vanishing_folder(place: Place) -> Result:
    """The output folder is removed in the middle of a case: made again, the cases to come are written."""
    result = Result("output folder vanishing", 1)
    place.fresh()
    code = place.run(before_each=_once(MIDDLE_BATCH, lambda: shutil.rmtree(place.outputs)))
    result.note(0, [*_after(place, code, 0, "has vanished and is made again", place.problems()), *place.resume()])
    return result


def folder_becomes_a_file(place: Place) -> Result:
    """The output folder is replaced by a file: one error per case, and nothing breaks."""

    def replace() -> None:
        shutil.rmtree(place.outputs)
        place.outputs.write_bytes(b"")

    result = Result("output folder replaced by a file", 1)
    place.fresh()
    code = place.run(before_each=_once(MIDDLE_BATCH, replace))
    found = _after(place, code, 1, "cannot be", [])
    place.outputs.unlink()
    result.note(0, [*found, *place.resume()])
    return result


def short_memory(place: Place) -> Result:
    """One scan needs more address space than the process may use: it fails, the others are written."""
    result = Result("memory exhausted by one case", 1)
    place.fresh()
    affine = plain_affine((0.8, 0.8, 5.0), LARGE_SHAPE)
    large = place.inputs / "a-large_0000.nii.gz"
    save(large, paint(LARGE_SHAPE, affine)[0].astype(np.float64), affine)

    def limit() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        # Enough for the threads' stacks and the small scans, too little for the voxels of the large one.
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))

    try:
        code = place.run(prepare=limit)
        found = _after(place, code, 1, "a-large_0000.nii.gz: does not fit into memory", place.problems())
        if missing := len(place.reference) - len(list(place.outputs.iterdir())):
            found.append(f"{missing} of the small scans were lost as well")
    finally:
        large.unlink()
    result.note(0, [*found, *place.resume()])
    return result


def gpu_errors(place: Place) -> Result:
    """An error of the GPU in the middle of a case, as torch raises it: once, and from then on for good."""
    result = Result("GPU error in the middle (simulated)", 2 * len(GPU_ERRORS))
    attempt = 0
    for message in GPU_ERRORS:
        for for_good in (False, True):
            place.fresh()

            def fail(batch: int, message: str = message, for_good: bool = for_good) -> None:
                if batch == MIDDLE_BATCH or (for_good and batch > MIDDLE_BATCH):
                    raise RuntimeError(message)

            code = place.run(before_each=fail)
            found = _after(place, code, 1, message, place.problems())
            made = len(list(place.outputs.iterdir()))
            if not for_good and made != len(place.reference) - 1:
                found.append(f"{made} masks: more than the one case was lost")
            result.note(attempt, [*found, *place.resume()])
            attempt += 1
    return result


def last_resort(place: Place) -> Result:
    """The same with --empty-mask-on-failure: an empty mask for that case, exit code 1, and a restart screens it."""
    result = Result("GPU error, empty mask as a last resort", 1)
    place.fresh()

    def fail() -> None:
        raise RuntimeError(GPU_ERRORS[0])

    code = place.run("--empty-mask-on-failure", before_each=_once(MIDDLE_BATCH, fail))
    made = {path.name: path.read_bytes() for path in place.outputs.iterdir()}
    changed = [name for name in place.reference if made.get(name) != place.reference[name]]
    found = _after(place, code, 1, "an empty mask was written as a last resort", [])
    if sorted(made) != sorted(place.reference) or len(changed) != 1:
        found.append(f"masks {sorted(made)}, of which {changed} are not those of an undisturbed run")
    result.note(0, [*found, *place.resume()])
    return result


def clock_jumps(place: Place) -> Result:
    """The wall clock jumps by a day, forward and back, under a deadline: nobody's time is spent by it."""
    result = Result("clock jumping by a day", 2)
    for attempt, jump_s in enumerate((86400.0, -86400.0)):
        place.fresh()
        true_time = time.time

        def prepare(jump_s: float = jump_s) -> None:
            time.time = lambda: true_time() + jump_s  # noqa: B023 - the same function in every round

        code = place.run("--time-limit", "600", prepare=prepare)
        found = [line for line in place.said() if ": degraded" in line or "time ran out" in line]
        if code != 0:
            found.append(f"exit code {code}")
        result.note(attempt, [*found, *place.problems(), *place.resume()])
    return result


def leftovers(place: Place) -> Result:
    """What a killed run may have left is cleared away by the next, and nothing else is."""
    result = Result("leftovers of killed runs", 1)
    place.fresh()
    (place.outputs / ".gfscreen-ab12.tmp").write_bytes(b"half a mask")
    (place.outputs / ".gfscreen-probe-1.tmp").touch()
    code = place.run()
    result.note(0, [*([] if code == 0 else [f"exit code {code}"]), *place.problems(), *place.resume()])
    return result


def damaged_cache(place: Place) -> Result:
    """A changed byte in the compiled networks beside the weights, through the real command line: one clear error."""
    result = Result("damaged export of the networks", 1)
    place.fresh()
    weights = write_threshold_weights(place.root / "openvino-weights")
    damaged = weights / "openvino" / "focus.xml"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-20] + b" " * 20)
    report = place.root / "report.json"
    code, stderr = screen_folder(place.inputs, place.outputs, report, weights, place.scratch)
    found = place.problems() if code == 1 else [f"exit code {code}"]
    if "focus.xml: damaged" not in stderr or list(place.outputs.iterdir()):
        found.append(f"expected one error and no mask: {stderr.splitlines()[-1:]}")
    damaged.write_bytes(whole)
    code, stderr = screen_folder(place.inputs, place.outputs, report, weights, place.scratch)
    if code != 0 or len(list(place.outputs.iterdir())) != len(place.reference):
        found.append(f"restored, it ended with {code}: {stderr.splitlines()[-1:]}")
    result.note(0, found)
    place.fresh()
    return result


ALL: tuple[Callable[[Place], Result], ...] = (
    full_disk,
    file_too_large,
    vanishing_folder,
    folder_becomes_a_file,
    short_memory,
    gpu_errors,
    last_resort,
    clock_jumps,
    leftovers,
    damaged_cache,
)
