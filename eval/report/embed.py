"""Volumes small enough to live inside a page: cropped to the body, block-averaged, gzipped, base64.

Axes are (x, y, z) in RAS order throughout.
"""

from __future__ import annotations

import base64
import gzip
import math
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from eval.picture import centre_of_interest
from eval.report.cases import LoadedCase
from eval.report.montage import PREDICTION, TRUTH, body_box, place_of_interest

# Grey values are kept in steps of 4 HU, below the noise of any CT: a third of the bytes of the full range.
HU_STEP = 4
HU_RANGE = (-1024, 2047)
MAX_FINDINGS = 40
FILL_ALPHA = 56
_RGBA = np.dtype([(channel, "u1") for channel in "RGBA"])
_START_VOXELS = 12e6
_MIN_VOXELS = 20_000.0
_ROUNDS = 6

Factors = tuple[int, int, int]


@dataclass(frozen=True)
class Finding:
    """A place worth looking at: what it is, and its voxel on the embedded grid."""

    label: str
    voxel: tuple[int, int, int]


@dataclass(frozen=True)
class EmbeddedCase:
    """A case for the viewer. `layers`: base64 of gzipped NIfTI by `image`, `prediction`, `truth` (as far as there)."""

    name: str
    layers: dict[str, str]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, ...]
    factors: Factors
    native_shape: tuple[int, ...]
    native_spacing_mm: tuple[float, ...]
    region: str
    start: tuple[int, int, int]
    findings: tuple[Finding, ...]

    @property
    def size(self) -> int:
        """Characters of base64."""
        return sum(len(text) for text in self.layers.values())


def embed_case(case: LoadedCase, budget: float) -> EmbeddedCase | None:
    """Embed a case in at most `budget` characters; None if it does not fit at any useful size."""
    box = body_box(case)
    hu, spacing = case.hu[box], case.spacing_mm
    voxels = min(_START_VOXELS, float(hu.size))
    for _ in range(_ROUNDS):
        factors = choose_factors(hu.shape, spacing, voxels)
        affine = shrunk_affine(case.affine_ras_mm, [int(s.start or 0) for s in box], factors)
        image = shrink_image(hu, factors)
        layers = {"image": encode(image, affine)}
        masks = {}
        for name, mask, colour in (("prediction", case.prediction, PREDICTION), ("truth", case.truth, TRUTH)):
            if mask is not None:
                masks[name] = shrink_mask(mask[box], factors)
                layers[name] = encode(painted(masks[name], colour), affine)
        size = sum(len(text) for text in layers.values())
        if size <= budget:
            return _embedded(case, layers, masks, image.shape, factors, case.window(_centre_z(case))[0])
        voxels = image.size * budget / size * 0.92
        if voxels < _MIN_VOXELS:
            break
    return None


def _centre_z(case: LoadedCase) -> int:
    return place_of_interest(case.of_interest)[0][2]


