"""One scan's files made into its swept lesions and findings; whatever is wrong with them becomes one line."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eval.accuracy.froc.curve import SweptScan
from eval.accuracy.froc.matching import overlaps, sweep
from eval.accuracy.froc.sources import (
    PEAK,
    SUSPICION,
    ScoreError,
    Statistics,
    checked_suspicion,
    scores_from_map,
    scores_from_statistics,
)
from eval.accuracy.masks import Mask, MaskError, geometry_problem, read_mask
from gfscreen.errors import GFScreenError
from gfscreen.results.statistics.parts import instance_map
from gfscreen.scan.volume import Geometry
from gfscreen.scan.volume.inputs import case_name

logger = logging.getLogger(__name__)

LESION = 1
IGNORE_VALUES = (2,)


@dataclass(frozen=True)
class Sources:
    """Where predictions and scores are: masks, and for the score `key` statistics or, for PEAK, maps.

    suspicions: of the product's report, where the statistics have none. ignore_values: of the labels.
    """

    masks: Path
    key: str
    statistics: Statistics | None = None
    probabilities: Path | None = None
    suspicions: Mapping[str, Any] = field(default_factory=dict)
    ignore_values: tuple[int, ...] = IGNORE_VALUES


@dataclass(frozen=True)
class FrocCase:
    """A case by the name of its files. scan: None where the label cannot be used: the case counts nowhere.

    suspicion: in [0, 1], None where none is known. error: one line, "" if all is well.
    """

    name: str
    scan: SweptScan | None
    suspicion: float | None = None
    error: str = ""


def read_case(truth: Path, sources: Sources) -> FrocCase:
    """Read one case. Its lesions count as missed if label and prediction do not go together."""
    try:
        label = _whole(read_mask(truth), truth.name)
        _check_values(label, truth.name, (LESION, *sources.ignore_values), "list it in --ignore-values")
    except (MaskError, ScoreError) as error:
        return FrocCase(truth.name, None, error=f"ground truth {error}")
    except Exception as error:  # one broken case must not stop the rest
        logger.debug("%s failed", truth, exc_info=True)
        return FrocCase(truth.name, None, error=f"ground truth {truth.name}: {type(error).__name__}: {error}")
    try:
        return _read_prediction(truth.name, label, sources)
    except (MaskError, ScoreError, GFScreenError) as error:
        problem = str(error)
    except Exception as error:  # the same
        logger.debug("%s failed", truth, exc_info=True)
        problem = f"{truth.name}: {type(error).__name__}: {error}"
    return FrocCase(truth.name, _missed(label), error=problem)


def _missed(label: Mask) -> SweptScan:
    """A scan of which nothing was found because there is no usable prediction."""
    lesion = label.voxels == LESION
    nothing = np.zeros(lesion.shape, np.uint16)
    lesions, _ = sweep(overlaps(lesion, np.zeros_like(lesion), nothing), [], label.voxel_ml)
    return SweptScan(tuple(lesions), (), answered=False)


def _read_prediction(name: str, label: Mask, sources: Sources) -> FrocCase:
    path = sources.masks / name
    if not path.is_file():
        raise MaskError(f"{path}: no prediction of this name; its lesions count as missed")
    mask = _whole(read_mask(path, spacing_used=False), str(path))
    _check_values(mask, str(path), (1,), "give masks of 0 and 1, not instance maps")
    problem = geometry_problem(label, mask, str(path))
    if problem is not None:
        raise MaskError(problem)
    x, y, z = mask.voxels.shape
    findings = instance_map(mask.voxels, Geometry((x, y, z), label.affine), path)
    ignored = np.zeros(label.voxels.shape, np.bool_, order="F")
    for value in sources.ignore_values:
        ignored |= label.voxels == value
    found = overlaps(label.voxels == LESION, ignored, findings)
    case = case_name(Path(name))
    if sources.key == PEAK:
        assert sources.probabilities is not None
        scores = scores_from_map(sources.probabilities / name, label, findings)
    else:
        assert sources.statistics is not None
        scores = scores_from_statistics(sources.statistics, case, sources.key, found.finding_voxels)
    lesions, swept = sweep(found, scores, label.voxel_ml)
    measured = {} if sources.statistics is None else sources.statistics.cases.get(case, {})
    said = measured.get(SUSPICION)
    suspicion = checked_suspicion(sources.suspicions.get(case) if said is None else said, name)
    return FrocCase(name, SweptScan(tuple(lesions), tuple(swept)), suspicion)


def _whole(mask: Mask, file: str) -> Mask:
    """The mask, if it holds whole numbers from 0 to 255 only. Raises ScoreError."""
    if mask.change is not None:
        raise ScoreError(f"{file}: expected whole numbers from 0 to 255, got {mask.change.value:g}; store uint8 labels")
    return mask


def _check_values(mask: Mask, file: str, allowed: tuple[int, ...], remedy: str) -> None:
    """Raise ScoreError for a value that is neither 0 nor allowed."""
    unknown = np.ones(mask.voxels.shape, np.bool_, order="F")
    for value in (0, *allowed):
        unknown &= mask.voxels != value
    if unknown.any():
        expected = ", ".join(str(v) for v in (0, *allowed))
        raise ScoreError(f"{file}: expected the values {expected}, got {mask.voxels[unknown].min()}; {remedy}")
