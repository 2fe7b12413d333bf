"""Choose the spans of `focus_int8`: which values Focus's convolutions at full resolution may see in whole numbers.

`python -m eval int8 --scans DIR --weights WEIGHTS -o OUT [--sub-volumes N] [--write]`

`DIR` holds scans as for predict; labels are not needed. They are screened in bf16, and N of the sub-volumes that Focus
reads are kept, as many of each scan. On one half a span is chosen for one convolution after another: from the lowest
input seen, or from 0 where that is no more than what a leaky rectifier lets through, to that share of the highest which
moves Focus's logits least where it is in doubt. On the other half is measured what all of them do together: the Dice of
the masks at the plan's `lesion_threshold` with and without, and the seconds of a read, one after the other.

Written: int8.json, and with --write the spans into the plan of the weights folder, if that Dice is at least 0.95. Asks
for a CPU that computes in bf16, since others do not use them.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.accuracy.metrics import dice
from gfscreen.config import Plan, read_plan
from gfscreen.errors import InputError, UsageError
from gfscreen.network_plan import Int8Input
from gfscreen.networks.engines.base import Engine, FloatArray
from gfscreen.networks.engines.int8 import FULL_RESOLUTION, convolution, to_int8
from gfscreen.networks.engines.openvino import FOCUS_MODEL, core
from gfscreen.networks.engines.select import find_export, load_engine
from gfscreen.networks.models.manifest import change_plan
from gfscreen.scan.volume import read_volume
from gfscreen.scan.volume.inputs import find_cases
from gfscreen.screening.budget import Budget
from gfscreen.screening.screening import screen

logger = logging.getLogger(__name__)

SHARES = (0.35, 0.5, 0.7, 1.0)
# A leaky rectifier lets a hundredth of what is negative through.
REST = 0.05
# Where Focus holds lesion for more likely than this, an answer matters.
DOUBT = 0.1
LEAST_DICE = 0.95
TIMED_READS = 10
LARGEST_LOGIT = 9.0


@dataclass(frozen=True)
class Effect:
    """What whole numbers do to reads that no span was chosen on. Dice of all masks together, and seconds of a read."""

    sub_volumes: int
    dice: float
    seconds_before: float
    seconds_after: float


class Recorder:
    """An engine that answers as another does, and keeps at random some sub-volumes (c, x, y, z) of what Focus reads."""

    def __init__(self, engine: Engine, count: int, rng: np.random.Generator) -> None:
        self._engine, self._count, self._rng, self._seen = engine, count, rng, 0
        self.info, self.glance_batch, self.focus_batch = engine.info, engine.glance_batch, engine.focus_batch
        self.glance, self.cells, self.peak_gpu_mb = engine.glance, engine.cells, engine.peak_gpu_mb
        self.release_glance, self.release = engine.release_glance, engine.release
        self.second_focus = engine.second_focus
        self.kept: list[FloatArray] = []

    def focus(self, batch: FloatArray) -> FloatArray:
        """The other engine's answer; reservoir sampling over all that it is asked."""
        for patch in batch:
            self._seen += 1
            place = len(self.kept) if len(self.kept) < self._count else int(self._rng.integers(self._seen))
            if place < self._count:
                # Without an axis of channels where there is one alone.
                self.kept[place : place + 1] = [np.array(patch, np.float32).reshape(-1, *patch.shape[-3:])]
        return self._engine.focus(batch)


