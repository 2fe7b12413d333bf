"""A case inside the page: small volumes of scan, prediction and truth, and the places worth looking at.

Axes are (x, y, z) in RAS order throughout.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from eval.report.cases import LoadedCase
from eval.report.montage import place_of_interest
from gfscreen.results.preview.planes import PREDICTION, TRUTH, centre_of_interest
from gfscreen.results.preview.reading_windows import preset_of_region, presets_of_findings
from gfscreen.results.preview.viewer import EmbeddedCase, Finding
from gfscreen.results.preview.volumes import SmallVolumes, make_small, shrink_image

MAX_FINDINGS = 40


def embed_case(case: LoadedCase, budget: float) -> EmbeddedCase | None:
    """Embed a case in at most `budget` characters; None if it does not fit at any useful size."""
    given = (("prediction", case.prediction, PREDICTION), ("truth", case.truth, TRUTH))
    masks = {name: (mask, colour) for name, mask, colour in given if mask is not None}
    small = make_small(case.hu, case.spacing_mm, case.affine_ras_mm, case.body_box, masks, budget)
    if small is None:
        return None
    found = _with_presets(case, small, findings(small.masks.get("truth"), small.masks.get("prediction")))
    region, _ = case.window(place_of_interest(case.of_interest)[0][2])
    return EmbeddedCase(
        name=case.name,
        volumes=small,
        native_shape=tuple(case.hu.shape),
        native_spacing_mm=case.spacing_mm,
        preset=found[0].preset if found else preset_of_region(region),
        file_axes=case.file_axes,
        findings=found,
    )


def _with_presets(case: LoadedCase, small: SmallVolumes, found: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The findings, each with its reading window, by what is marked in either mask."""
    spacing_mm = [mm * factor for mm, factor in zip(case.spacing_mm, small.factors, strict=True)]
    marked = np.zeros(small.shape, bool)
    for mask in small.masks.values():
        marked |= mask > 0
    hu = shrink_image(case.hu[case.body_box], small.factors)
    presets = presets_of_findings(hu, marked, [finding.voxel for finding in found], spacing_mm)
    return tuple(replace(finding, preset=preset) for finding, preset in zip(found, presets, strict=True))


def findings(truth: NDArray[np.uint8] | None, prediction: NDArray[np.uint8] | None) -> tuple[Finding, ...]:
    """Components on the embedded grid, largest first: lesions of the truth, then what only the prediction marks."""
    found: list[Finding] = []
    if truth is not None:
        other = None if prediction is None else prediction > 0
        for index, (voxel, hit) in enumerate(_components(truth > 0, other), start=1):
            found.append(
                Finding(f"lesion {index}" + ("" if other is None else ": found" if hit else ": missed"), voxel)
            )
    if prediction is not None:
        other = None if truth is None else truth > 0
        kind = "marked" if other is None else "false positive"
        extra = [voxel for voxel, hit in _components(prediction > 0, other) if not hit]
        found += [Finding(f"{kind} {index}", voxel) for index, voxel in enumerate(extra, start=1)]
    return tuple(found[:MAX_FINDINGS])


def _components(mask: NDArray[np.bool_], other: NDArray[np.bool_] | None) -> list[tuple[tuple[int, int, int], bool]]:
    """Middle voxel of the largest 26-connected components, and whether `other` shares a voxel with them."""
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3), bool))
    sizes = np.bincount(labels.ravel())[1:]
    boxes = ndimage.find_objects(labels)
    result = []
    for index in np.argsort(-sizes, kind="stable")[:MAX_FINDINGS]:
        part = labels[boxes[index]] == index + 1
        x, y, z = (c + int(s.start) for c, s in zip(centre_of_interest(part), boxes[index], strict=True))
        result.append(((x, y, z), other is not None and bool((part & other[boxes[index]]).any())))
    return result
