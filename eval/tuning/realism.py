"""How well inserted lesions can be told from real ones: a discriminator on what they look like, with its AUC.

`python -m eval realism --data LIST.json --cache DIR -o OUT.json`

The lesions of the annotated scans of the list's training side that lie in soft tissue, against as many inserted ones in
the same scans, kind by kind: `soft` (painted) and `copied`. Each is described by 13 measures of its border, grain and
texture against what surrounds it, all of them ratios or differences, none of its place or size, so that scan and
shape do not tell. A logistic regression on the measures and their squares is fitted to four fifths of the lesions and
asked about the others, in turn. An AUC of 0.5 is a lesion that cannot be told; a network may still see what no measure
here does. Masses and nodules in lung are left out: there are too few real ones in whole scans to tell anything.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from eval.accuracy.froc.case_level import auc
from eval.accuracy.statistics import auc_of
from gfscreen.config import Plan, preset_plan
from gfscreen.errors import UsageError
from gfscreen.files import write_atomically
from gfscreen.training.cells.head import fit
from gfscreen.training.data.cache import Scan, load_scans
from gfscreen.training.data.lists import DataList, read_list
from gfscreen.training.data.places import cut, spread_points, start_around
from gfscreen.training.data.sampling import lesions_to_copy, load_lesions
from gfscreen.training.synthesis.copied_lesions import VOLUME_ML, insert_copy, labelled_lesions
from gfscreen.training.synthesis.insertion import Box, Crop, insert_soft_lesion, signed_distance_mm
from gfscreen.training.synthesis.lesion_bank import BoolArray, sample_shape
from gfscreen.training.synthesis.tissue import SOFT

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]
Insert = Callable[[np.random.Generator, Crop], Box | None]

SEED = 20_261
FOLDS = 5
PENALTY = 0.05
TRIES = 40
CROP_VOXELS = (96, 96, 48)
SOFT_HU = (-50, 250)
SHELLS_MM = (-5.0, -3.0, -1.5, 0.0, 1.5, 3.0, 5.0)
AROUND_MM = (3.0, 8.0)
GRAIN_MM, TEXTURE_MM = 1.2, 4.0
MEASURES = (
    *(f"profile from {a:g} to {b:g} mm" for a, b in pairwise(SHELLS_MM)),
    "spread at the border", "grain", "grain's correlation along x", "grain's correlation along z", "texture",
    "core", "contrast",
)  # fmt: skip


def measures(hu: NDArray[np.int16], mask: BoolArray, grid_mm: tuple[float, ...]) -> FloatArray | None:
    """MEASURES of the lesion `mask` in `hu` (x, y, z), float64; None where too little soft tissue surrounds it.

    A profile is the mean HU of a shell about the border, 1 as in the lesion, 0 as around it; spread, grain and texture
    are standard deviations, inside over outside or over the contrast, as logarithms; the contrast is in units of 40 HU.
    """
    values = hu.astype(np.float64)
    distance = signed_distance_mm(mask, grid_mm)
    soft = (hu > SOFT_HU[0]) & (hu < SOFT_HU[1])
    around = (distance > AROUND_MM[0]) & (distance < AROUND_MM[1]) & soft
    deep = mask & (distance < -1.0)
    if around.sum() < 100 or deep.sum() < 20:
        return None
    level, outside = float(np.median(values[mask])), float(np.median(values[around]))
    contrast = level - outside
    if abs(contrast) < 1.0:
        return None
    shells = [(distance >= a) & (distance < b) & soft for a, b in pairwise(SHELLS_MM)]
    profile = [float((values[s].mean() - outside) / contrast) if s.any() else 1.0 for s in shells]
    coarse = ndimage.gaussian_filter(values, [GRAIN_MM / g for g in grid_mm])
    grain, texture = values - coarse, coarse - ndimage.gaussian_filter(values, [TEXTURE_MM / g for g in grid_mm])

    def ratio(field: FloatArray) -> float:
        return float(np.log(max(field[deep].std(), 0.1) / max(field[around].std(), 0.1)))

    def correlation(axis: int) -> float:
        """Of neighbours' grain along an axis, inside less outside."""
        moved = np.roll(grain, 1, axis)
        inner, outer = (float((grain[m] * moved[m]).mean() / max(float(grain[m].var()), 0.01)) for m in (deep, around))
        return inner - outer

    border = (np.abs(distance) < 1.5) & soft
    core = mask & (distance < 0.6 * float(distance.min()))
    rim = mask & ~core
    darker = float(np.median(values[core]) - np.median(values[rim])) / contrast if rim.any() else 0.0
    return np.array([
        *profile, float(np.log(max(values[border].std(), 0.1) / abs(contrast))) if border.any() else 0.0, ratio(grain),
        correlation(0), correlation(2), ratio(texture), darker, abs(contrast) / 40.0,
    ])  # fmt: skip