def _embedded(
    case: LoadedCase,
    layers: dict[str, str],
    masks: dict[str, NDArray[np.uint8]],
    shape: tuple[int, ...],
    factors: Factors,
    region: str,
) -> EmbeddedCase:
    found = findings(masks.get("truth"), masks.get("prediction"))
    middle = (shape[0] // 2, shape[1] // 2, shape[2] // 2)
    return EmbeddedCase(
        name=case.name,
        layers=layers,
        shape=(shape[0], shape[1], shape[2]),
        spacing_mm=tuple(mm * f for mm, f in zip(case.spacing_mm, factors, strict=True)),
        factors=factors,
        native_shape=tuple(case.hu.shape),
        native_spacing_mm=case.spacing_mm,
        region=region,
        start=found[0].voxel if found else middle,
        findings=found,
    )


def choose_factors(shape: tuple[int, ...], spacing_mm: tuple[float, ...], voxels: float) -> Factors:
    """Whole block sizes that leave at most about `voxels` voxels, as isotropic as whole numbers allow."""
    factors = [1, 1, 1]
    while math.prod(math.ceil(n / f) for n, f in zip(shape, factors, strict=True)) > voxels:
        pitch = [mm * (f + 1) if f < n else math.inf for mm, f, n in zip(spacing_mm, factors, shape, strict=True)]
        if math.isinf(min(pitch)):
            break
        axis = pitch.index(min(pitch))
        factors[axis] += 1
        if axis < 2 and spacing_mm[0] == spacing_mm[1] and factors[1 - axis] < shape[1 - axis]:
            factors[1 - axis] = factors[axis]  # square pixels stay square
    return factors[0], factors[1], factors[2]


def shrink_image(hu: NDArray[np.int16], factors: Factors) -> NDArray[np.int16]:
    """Block means, in steps of `HU_STEP`; int16. A block that reaches beyond the scan repeats the scan's edge."""
    mean = _blocks(np.clip(hu, *HU_RANGE), factors)
    stepped: NDArray[np.int16] = (np.rint(mean / HU_STEP) * HU_STEP).astype(np.int16)
    return stepped


def shrink_mask(mask: NDArray[np.bool_], factors: Factors) -> NDArray[np.uint8]:
    """Blocks that are at least half full; a component that would vanish keeps every block it touches."""
    share = _blocks(mask, factors)
    kept = share >= 0.5
    labels, count = ndimage.label(share > 0, np.ones((3, 3, 3), bool))
    if count:
        survives = np.zeros(count + 1, bool)
        survives[np.unique(labels[kept])] = True
        kept |= (labels > 0) & ~survives[labels]
    return kept.astype(np.uint8)


def painted(mask: NDArray[np.uint8], colour: str) -> NDArray[np.void]:
    """The mask as RGBA in `colour` (`#rrggbb`): opaque on its axial outline, lightly filled within, clear elsewhere.

    Painted here because NiiVue draws colour-mapped overlays with one opacity for all their voxels.
    """
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)[:, :, None]
    marked = mask > 0
    core = ndimage.binary_erosion(marked, cross)
    rgba = np.zeros(mask.shape, _RGBA)
    for channel, start in zip("RGB", (1, 3, 5), strict=True):
        rgba[channel][marked] = int(colour[start : start + 2], 16)
    rgba["A"] = np.where(core, FILL_ALPHA, np.where(marked, 255, 0))
    return rgba


def _blocks(array: NDArray[Any], factors: Factors) -> NDArray[np.float32]:
    """Means over blocks; summed block corner by block corner, so that no copy of the whole array is made."""
    counts = [math.ceil(n / f) for n, f in zip(array.shape, factors, strict=True)]
    total = np.zeros(counts, np.float32)
    for dx in range(factors[0]):
        for dy in range(factors[1]):
            for dz in range(factors[2]):
                places = [np.arange(c) * f + d for c, f, d in zip(counts, factors, (dx, dy, dz), strict=True)]
                inside = [np.minimum(p, n - 1) for p, n in zip(places, array.shape, strict=True)]
                total += array[np.ix_(*inside)]
    total /= math.prod(factors)
    return total


def shrunk_affine(affine: NDArray[np.float64], start: list[int], factors: Factors) -> NDArray[np.float64]:
    """4x4 of a grid that begins at voxel `start` and has blocks for voxels: a block's centre is its voxel's."""
    scale = np.diag([*map(float, factors), 1.0])
    scale[:3, 3] = [s + (f - 1) / 2 for s, f in zip(start, factors, strict=True)]
    result: NDArray[np.float64] = affine @ scale
    return result


def encode(array: NDArray[Any], affine: NDArray[np.float64]) -> str:
    """Gzipped NIfTI-1 in base64; the same bytes for the same array."""
    image = nib.Nifti1Image(np.asfortranarray(array), affine)
    image.header.set_xyzt_units("mm")
    return base64.b64encode(gzip.compress(image.to_bytes(), 9, mtime=0)).decode("ascii")


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
