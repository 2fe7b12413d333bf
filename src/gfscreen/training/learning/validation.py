"""Dev evaluation on fixed sub-volumes of patients that training never saw: quick enough to run every few minutes.

Whole scans are scored by the screening code and the harness in eval/; this one only watches a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from gfscreen.training.data.sampling import PatchSampler, Sample
from gfscreen.training.objectives import IGNORE, LESION_CLASS
from gfscreen.training.synthesis.lesion_bank import FloatArray

NEAR_MM = 10.0
# What the published Glance reaches.
PUBLISHED_SENSITIVITY = 0.977
KINDS = ("nodules", "masses", "soft", "real")
SHARES = {"nodules": 0.5, "masses": 0.15, "soft": 0.15, "real": 0.2}


@dataclass(frozen=True)
class CropScore:
    """Score of one sub-volume. dice: over all known voxels; dice_within_10_mm: of the lesion. found: by one voxel."""

    kind: str
    found: bool
    dice: float
    dice_within_10_mm: float
    lesion_ml: float
    false_positive_ml: float


def dev_samples(sampler: PatchSampler, count: int, size: tuple[int, ...], seed: int) -> list[Sample]:
    """A fixed set of sub-volumes with lesions, not augmented: half of them LIDC nodules, one lesion kind each."""
    samples = []
    for kind in KINDS:
        if not sampler.possible[kind]:
            continue
        for index in range(max(1, round(count * SHARES[kind]))):
            rng = np.random.default_rng([seed, KINDS.index(kind), index])
            sample = sampler.draw_plain(rng, size, kind=kind)
            if (sample.label == LESION_CLASS).any():
                samples.append(sample)
    return samples


def background_samples(sampler: PatchSampler, count: int, size: tuple[int, ...], seed: int) -> list[Sample]:
    """A fixed set of sub-volumes without lesion, not augmented."""
    if not sampler.possible["background"]:
        return []
    drawn = (sampler.draw_plain(np.random.default_rng([seed, 99, i]), size, kind="background") for i in range(count))
    return [sample for sample in drawn if not (sample.label == LESION_CLASS).any()]


def score_crop(predicted: NDArray[np.bool_], sample: Sample, spacing_mm: tuple[float, ...]) -> CropScore:
    """Score of a predicted mask (x, y, z) against the sample's label.

    Without a lesion no voxel is near one: whatever is predicted is a false positive.
    """
    lesion, known = sample.label == LESION_CLASS, sample.label != IGNORE
    predicted = predicted & known
    near = lesion
    # Of an array without background, scipy gives the distance to one of its corners.
    if lesion.any():
        near = ndimage.distance_transform_edt(~lesion, sampling=spacing_mm) <= NEAR_MM
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    shared = int((predicted & lesion).sum())
    total, total_near = int(predicted.sum() + lesion.sum()), int((predicted & near).sum() + lesion.sum())
    return CropScore(
        kind=sample.kind,
        found=shared > 0,
        dice=2 * shared / max(total, 1),
        dice_within_10_mm=2 * shared / max(total_near, 1),
        lesion_ml=float(lesion.sum()) * voxel_ml,
        false_positive_ml=float((predicted & ~near).sum()) * voxel_ml,
    )


def score_focus(focus: nn.Module, samples: Sequence[Sample], spacing_mm: tuple[float, ...]) -> list[CropScore]:
    """Scores of the Focus (argmax) on the samples, one at a time; the network's mode is put back afterwards."""
    was_training = focus.training
    focus.eval()
    device = next(focus.parameters()).device
    scores = []
    with torch.no_grad():
        for sample in samples:
            image = torch.from_numpy(sample.channels)[None].to(device)
            predicted = (focus(image).argmax(dim=1)[0] == LESION_CLASS).cpu().numpy()
            scores.append(score_crop(predicted, sample, spacing_mm))
    focus.train(was_training)
    return scores


@dataclass(frozen=True)
class GateScore:
    """The Glance on sub-volumes with and without lesion. kept: share of those without lesion that it would open."""

    sensitivity: float
    kept: float
    gate: float


def glance_probabilities(glance: nn.Module, images: Sequence[FloatArray]) -> NDArray[np.float64]:
    """Probability of "lesion" of each sub-volume, in evaluation mode; the network's mode is put back afterwards."""
    was_training = glance.training
    glance.eval()
    device = next(glance.parameters()).device
    with torch.no_grad():
        found = [
            float(torch.softmax(glance(torch.from_numpy(image)[None, None].to(device)).float(), 1)[0, LESION_CLASS])
            for image in images
        ]
    glance.train(was_training)
    return np.array(found)


def gate_curve(probability: NDArray[np.float64], lesion: NDArray[np.bool_]) -> list[GateScore]:
    """Sensitivity and share kept without lesion at every gate that makes a difference, by falling gate.

    A sub-volume is opened if its probability is above the gate. Empty if either kind is missing.
    """
    if not lesion.any() or lesion.all():
        return []
    gates = np.unique(np.concatenate([probability - 1e-6, [0.5, 0.9]]).clip(0.0, 1.0))[::-1]
    return [
        GateScore(float((probability[lesion] > g).mean()), float((probability[~lesion] > g).mean()), float(g))
        for g in gates
    ]


def choose_gate(curve: Sequence[GateScore], sensitivity: float) -> GateScore | None:
    """The highest gate that reaches the sensitivity: the fewest sub-volumes are then opened. None without a curve."""
    return next((score for score in curve if score.sensitivity >= sensitivity), curve[-1] if curve else None)


def summarise_gate(probability: NDArray[np.float64], lesion: NDArray[np.bool_]) -> dict[str, float | int | str | None]:
    """AUC, sensitivity and kept share at 0.5 and 0.9, and the gate for a sensitivity of 97.7 %."""
    curve = gate_curve(probability, lesion)
    if not curve:
        return {}
    with_lesion, without = probability[lesion], probability[~lesion]
    above = (with_lesion[:, None] > without[None]).mean() + 0.5 * (with_lesion[:, None] == without[None]).mean()
    result: dict[str, float | int | str | None] = {
        "windows_with_lesion": int(lesion.sum()), "windows_without": int((~lesion).sum()), "auc": float(above)
    }  # fmt: skip
    for gate in (0.5, 0.9):
        result[f"sensitivity_{gate}"] = float((with_lesion > gate).mean())
        result[f"kept_{gate}"] = float((without > gate).mean())
    chosen = choose_gate(curve, PUBLISHED_SENSITIVITY)
    if chosen is not None:
        result |= {"gate": chosen.gate, "gate_sensitivity": chosen.sensitivity, "gate_kept": chosen.kept}
    return result


def summarise(scores: Sequence[CropScore]) -> dict[str, float | int | str | None]:
    """Per kind: number, lesion-level sensitivity (one voxel), mean Dice (whole and within 10 mm), false-positive ml."""
    result: dict[str, float | int | str | None] = {}
    for kind in KINDS:
        own = [s for s in scores if s.kind == kind]
        if not own:
            continue
        result[f"{kind}_n"] = len(own)
        result[f"{kind}_sensitivity"] = float(np.mean([s.found for s in own]))
        result[f"{kind}_dice"] = float(np.mean([s.dice for s in own]))
        result[f"{kind}_dice_within_10_mm"] = float(np.mean([s.dice_within_10_mm for s in own]))
        result[f"{kind}_false_positive_ml"] = float(np.mean([s.false_positive_ml for s in own]))
    return result