def own_lesions(scan: Scan, plan: Plan) -> list[FloatArray]:
    """Measures of each annotated lesion of a scan in soft tissue, by its part of the label."""
    found = []
    for _, part, mask, _ in labelled_lesions(scan.label, plan.spacing_mm, AROUND_MM[1]):
        # Other lesions beside it are not its surroundings.
        hu = np.where((scan.label[part] == 1) & ~mask, SOFT_HU[1], scan.hu[part]).astype(np.int16)
        values = measures(hu, mask, plan.spacing_mm)
        if values is not None:
            found.append(values)
    return found


def inserted_lesions(rng: np.random.Generator, scan: Scan, plan: Plan, count: int, insert: Insert) -> list[FloatArray]:
    """Measures of `count` lesions inserted one by one into copies of pieces of a scan; fewer if no place is found."""
    points = spread_points((scan.tissue == SOFT) & (scan.label != 1))
    voxel_ml = float(np.prod(plan.spacing_mm)) / 1000.0
    found: list[FloatArray] = []
    for _ in range(TRIES * count if len(points) else 0):
        if len(found) == count:
            break
        start = start_around(rng, points[int(rng.integers(len(points)))], CROP_VOXELS, jitter=0.1)
        crop = cut(scan, start, CROP_VOXELS, plan)
        before = crop.label == 1
        if insert(rng, crop) is None:
            continue
        mask = (crop.label == 1) & ~before
        if mask.sum() * voxel_ml < VOLUME_ML[0]:
            continue
        crop.hu[before] = SOFT_HU[1]
        values = measures(crop.hu, mask, plan.spacing_mm)
        if values is not None:
            found.append(values)
    return found


def discriminate(real: Sequence[FloatArray], inserted: Sequence[FloatArray], seed: int = SEED) -> dict[str, Any]:
    """AUC by which lesions are told that the regression has not seen, real above inserted, with its interval.

    Also the AUC of each measure by itself, from 0.5 on, whichever way it tells.
    """
    x = np.stack([*real, *inserted])
    is_real = np.arange(len(x)) < len(real)
    both = np.concatenate([x, x**2], axis=1)
    rng, scores = np.random.default_rng(seed), np.zeros(len(x))
    fold = np.zeros(len(x), np.int64)
    for side in (is_real, ~is_real):
        fold[side] = rng.permutation(int(side.sum())) % FOLDS
    for held in range(FOLDS):
        known = fold != held
        model = fit(both[known].astype(np.float16), is_real[known], np.ones(int(known.sum()), np.float32), PENALTY)
        scores[~known] = model.logits(both[~known].astype(np.float32))
    alone = {}
    for name, column in zip(MEASURES, x.T, strict=True):
        value = auc_of(column, is_real)
        assert value is not None
        alone[name] = max(value, 1.0 - value)
    return {"discriminator": auc(scores.tolist(), is_real.tolist(), seed), "measures": alone}


def evaluate(data: DataList, cache: Path, plan: Plan) -> dict[str, Any]:
    """The discriminator's answer for each kind. Raises UsageError where the list has too few real lesions."""
    scans = [s for s in load_scans(data.training, data, plan, cache) if len(s.lesions) and not s.phantom]
    _, shapes = load_lesions(data, dev=False)
    bank = lesions_to_copy(scans, plan)
    own = {s.name: own_lesions(s, plan) for s in scans}
    real = [values for found in own.values() for values in found]
    if len(real) < 2 * FOLDS or not bank or not shapes:
        raise UsageError(
            f"{data.name}: {len(real)} real lesions in soft tissue, {len(bank)} to copy, {len(shapes)} shapes: too few "
            f"to tell; name a list with at least {2 * FOLDS}, and with shapes"
        )

    def paint(rng: np.random.Generator, crop: Crop) -> Box | None:
        return insert_soft_lesion(rng, crop, sample_shape(rng, shapes[int(rng.integers(len(shapes)))], plan.spacing_mm))

    def copy(rng: np.random.Generator, crop: Crop) -> Box | None:
        return insert_copy(rng, crop, bank[int(rng.integers(len(bank)))])

    result: dict[str, Any] = {"seed": SEED, "real": {name: len(found) for name, found in own.items() if found}}
    for kind, insert in (("soft", paint), ("copied", copy)):
        rng = np.random.default_rng(SEED)
        inserted = [v for s in scans for v in inserted_lesions(rng, s, plan, len(own[s.name]), insert)]
        logger.info("%s: %d inserted, %d real", kind, len(inserted), len(real))
        result[kind] = discriminate(real, inserted)
    return result


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval realism`."""
    parser.add_argument("--data", type=Path, required=True, help="data list whose training side has annotated scans")
    parser.add_argument("--cache", type=Path, required=True, help="folder of prepared scans")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.json")


def run(args: argparse.Namespace) -> int:
    """Tell real from inserted lesions. Exit 0; errors are raised for the caller."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    result = evaluate(read_list(args.data), args.cache, preset_plan("fast"))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(args.output, (json.dumps(result, indent=1) + "\n").encode())
    for kind in ("soft", "copied"):
        found = result[kind]["discriminator"]
        logger.info("%s: AUC %.2f [%.2f, %.2f]", kind, found["value"], found["low"], found["high"])
    return 0
