"""Volumes small enough to live inside a page: cropped to the body, block-averaged, gzipped, base64.

Axes are (x, y, z) in RAS order throughout.
"""

from __future__ import annotations

import base64
import gzip
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.scan.anatomy import Anatomy

# Grey values are kept in steps of 4 HU, below the noise of any CT: a third of the bytes of the full range.
HU_STEP = 4
HU_RANGE = (-1024, 2047)
# Opacity (of 255) of what lies within an outline: there for the viewer's code, which raises it when asked to fill.
FILL_ALPHA, FILLED_ALPHA = 1, 56
RGBA = np.dtype([(channel, "u1") for channel in "RGBA"])
_START_VOXELS = 12e6
_MIN_VOXELS = 20_000.0
_ROUNDS = 6

Factors = tuple[int, int, int]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class SmallVolumes:
    """A scan and its masks on one small grid.

    layers: base64 of gzipped NIfTI by name: `image`, and each mask painted in its colour. masks: uint8 {0, 1}, by name.
    factors: voxels of the scan per voxel here, along x, y, z. start: the scan's voxel (RAS view) where this begins.
    """

    layers: dict[str, str]
    masks: dict[str, NDArray[np.uint8]]
    shape: tuple[int, int, int]
    factors: Factors
    start: tuple[int, int, int]

    @property
    def size(self) -> int:
        """Characters of base64."""
        return sum(len(text) for text in self.layers.values())

    def voxel_of(self, voxel: Sequence[float]) -> tuple[int, int, int]:
        """The voxel here that holds a voxel of the scan's RAS view; the nearest one if that was cropped off."""
        x, y, z = (
            min(max(int((v - s) // f), 0), n - 1)
            for v, s, f, n in zip(voxel, self.start, self.factors, self.shape, strict=True)
        )
        return x, y, z

    def position_of(self, voxels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions (n, 3) in voxels of the scan's RAS view as positions in voxels here."""
        factors = np.asarray(self.factors)
        result: NDArray[np.float64] = (voxels - np.asarray(self.start) - (factors - 1) / 2) / factors
        return result


def body_box(
    shape: tuple[int, ...],
    spacing_mm: tuple[float, ...],
    anatomy: Anatomy,
    masks: Sequence[NDArray[np.bool_]],
    margin_mm: float = 12.0,
) -> Box:
    """Box around body and masks in voxels of the RAS view; the whole scan where no body was found."""
    lows, highs = [], []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        step = anatomy.step_voxels[axis]
        body = np.flatnonzero(anatomy.body.any(axis=others))
        if body.size == 0:
            lows.append(0)
            highs.append(shape[axis])
            continue
        margin = round(margin_mm / spacing_mm[axis])
        low, high = int(body[0]) * step - margin, (int(body[-1]) + 1) * step + margin
        for mask in masks:
            hit = np.flatnonzero(mask.any(axis=others))
            if hit.size:
                low, high = min(low, int(hit[0])), max(high, int(hit[-1]) + 1)
        lows.append(max(0, low))
        highs.append(min(shape[axis], high))
    x, y, z = (slice(a, b) for a, b in zip(lows, highs, strict=True))
    return x, y, z


def make_small(
    hu: NDArray[np.int16],
    spacing_mm: tuple[float, ...],
    affine_ras_mm: NDArray[np.float64],
    box: Box,
    masks: Mapping[str, tuple[NDArray[np.bool_], str]],
    budget: float,
) -> SmallVolumes | None:
    """The part of a scan inside `box`, in at most `budget` characters; None if it does not fit at any useful size.

    Args:
        hu: (x, y, z), the scan's RAS view.
        spacing_mm: along x, y, z.
        affine_ras_mm: 4x4, index of the RAS view to RAS mm.
        box: the part to keep.
        masks: by layer's name, bool (x, y, z) and the colour `#rrggbb` to paint it in.
        budget: characters of base64 over all layers.

    """
    part = hu[box]
    start = [int(s.start or 0) for s in box]
    voxels = min(_START_VOXELS, float(part.size))
    for _ in range(_ROUNDS):
        factors = choose_factors(part.shape, spacing_mm, voxels)
        affine = shrunk_affine(affine_ras_mm, start, factors)
        image = shrink_image(part, factors)
        layers, small = {"image": encode(image, affine)}, {}
        for name, (mask, colour) in masks.items():
            small[name] = shrink_mask(mask[box], factors)
            layers[name] = encode(painted(small[name], colour), affine)
        x, y, z = image.shape
        found = SmallVolumes(layers, small, (x, y, z), factors, (start[0], start[1], start[2]))
        if found.size <= budget:
            return found
        voxels = image.size * budget / found.size * 0.92
        if voxels < _MIN_VOXELS:
            break
    return None


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
    """The mask as RGBA in `colour` (`#rrggbb`): opaque on its axial outline, all but clear within, clear elsewhere.

    Painted here because NiiVue draws colour-mapped overlays with one opacity for all their voxels.
    """
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)[:, :, None]
    marked = mask > 0
    core = ndimage.binary_erosion(marked, cross)
    rgba = np.zeros(mask.shape, RGBA)
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
