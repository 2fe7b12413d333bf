"""Where a finding's score comes from, and a case's suspicion: the product's statistics, report and probability maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from eval.accuracy.masks import Mask, grid_problem
from eval.files import read_json
from gfscreen.errors import UsageError
from gfscreen.results.statistics.documents import SCHEMA, SCHEMA_VERSION
from gfscreen.scan.volume.gunzip import READ_ERRORS
from gfscreen.scan.volume.inputs import case_name

# The score of a finding where statistics are given: the mean of Focus inside it.
STATISTICS_KEY = "focus_probability"
# The score where maps are given: the highest probability of Focus inside it.
PEAK = "focus_peak"
SUSPICION = "suspicion"
# A step of a map is 1/255, written as float32.
_ROUNDING = 1e-6
# Decimals of a score, as of probabilities in the statistics; so a curve has not more steps than it has digits.
SCORE_DECIMALS = 4


class ScoreError(Exception):
    """The scores of one case cannot be used; the message names file, rule, value and remedy."""


@dataclass(frozen=True)
class Statistics:
    """Cases of the product's statistics by name, without suffix and `_0000`; `sources`: the file of each."""

    cases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)


def read_statistics(path: Path) -> Statistics:
    """Read a statistics JSON, or all that a folder holds; other JSON in the folder, as a report, is passed over.

    Raises:
        UsageError: no statistics there, not readable, of another schema version, or a case comes twice.

    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    cases: dict[str, Mapping[str, Any]] = {}
    sources: dict[str, str] = {}
    for file in files:
        document = read_json(file)
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            if path.is_dir():
                continue
            raise UsageError(f"{file}: expected the schema {SCHEMA}; --stats takes what `predict --statistics` wrote")
        if document.get("schema_version") != SCHEMA_VERSION:
            raise UsageError(
                f"{file}: expected schema_version {SCHEMA_VERSION}, got {document.get('schema_version')!r}; "
                "measure again with this version"
            )
        for name, case in _entries(document, file):
            if name in cases:
                raise UsageError(f"{file}: case {name} comes twice, also in {sources[name]}; name one of them")
            cases[name], sources[name] = case, str(file)
    if not sources:
        raise UsageError(f"{path}: no statistics with a case; --stats takes what `predict --statistics` wrote")
    return Statistics(cases, sources)


def read_suspicions(path: Path) -> dict[str, Any]:
    """`suspicion` of the cases of the product's report, by name; cases without it are left out. Raises UsageError."""
    report = read_json(path)
    if not isinstance(report, dict):
        raise UsageError(f"{path}: expected an object with a list of cases; --report takes the product's report")
    return {name: case[SUSPICION] for name, case in _entries(report, path) if case.get(SUSPICION) is not None}


def _entries(document: Mapping[str, Any], file: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Name and entry of each case of a document."""
    cases = document.get("cases")
    if not isinstance(cases, list) or not all(isinstance(c, dict) and isinstance(c.get("name"), str) for c in cases):
        raise UsageError(f"{file}: expected a list of cases with a name each; write it again")
    return [(case_name(Path(case["name"])), case) for case in cases]


def checked_suspicion(value: Any, name: str) -> float | None:
    """A case's suspicion in [0, 1], None where there is none. Raises ScoreError for anything else."""
    if value is None:
        return None
    if not _is_number(value) or not 0 <= value <= 1:
        raise ScoreError(f"{name}: {SUSPICION} must be in [0, 1], got {value!r}; write it again")
    return float(value)


def scores_from_statistics(
    statistics: Statistics, name: str, key: str, voxels: Sequence[int] | NDArray[np.int64]
) -> NDArray[np.float64]:
    """The scores (f,) of a case's findings in the order of their numbers, by a key of the statistics' lesions.

    voxels: (f,), of the findings of the mask, which the statistics must have measured. Without a finding nothing is
    looked up. Raises ScoreError.
    """
    if not len(voxels):
        return np.empty(0, np.float64)
    case = statistics.cases.get(name)
    if case is None:
        raise ScoreError(
            f"{name}: no statistics of this case; measure it, or name the statistics of this run (--stats)"
        )
    source = statistics.sources[name]
    lesions = case.get("lesions")
    if not isinstance(lesions, list) or not all(isinstance(lesion, dict) for lesion in lesions):
        raise ScoreError(f"{source}: {name}: expected a list of lesions, got {lesions!r}; measure again")
    measured = {lesion.get("id"): lesion for lesion in lesions}
    sizes = {number: lesion.get("voxels") for number, lesion in measured.items()}
    expected = {number: int(n) for number, n in enumerate(voxels, start=1)}
    if sizes != expected or len(lesions) != len(expected):
        raise ScoreError(
            f"{source}: {name}: expected the mask's {len(expected)} findings with {sum(expected.values())} voxels, got "
            f"{len(lesions)} with {sum(n for n in sizes.values() if _is_number(n))}; name the statistics of this mask"
        )
    scores = [measured[number].get(key) for number in expected]
    for number, score in zip(expected, scores, strict=True):
        if not _is_number(score):
            raise ScoreError(
                f"{source}: {name}: finding {number} has no number as {key}, got {score!r}; name another key "
                "(--score), or give --probabilities"
            )
    return np.array([round(float(score), SCORE_DECIMALS) for score in scores], np.float64)


def scores_from_map(path: Path, truth: Mask, findings: NDArray[np.uint16]) -> NDArray[np.float64]:
    """The highest probability of each finding (f,), from a map on the mask's grid.

    findings: number of each voxel's finding (i, j, k), 0 outside. Without a finding the file is not opened. Raises
    ScoreError.
    """
    count = int(findings.max(initial=0))
    if count == 0:
        return np.empty(0, np.float64)
    if not path.is_file():
        raise ScoreError(f"{path}: no probability map of this case; write it with `predict --probabilities`")
    try:
        image = nib.load(path)
        problem = grid_problem(truth, tuple(image.shape), np.asarray(image.affine, np.float64), f"probabilities {path}")
        if problem is None:
            # As stored, one byte a voxel in the product's maps; only what the findings mark is scaled.
            stored = np.asanyarray(image.dataobj.get_unscaled())
            slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
    except (*READ_ERRORS, nib.filebasedimages.ImageFileError) as error:
        raise ScoreError(f"{path}: not a readable map ({type(error).__name__}: {error}); write it again") from error
    if problem is not None:
        raise ScoreError(problem)
    marked = findings > 0
    probability = stored[marked].astype(np.float64) * slope + intercept
    low, high = float(probability.min()), float(probability.max())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # also for NaN
        raise ScoreError(f"{path}: expected probabilities in [0, 1], got {low:g} to {high:g}; name Focus's maps")
    highest = np.zeros(count + 1, np.float64)
    np.maximum.at(highest, findings[marked], probability)
    return np.round(highest[1:], SCORE_DECIMALS)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