def sub_volumes_of(scans: Path, plan: Plan, engine: Engine, count: int) -> list[FloatArray]:
    """Some `count` sub-volumes, as many of each scan as can be. Raises InputError if Focus reads fewer than two."""
    cases = find_cases(scans)
    per_scan = -(-count // max(len(cases), 1))
    kept: list[list[FloatArray]] = []
    for number, case in enumerate(cases):
        recorder = Recorder(engine, per_scan, np.random.default_rng(number))
        try:
            screen(read_volume(case.path), plan, recorder, Budget(None))
        except InputError as error:
            logger.warning("left out: %s", error)
            continue
        kept.append(recorder.kept)
        logger.info("%s: %d sub-volumes", case.name, len(recorder.kept))
    # One of each scan after the other: none fills a half alone.
    found = [own[turn] for turn in range(per_scan) for own in kept if turn < len(own)]
    if len(found) < 2:
        raise InputError(f"{scans}: Focus reads {len(found)} sub-volumes of these scans; name scans with lesions")
    return found[:count]


class Reader:
    """A Focus compiled in bf16, with these convolutions in whole numbers."""

    def __init__(self, export: Path, inputs: Sequence[Int8Input] = (), *, watch: Sequence[str] = ()) -> None:
        """watch: names of convolutions whose least and largest input are to be told."""
        model = core().read_model(export / FOCUS_MODEL)
        to_int8(model, inputs)
        if watch:
            _add_extremes(model, watch)
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16"}
        self._request = core().compile_model(model, "CPU", settings).create_infer_request()

    def __call__(self, patch: FloatArray) -> FloatArray:
        """Lesion probability (x, y, z) of a sub-volume (c, x, y, z)."""
        return np.array(self._request.infer([patch[None]])[0][0], np.float32)

    def extremes(self, patch: FloatArray) -> NDArray[np.float32]:
        """The least and the largest input of each watched convolution, (n, 2)."""
        _, *ends = self._request.infer([patch[None]]).values()
        return np.array([end.item() for end in ends], np.float32).reshape(-1, 2)


def _add_extremes(model: Any, names: Sequence[str]) -> None:
    from openvino import opset13 as ops

    wanted = []
    for name in names:
        given = convolution(model, name).input_value(0)
        axes = ops.constant(np.arange(len(given.get_partial_shape())))
        wanted += [ops.reduce_min(given, axes).output(0), ops.reduce_max(given, axes).output(0)]
    model.add_outputs(wanted)


def span(low: float, high: float, share: float, name: str) -> Int8Input:
    """From the lowest input seen, or from 0 where it is as good as that, to a share of the highest."""
    return Int8Input(name, 0.0 if low > -REST * high else round(low, 3), round(share * high, 3))


def shift(reader: Reader, patches: Sequence[FloatArray], aims: Sequence[FloatArray]) -> float:
    """By how much logits differ from those aimed at, in the mean over all voxels where these are in doubt."""
    differences = [
        np.abs(_logit(reader(patch)) - _logit(aim))[aim > DOUBT] for patch, aim in zip(patches, aims, strict=True)
    ]
    every = np.concatenate(differences)
    return float(every.mean()) if every.size else 0.0


def _logit(probability: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore"):
        logit: FloatArray = np.log(probability) - np.log1p(-probability)
    return logit.clip(-LARGEST_LOGIT, LARGEST_LOGIT)


def choose(export: Path, patches: Sequence[FloatArray]) -> tuple[list[Int8Input], list[dict[str, Any]]]:
    """A span for each convolution at full resolution, and what was tried."""
    watching = Reader(export, watch=FULL_RESOLUTION)
    found = np.stack([watching.extremes(patch) for patch in patches])
    lows, highs = found[..., 0].min(axis=0), found[..., 1].max(axis=0)
    plain = Reader(export)
    aims = [plain(patch) for patch in patches]
    chosen, tried = [], []
    for name, low, high in zip(FULL_RESOLUTION, lows, highs, strict=True):
        spans = [span(float(low), float(high), share, name) for share in SHARES]
        shifts = [shift(Reader(export, [given]), patches, aims) for given in spans]
        chosen.append(spans[int(np.argmin(shifts))])
        for given, moved in zip(spans, shifts, strict=True):
            tried.append({**asdict(given), "logit_shift": moved})
            logger.info("%s from %g to %g: logits move by %.4f", name, given.low, given.high, moved)
    return chosen, tried


def effect_of(export: Path, inputs: Sequence[Int8Input], patches: Sequence[FloatArray], threshold: float) -> Effect:
    """What these spans do to reads, and how much faster they are; both networks read each sub-volume in turn."""
    readers = Reader(export), Reader(export, inputs)
    seconds: tuple[list[float], list[float]] = ([], [])
    masks: tuple[list[NDArray[np.bool_]], list[NDArray[np.bool_]]] = ([], [])
    for reader in readers:
        reader(patches[0])
    for patch in patches:
        for reader, own, marked in zip(readers, seconds, masks, strict=True):
            start = time.perf_counter()
            answer = reader(patch)
            own.append(time.perf_counter() - start)
            marked.append(answer > threshold)
    before, after = (np.stack(marked) for marked in masks)
    return Effect(len(patches), dice(before, after), *(float(np.median(own)) for own in seconds))


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval int8`."""
    parser.add_argument("--scans", type=Path, required=True, help="folder of scans, as for predict")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--sub-volumes", type=int, default=48, metavar="N", help="how many to keep (default: 48)")
    parser.add_argument("--write", action="store_true", help="write the spans into the plan of the weights")


def run(args: argparse.Namespace) -> int:
    """Choose and measure. Exit 0; 1 if masks change too much to write. Other errors are raised."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    plan = read_plan(args.weights)
    if plan.nnunet is not None:
        raise UsageError(f"{args.weights}: its Focus is nnU-Net's, which stays as it is; name weights with another")
    if args.sub_volumes < 2:
        raise UsageError(f"--sub-volumes {args.sub_volumes}: one half chooses and the other measures; give 2 or more")
    engine = load_engine(args.weights, device="cpu", engine="openvino", precision="bf16", gpu_memory_limit_mb=None)
    patches = sub_volumes_of(args.scans, plan, engine, args.sub_volumes)
    export = find_export(args.weights)
    chosen, tried = choose(export, patches[0::2])
    effect = effect_of(export, chosen, patches[1::2], plan.lesion_threshold)
    result = {"chosen": [asdict(given) for given in chosen], "tried": tried, "effect": asdict(effect)}
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "int8.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    logger.info(
        "Dice with and without %.4f, a read %.3f s instead of %.3f",
        effect.dice, effect.seconds_after, effect.seconds_before,
    )  # fmt: skip
    if not args.write:
        return 0
    if effect.dice < LEAST_DICE:
        logger.error(
            "int8: %s: not written, masks change too much: Dice %.4f, at least %.2f is asked for; "
            "try more scans and --sub-volumes, or leave these weights in bf16",
            args.weights, effect.dice, LEAST_DICE,
        )  # fmt: skip
        return 1
    change_plan(args.weights, focus_int8=tuple(chosen))
    logger.info("%s: written; its export is made anew when it is next needed", args.weights)
    return 0
