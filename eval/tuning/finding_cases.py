"""What Focus marks in cases with labels, measured: what `python -m eval findings` learns from and chooses on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.accuracy.masks import read_mask
from eval.tuning.finding_thresholds import Findings, findings_in
from eval.tuning.gate_runs import GateCase, label_lesions, label_on_grid
from gfscreen.config import Plan
from gfscreen.finding_plan import MEASURES
from gfscreen.networks.engines.base import Engine
from gfscreen.scan.volume import read_volume
from gfscreen.screening.budget import Budget
from gfscreen.screening.cells import probabilities
from gfscreen.screening.false_positive_reduction import measured_findings
from gfscreen.screening.screening import prepare, screen
from gfscreen.screening.settings import ScreeningSettings

logger = logging.getLogger(__name__)

# A finding counts as lesion if so much of it is.
LESION_SHARE = 0.2

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class CaseFindings:
    """The findings of one case. values: float64 (n, measures). lesion_voxels: of all its `lesions`; voxel_ml: of each.

    found: what `values` are of, in that order, with their peaks, and which lesions they overlap. annotated: of its host
    it is known where no lesion is.
    """

    host: str
    annotated: bool
    values: FloatArray
    found: Findings
    lesions: int
    lesion_voxels: int
    voxel_ml: float

    @property
    def lesion(self) -> BoolArray:
        """Which findings are lesion, bool (n,)."""
        return np.asarray(self.found.shared >= LESION_SHARE * self.found.voxels, np.bool_) & (self.found.shared > 0)

    @property
    def unknown(self) -> BoolArray:
        """Which may be lesion that nobody has annotated, bool (n,)."""
        return np.asarray((self.found.shared == 0) & (not self.annotated), np.bool_)


def findings_of(case: GateCase, plan: Plan, engine: Engine) -> CaseFindings:
    """Screen a case as the plan says, and measure what Focus marks in it."""
    volume = read_volume(case.image)
    prepared = prepare(volume, plan, ScreeningSettings(), Budget(None))
    result = screen(volume, plan, engine, Budget(None), prepared=prepared, keep_outputs=True)
    outputs = result.network_outputs
    assert outputs is not None
    grid = outputs.grid
    numbered, lesions = label_lesions(label_on_grid(read_mask(case.label).voxels, volume, grid))
    measured = measured_findings(outputs.focus_probability, prepared.scan, outputs.cells, plan.lesion_threshold)
    # By their place among those measured; what is too much to measure is dropped when a scan is screened, and here.
    place = np.zeros(int(measured.numbers.max(initial=0)) + 1, np.int32)
    place[measured.measured] = np.arange(1, measured.measured.size + 1)
    marked = np.zeros(numbered.shape, np.int32)
    marked[measured.part] = place[measured.numbers]
    peaks = probabilities(measured.values[:, MEASURES.index("peak_logit")])
    found = findings_in(marked, peaks, numbered)
    return CaseFindings(
        case.host, case.annotated, measured.values, found, lesions, int((numbered > 0).sum()),
        float(np.prod(grid.spacing_mm)) / 1000.0,
    )  # fmt: skip


def read_cases(cases: Sequence[GateCase], plan: Plan, engine: Engine) -> list[CaseFindings]:
    """`findings_of` each case."""
    read = []
    for case in cases:
        read.append(findings_of(case, plan, engine))
        logger.info("%s: %d findings, %d of them lesion", case.name, len(read[-1].values), read[-1].lesion.sum())
    return read
