"""What each thing that saves time does to the masks of whole scans: Dice of before and after, and both with the label.

`python -m eval optimisations --cases DIR --weights WEIGHTS -o OUT`

`DIR` is as for `eval gates`. Every scan is screened in process, without deadline, as shipped and with one thing undone:

- `openvino`: OpenVINO in fp32 instead of torch in fp32;
- `bf16`: OpenVINO in bf16, where the CPU computes in it, instead of fp32;
- `int8`: with the convolutions in whole numbers that the weights name for it (`focus_int8`) instead of without;
- `windows by body`: sub-volumes that follow the body instead of filling its box;
- `gate`: what Glance finds suspicious instead of every sub-volume;
- `restore in boxes`: probabilities brought back around the lesions only instead of everywhere.

Written: optimisations.json. Exit 0 whatever is found: the figures are for the reader to judge.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.accuracy.masks import read_mask
from eval.accuracy.metrics import dice
from eval.tuning.gate_runs import GateCase, find_gate_cases
from gfscreen.config import Plan, read_plan
from gfscreen.networks.engines.base import Engine
from gfscreen.networks.engines.select import load_engine
from gfscreen.scan.grid import restore_box
from gfscreen.scan.volume import Volume, read_volume
from gfscreen.scan.volume.ras import ras_view
from gfscreen.screening.budget import Budget
from gfscreen.screening.findings import drop_unlikely_parts
from gfscreen.screening.network_outputs import NetworkOutputs
from gfscreen.screening.screening import Prepared, prepare, screen
from gfscreen.screening.settings import ScreeningSettings
from gfscreen.screening.windows import plan_windows

logger = logging.getLogger(__name__)

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Change:
    """One optimisation on one scan: Dice of the masks before and after it, and the DSC of each with the label."""

    name: str
    case: str
    dice: float
    dsc_before: float
    dsc_after: float


@dataclass(frozen=True)
class Engines:
    """The shipped engine, and those that it replaced. half: in bf16; the shipped one where that is all it does."""

    shipped: Engine
    half: Engine
    fp32: Engine
    torch: Engine


def box_windows(prepared: Prepared, plan: Plan) -> Prepared:
    """The same scan with sub-volumes that fill its box, body or not: the published rule."""
    windows = plan_windows(prepared.scan, replace(plan, foreground="hu_floor"), plan.overlap)
    return replace(prepared, windows=windows)


def restore_everywhere(outputs: NetworkOutputs, volume: Volume, plan: Plan) -> Mask:
    """Mask (i, j, k) of the probabilities, brought back to the whole scan as one box; unlikely parts are dropped."""
    mask = np.zeros(volume.hu.shape, np.uint8, order="F")
    x, y, z = outputs.grid.shape
    probability, view = outputs.focus_probability, ras_view(mask, volume)
    restore_box(probability, ((0, x), (0, y), (0, z)), outputs.grid, view, plan.lesion_threshold)
    drop_unlikely_parts(mask, probability, outputs.grid, volume, plan)
    return mask > 0


def changes(case: GateCase, plan: Plan, engines: Engines) -> Iterator[Change]:
    """Every optimisation on one scan."""
    truth = read_mask(case.label).voxels > 0
    volume = read_volume(case.image)
    prepared = prepare(volume, plan, ScreeningSettings(), Budget(None))

    def masked(engine: Engine, given: Prepared = prepared, gate: float | None = None) -> Mask:
        return screen(volume, plan, engine, Budget(None), ScreeningSettings(gate=gate), prepared=given).mask > 0

    result = screen(volume, plan, engines.shipped, Budget(None), prepared=prepared, keep_outputs=True)
    assert result.network_outputs is not None
    fp32, shipped = masked(engines.fp32), result.mask > 0
    half = shipped if engines.half is engines.shipped else masked(engines.half)
    pairs = {
        "openvino": (masked(engines.torch), fp32),
        "bf16": (fp32, half),
        "int8": (half, shipped),
        "windows by body": (masked(engines.shipped, box_windows(prepared, plan)), shipped),
        "gate": (masked(engines.shipped, gate=0.0), shipped),
        "restore in boxes": (restore_everywhere(result.network_outputs, volume, plan), shipped),
    }
    for name, (before, after) in pairs.items():
        yield Change(name, case.name, dice(before, after), dice(before, truth), dice(after, truth))


def summarise(found: Sequence[Change]) -> dict[str, dict[str, float]]:
    """By optimisation: mean and lowest Dice, and the mean DSC before and after."""
    names = list(dict.fromkeys(change.name for change in found))
    own = {name: [change for change in found if change.name == name] for name in names}
    return {
        name: {
            "cases": len(group),
            "dice_mean": float(np.mean([change.dice for change in group])),
            "dice_lowest": min(change.dice for change in group),
            "dsc_before": float(np.mean([change.dsc_before for change in group])),
            "dsc_after": float(np.mean([change.dsc_after for change in group])),
        }
        for name, group in own.items()
    }


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval optimisations`."""
    parser.add_argument("--cases", type=Path, required=True, help="folder with images/ and labels/")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="only the first N cases")


def run(args: argparse.Namespace) -> int:
    """Screen all cases in all ways. Exit 0; 2 on wrong usage. Other errors are raised."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        cases = find_gate_cases(args.cases)[: args.limit]
    except ValueError as error:
        logger.error("optimisations: %s", error)
        return 2

    def load(engine: str, precision: str) -> Engine:
        return load_engine(args.weights, device="cpu", engine=engine, precision=precision, gpu_memory_limit_mb=None)

    plan = read_plan(args.weights)
    shipped = load("openvino", "auto")
    half = load("openvino", "bf16") if shipped.info.precision == "bf16+int8" else shipped
    engines = Engines(shipped, half, load("openvino", "fp32"), load("torch", "fp32"))
    found: list[Change] = []
    for case in cases:
        for change in changes(case, plan, engines):
            logger.info(
                "%s, %s: Dice %.4f, DSC %.4f -> %.4f",
                case.name, change.name, change.dice, change.dsc_before, change.dsc_after,
            )  # fmt: skip
            found.append(change)
    summary = summarise(found)
    result = {
        "engines": {name: asdict(getattr(engines, name).info) for name in ("shipped", "half", "fp32", "torch")},
        "optimisations": summary,
        "cases": [asdict(change) for change in found],
    }
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "optimisations.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name, row in summary.items():
        logger.info(
            "%s: Dice %.4f, lowest %.4f, DSC %.4f -> %.4f",
            name, row["dice_mean"], row["dice_lowest"], row["dsc_before"], row["dsc_after"],
        )  # fmt: skip
    return 0
