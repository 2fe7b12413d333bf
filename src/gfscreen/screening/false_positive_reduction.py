"""Which findings are likely to be lesion: the last stage of a detector, after which only those are left.

Focus judges voxels; what it marks falsely hangs together in other ways than lesions do. The plan's `finding_model`, a
logistic regression on what is measured of a finding (finding_measures.py), says how likely each is to be lesion, and
those that are not above the plan's `finding_from` are dropped, whole. Not part of the published method.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.config import Plan
from gfscreen.finding_plan import MEASURES, FindingModel
from gfscreen.screening.cells import CellMap, OnModelGrid, logit_of, probabilities
from gfscreen.screening.finding_measures import FindingPart, cells_of_voxels, measures_of, part_around
from gfscreen.screening.findings import TOUCHING, heights

# So many findings are measured, those with the highest peaks; a scan with more is one that the networks do not know.
MOST_FINDINGS = 400
# A value counts for no more than so many standard deviations: beyond them nothing was learnt.
FAR = 4.0


@dataclass(frozen=True)
class MeasuredFindings:
    """The findings of a scan.

    part: the part of the model grid that holds them all. numbers: int32, of that part, from 1; 0 where there is none.
    measured: int (n,), the numbers that `values`, float64 (n, measures), are of; others are too many to measure.
    """

    part: tuple[slice, ...]
    numbers: NDArray[np.int32]
    measured: NDArray[np.intp]
    values: NDArray[np.float64]


def measured_findings(
    focus_probability: NDArray[np.float32], scan: OnModelGrid, cells: CellMap | None, threshold: float
) -> MeasuredFindings:
    """Measure what hangs together above a threshold, at most MOST_FINDINGS of them, by falling peak.

    focus_probability: float32 (x, y, z) on the model grid of `scan`, as it is once findings were dropped that cannot
    be. Empty without findings.
    """
    lesion = focus_probability > threshold
    everything, spacing_mm = ndimage.find_objects(lesion.astype(np.uint8)), scan.grid.spacing_mm
    if not everything:
        none = np.zeros((0, 0, 0), np.int32)
        return MeasuredFindings((slice(0, 0),) * 3, none, np.zeros(0, np.intp), np.zeros((0, len(MEASURES))))
    part = part_around(everything[0], spacing_mm)
    probability = focus_probability[part]
    numbers, count = ndimage.label(lesion[part], TOUCHING, output=np.int32)
    marked = numbers > 0
    peaks = heights(probability[marked], numbers[marked], count)
    measured = np.argsort(-peaks, kind="stable")[:MOST_FINDINGS] + 1
    hu, chest, origin = scan.hu[part], scan.chest[part[2]], np.array([side.start for side in part])
    boxes, values = ndimage.find_objects(numbers), []
    for number in measured:
        box = boxes[number - 1]
        around = part_around(box, spacing_mm)
        places = np.argwhere(numbers[box] == number) + np.array([side.start for side in box]) + origin
        finding = FindingPart(
            finding=numbers[around] == number,
            any_finding=numbers[around] > 0,
            probability=probability[around],
            hu=hu[around],
            spacing_mm=spacing_mm,
            cell_logit=cells_of_voxels(cells, places),
            chest=float(chest[box[2]].mean()),
        )
        values.append(measures_of(finding))
    return MeasuredFindings(part, numbers, measured, np.array(values))


def lesion_likelihood(values: NDArray[np.float64], model: FindingModel) -> NDArray[np.float64]:
    """Probability (n,) that findings are lesion, of their measures (n, measures); empty of none.

    0 for those that Focus is less sure of than of what the model was fitted to: it knows nothing of them.
    """
    own = [MEASURES.index(measure.name) for measure in model.measures]
    mean, scale, weight = np.array([(m.mean, m.scale, m.weight) for m in model.measures]).T
    products = [number for measure in model.measures for number in measure.products]
    terms = regression_terms(standardised(values[:, own], mean, scale))
    likelihood = probabilities(model.offset + terms @ np.concatenate([weight, products]))
    known = values[:, MEASURES.index("peak_logit")] > logit_of(model.least_peak)
    return np.where(known, likelihood, 0.0)


def standardised(
    values: NDArray[np.float64], mean: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Values (n, measures) as standard deviations from the mean, none further than FAR."""
    return ((values - mean) / scale).clip(-FAR, FAR)


def regression_terms(standard: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the regression weighs: standardised values (n, m), and each one's product with itself and all that follow.

    (n, m + m (m + 1) / 2), products row by row of the upper triangle.
    """
    first, second = np.triu_indices(standard.shape[1])
    return np.concatenate([standard, standard[:, first] * standard[:, second]], axis=1)


@dataclass(frozen=True)
class JudgedFindings:
    """How likely each finding of a scan is to be lesion.

    part, numbers: as of `MeasuredFindings`. likelihood: float64 (findings + 1,), by number; 0 for what is no finding,
    or one of too many to measure.
    """

    part: tuple[slice, ...]
    numbers: NDArray[np.int32]
    likelihood: NDArray[np.float64]

    def at(self, places: NDArray[np.intp]) -> float:
        """The highest likelihood of the findings that model voxels (n, 3) belong to; 0 where they belong to none."""
        return float(self.of(places).max(initial=0.0))

    def of(self, places: NDArray[np.intp] | NDArray[np.int32]) -> NDArray[np.float64]:
        """The likelihood (n,) of the finding that each model voxel (n, 3) belongs to; 0 where it belongs to none."""
        likelihood: NDArray[np.float64] = self.likelihood[self.number_of(places)]
        return likelihood

    def number_of(self, places: NDArray[np.intp] | NDArray[np.int32]) -> NDArray[np.int32]:
        """The finding that each model voxel (n, 3) belongs to, (n,); 0 for none."""
        low = np.array([side.start for side in self.part], np.intp)
        inside = ((places >= low) & (places < low + self.numbers.shape)).all(axis=1)
        number = np.zeros(len(places), np.int32)
        number[inside] = self.numbers[tuple((places[inside] - low).T)]
        return number


def judged_findings(
    focus_probability: NDArray[np.float32], scan: OnModelGrid, cells: CellMap | None, plan: Plan
) -> JudgedFindings | None:
    """How likely what is marked is to be lesion; None without a `finding_model`.

    Args:
        focus_probability: float32 (x, y, z) on the model grid of `scan`, without findings that cannot be.
        scan: the scan.
        cells: what Glance said of cells; None where it judges none.
        plan: with `finding_model` and `lesion_threshold`.

    """
    if plan.finding_model is None:
        return None
    found = measured_findings(focus_probability, scan, cells, plan.lesion_threshold)
    likelihood = np.zeros(int(found.numbers.max(initial=0)) + 1)
    likelihood[found.measured] = lesion_likelihood(found.values, plan.finding_model)
    return JudgedFindings(found.part, found.numbers, likelihood)


def drop_false_positives(
    focus_probability: NDArray[np.float32], judged: JudgedFindings | None, finding_from: float
) -> int:
    """Set the probability of findings that are hardly lesion to 0, in place; returns how many there were.

    judged: the findings of `focus_probability`, float32 (x, y, z). Without a judgement, and at `finding_from` 0,
    nothing is done.
    """
    if judged is None or finding_from <= 0.0:
        return 0
    falls = judged.likelihood <= finding_from
    falls[0] = False
    focus_probability[judged.part][falls[judged.numbers]] = 0.0
    return int(falls.sum())
