"""Lesions put into real scans on the model grid: nodules with their own HU into lung, grown lesions into soft tissue,
masses that grow from the mediastinum or chest wall into lung, and nodes in fat.

Everything works on a crop in HU (x, y, z) and changes `hu` and `label` in place. No lesion overlaps one that is already
there. In scans that nobody annotated (label IGNORE) only the surroundings of what is inserted become known background.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.training.objectives import IGNORE
from gfscreen.training.synthesis.lesion_bank import BoolArray, FloatArray, Patch
from gfscreen.training.synthesis.tissue import LUNG, SOFT

KNOWN_MARGIN_MM = 8.0
EDGE_MM = 1.5
# From 12 to 88 %: real lesions of the training side take 3 to 5 mm towards lung, with slices of 3 mm.
LUNG_EDGE_MM = (1.5, 6.0)
VESSEL_HU = -600
# What is solid beside the lung, and what is fat, by HU; bone is neither grown over nor taken for a neighbour's level.
SOLID_HU = -200
BONE_HU = 200
FAT_HU = (-150, -30)
TRIES = 12


@dataclass
class Crop:
    """A piece of a scan: hu int16, label uint8 (0, 1, IGNORE), tissue uint8 (tissue.py), all (x, y, z).

    loose: bool, the wider outlines of inserted nodules, to report against; None if nobody asks.
    """

    hu: NDArray[np.int16]
    label: NDArray[np.uint8]
    tissue: NDArray[np.uint8]
    grid_mm: tuple[float, ...]
    loose: BoolArray | None = None


@dataclass(frozen=True)
class Box:
    """Where a patch and a crop overlap: the slices of each."""

    crop: tuple[slice, slice, slice]
    patch: tuple[slice, slice, slice]


def _overlap(crop_shape: tuple[int, ...], patch_shape: tuple[int, ...], centre: NDArray[np.int64]) -> Box:
    start = centre - np.asarray(patch_shape) // 2
    low = np.maximum(start, 0)
    high = np.minimum(start + patch_shape, crop_shape)
    inside = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    of_patch = tuple(slice(int(a), int(b)) for a, b in zip(low - start, high - start, strict=True))
    return Box((inside[0], inside[1], inside[2]), (of_patch[0], of_patch[1], of_patch[2]))


def signed_distance_mm(mask: BoolArray, grid_mm: tuple[float, ...]) -> FloatArray:
    """Distance to the mask's border in mm, negative inside; infinite where there is no mask."""
    if not mask.any():
        return np.full(mask.shape, np.inf, dtype=np.float32)
    outside = ndimage.distance_transform_edt(~mask, sampling=grid_mm)
    # A lesion goes on beyond a crop that cuts it; one that fills the array ends with it, or scipy measures to a corner.
    border = int(mask.all())
    inside = ndimage.distance_transform_edt(np.pad(mask, border), sampling=grid_mm)
    if border:
        inside = inside[1:-1, 1:-1, 1:-1]
    return np.asarray(outside - inside, dtype=np.float32)


def find_place(
    rng: np.random.Generator, crop: Crop, patch: Patch, tissue: int, *, share_inside: float, whole: bool = True
) -> Box | None:
    """A random place where at least `share_inside` of the tight mask lies in `tissue`; None if none is found.

    whole: the lesion's box must lie inside the crop, otherwise only its centre.
    """
    host = crop.tissue == tissue
    if np.count_nonzero(host) < patch.tight.sum():
        return None
    return _place_in(rng, crop, patch, host, np.flatnonzero(host), share_inside=share_inside, whole=whole)


def _place_in(
    rng: np.random.Generator,
    crop: Crop,
    patch: Patch,
    host: BoolArray,
    candidates: NDArray[np.intp],
    *,
    share_inside: float,
    whole: bool,
) -> Box | None:
    """As `find_place`: centred on one of the candidates (flat indices), at least `share_inside` of the mask in host."""
    voxels = int(patch.tight.sum())
    if candidates.size == 0 or voxels == 0:
        return None
    for index in rng.choice(candidates, size=TRIES):
        centre = np.array(np.unravel_index(int(index), crop.tissue.shape), dtype=np.int64)
        box = _overlap(crop.hu.shape, patch.tight.shape, centre)
        mask = patch.tight[box.patch]
        if whole and int(mask.sum()) < voxels:
            continue
        if mask.sum() < max(3, 0.3 * voxels) or host[box.crop][mask].sum() < share_inside * mask.sum():
            continue
        if (crop.label[box.crop][ndimage.binary_dilation(mask)] == 1).any():
            continue
        return box
    return None


def _mark(crop: Crop, box: Box, mask: BoolArray) -> None:
    """Write the lesion's label; around it, voxels that were unknown become background."""
    label = crop.label[box.crop]
    near = ndimage.distance_transform_edt(~mask, sampling=crop.grid_mm) <= KNOWN_MARGIN_MM
    label[near & (label == IGNORE)] = 0
    label[mask] = 1


def insert_nodule(rng: np.random.Generator, crop: Crop, patch: Patch) -> Box | None:
    """Blend a real nodule into lung, at least half of it in parenchyma, so that it may lie at the pleura.

    Inside the loose outline the nodule's HU stand; over EDGE_MM outside they fade into the host. The nodule's own lung
    is shifted to the host's local level; vessels of the host are kept in the fading edge. Returns where, or None.
    """
    assert patch.hu is not None
    box = find_place(rng, crop, patch, LUNG, share_inside=0.5 if rng.random() < 0.4 else 0.95)
    if box is None:
        return None
    host = crop.hu[box.crop].astype(np.float32)
    nodule, loose, tight = patch.hu[box.patch], patch.loose[box.patch], patch.tight[box.patch]
    lung = crop.tissue[box.crop] == LUNG
    host_level = float(np.median(host[lung])) if lung.any() else -850.0
    around = ~tight & (nodule < -500)
    own_level = float(np.median(nodule[around])) if around.any() else -850.0
    # The shift is full for lung and none for soft tissue, so that the nodule keeps its own density.
    lungness = np.clip((-300.0 - nodule) / 500.0, 0.0, 1.0)
    nodule = nodule + lungness * (host_level - own_level)
    distance = signed_distance_mm(loose, crop.grid_mm)
    alpha = np.clip(1.0 - distance / EDGE_MM, 0.0, 1.0)
    blended = alpha * nodule + (1.0 - alpha) * host
    blended = np.where(~tight & (host > VESSEL_HU), np.maximum(blended, host), blended)
    crop.hu[box.crop] = np.rint(blended).astype(np.int16)
    _mark(crop, box, tight)
    if crop.loose is not None:
        crop.loose[box.crop] |= loose
    return box


def _texture(
    rng: np.random.Generator, shape: tuple[int, ...], grain_mm: float, grid_mm: tuple[float, ...]
) -> FloatArray:
    """Smooth random field of unit standard deviation with grains of about `grain_mm`."""
    field = rng.standard_normal(shape).astype(np.float32)
    field = ndimage.gaussian_filter(field, [grain_mm / g for g in grid_mm], mode="wrap")
    return np.asarray((field - field.mean()) / max(float(field.std()), 1e-6), dtype=np.float32)


def _paint(
    rng: np.random.Generator,
    crop: Crop,
    box: Box,
    mask: BoolArray,
    level_hu: float,
    *,
    noise: FloatArray,
    edge_mm: float,
    beyond_mm: float = 0.0,
    middle_hu: float = 0.0,
    rise: float = 1.0,
    plain: bool = False,
) -> None:
    """Replace the host's coarse structure in the mask by a lesion of about `level_hu`, with grain and a soft edge.

    beyond_mm: how far outside the mask the lesion has half faded. middle_hu: how much more than `level_hu` the middle
    has, by the power `rise` of the depth. plain: nothing but `noise` varies inside, but for the core that half of the
    thick ones have.
    """
    distance = signed_distance_mm(mask, crop.grid_mm)
    depth = -float(distance.min())
    if middle_hu:
        inwards = np.clip(-distance / max(depth, 1.0), 0.0, 1.0) ** rise
        noise = noise + np.float32(middle_hu) * inwards.astype(np.float32)
    grain = 0.0 if plain else rng.uniform(0, 10) * _texture(rng, mask.shape, rng.uniform(3, 8), crop.grid_mm)
    inside = level_hu + grain + noise
    if depth > 6 and rng.random() < 0.5:
        # A necrotic or cystic core.
        core = 1.0 / (1.0 + np.exp(np.clip((distance + rng.uniform(0.35, 0.6) * depth) / 1.5, -30, 30)))
        inside = inside - core * min(rng.uniform(10, 40), max(level_hu - 5.0, 0.0))
    blend(crop, box, mask, inside, edge_mm=edge_mm, distance_mm=distance - beyond_mm)


def blend(
    crop: Crop, box: Box, mask: BoolArray, inside: FloatArray, *, edge_mm: float, distance_mm: FloatArray
) -> None:
    """Write a lesion's HU (of the box) and its label, the mask; from 12 to 88 % of the HU over `edge_mm`.

    distance_mm: from where the lesion has half faded, negative inside.
    """
    host = crop.hu[box.crop].astype(np.float32)
    alpha = 1.0 / (1.0 + np.exp(np.clip(4.0 * distance_mm / edge_mm, -30, 30)))
    crop.hu[box.crop] = np.rint(alpha * inside + (1.0 - alpha) * host).astype(np.int16)
    _mark(crop, box, mask)


def insert_soft_lesion(rng: np.random.Generator, crop: Crop, patch: Patch) -> Box | None:
    """Grow a lesion of the patch's shape in homogeneous soft tissue, darker or brighter than its surroundings.

    The contrast is 14-48 HU against the local median, and up to twice that in the middle; mostly darker as most lesions
    in the portal venous phase are. The grain is the host's own noise, taken from above 4 mm. Border and middle are such
    that `python -m eval realism` hardly tells them from real ones. Returns where, or None.
    """
    box = find_place(rng, crop, patch, SOFT, share_inside=0.85, whole=rng.random() < 0.7)
    if box is None:
        return None
    host = crop.hu[box.crop].astype(np.float32)
    mask = patch.tight[box.patch]
    level = float(np.median(host[mask]))
    darker = rng.random() < (0.75 if level > 40 else 0.3)
    contrast = rng.uniform(14, 48) * (-1.0 if darker else 1.0)
    grain = host - ndimage.gaussian_filter(host, [2.0 / g for g in crop.grid_mm])
    noise = np.clip(grain, -60, 60).astype(np.float32)
    # Real ones go on getting darker (or brighter) towards their middle, and their outline runs inside the half-way HU.
    rise, middle_hu = rng.uniform(0.5, 1.5), contrast * rng.uniform(0.0, 1.0)
    _paint(
        rng, crop, box, mask, max(level + contrast, -10.0), noise=noise, edge_mm=rng.uniform(1.5, 5.0), beyond_mm=0.7,
        middle_hu=middle_hu, rise=rise,
    )  # fmt: skip
    return box


def insert_lung_mass(rng: np.random.Generator, crop: Crop, patch: Patch) -> Box | None:
    """Grow a solid mass of the patch's shape in lung; it may lean on the chest wall. Returns where, or None."""
    box = find_place(rng, crop, patch, LUNG, share_inside=rng.choice([0.6, 0.95]), whole=rng.random() < 0.7)
    if box is None:
        return None
    mask = patch.tight[box.patch] & (crop.hu[box.crop] < 150)
    # What leans on the wall ends there: soft tissue that was already solid is not the mass.
    mask &= (crop.tissue[box.crop] == LUNG) | (crop.hu[box.crop] < -50) | ndimage.binary_erosion(mask, iterations=2)
    if mask.sum() < 5:
        return None
    noise = rng.uniform(8, 30) * _texture(rng, mask.shape, 1.0, crop.grid_mm) + _uneven(rng, crop, mask)
    _paint(rng, crop, box, mask, float(rng.uniform(5, 80)), noise=noise, edge_mm=rng.uniform(*LUNG_EDGE_MM))
    return box


def insert_leaning_mass(rng: np.random.Generator, crop: Crop, patch: Patch) -> Box | None:
    """Grow a mass from mediastinum or chest wall into lung, as dense as what it leans on. Returns where, or None.

    Most real tumours that the first networks missed lie so. The mass goes up to 10 mm into its solid neighbour, where
    only its bulge into the lung gives it away; its border towards the lung is mostly rough, and soft: by a crisp one
    the network knows a painted mass. Its grain is that of the host's soft tissue where there is enough.
    """
    lung = crop.tissue == LUNG
    wall = ~lung & (crop.hu > SOLID_HU)
    if not wall.any():
        return None
    gap_mm = ndimage.distance_transform_edt(~wall, sampling=crop.grid_mm)
    centres = np.flatnonzero(lung & (gap_mm < rng.uniform(2.0, 15.0)))
    box = _place_in(rng, crop, patch, lung, centres, share_inside=rng.uniform(0.35, 0.8), whole=rng.random() < 0.5)
    if box is None:
        return None
    host = crop.hu[box.crop]
    distance = signed_distance_mm(patch.tight[box.patch], crop.grid_mm)
    if rng.random() < 0.7:
        distance = distance + rng.uniform(0.5, 4.0) * _texture(rng, host.shape, rng.uniform(2, 6), crop.grid_mm)
    depth_mm = ndimage.distance_transform_edt(~lung[box.crop], sampling=crop.grid_mm)
    mask = _one_piece((distance < 0) & (depth_mm < rng.uniform(1.0, 10.0)) & (host < BONE_HU))
    if mask.sum() < 5 or (crop.label[box.crop][mask] == 1).any():
        return None
    level = _neighbour_level(rng, host[wall[box.crop]])
    grain, edge_mm = _host_grain(rng, crop, mask), float(rng.uniform(*LUNG_EDGE_MM))
    noise = (_fine_noise(rng, crop, mask) if grain is None else grain) + _uneven(rng, crop, mask)
    _paint(rng, crop, box, mask, level, noise=noise, edge_mm=edge_mm, plain=grain is not None)
    return box


def _one_piece(mask: BoolArray) -> BoolArray:
    """The largest part of a mask, without holes: a rough border sheds specks that nobody would outline."""
    parts, _ = ndimage.label(mask)
    largest = np.bincount(parts[mask], minlength=1).argmax()
    return np.asarray(ndimage.binary_fill_holes(mask & (parts == largest)), dtype=bool)


def insert_node(rng: np.random.Generator, crop: Crop, patch: Patch) -> Box | None:
    """Grow an enlarged node in fat, as dense as the muscles and vessels around it. Returns where, or None."""
    fat = (crop.hu > FAT_HU[0]) & (crop.hu < FAT_HU[1]) & (crop.tissue != LUNG)
    # Fat proper, not the rim that every edge between lung and soft tissue has.
    fat = ndimage.binary_opening(fat, iterations=2)
    box = _place_in(rng, crop, patch, fat, np.flatnonzero(fat), share_inside=rng.uniform(0.4, 0.8), whole=True)
    if box is None:
        return None
    host = crop.hu[box.crop]
    mask = patch.tight[box.patch] & (host < BONE_HU) & (host > SOLID_HU)
    if mask.sum() < 5:
        return None
    noise, level = _fine_noise(rng, crop, mask), _neighbour_level(rng, host[~fat[box.crop]])
    _paint(rng, crop, box, mask, level, noise=noise, edge_mm=rng.uniform(1, 2.5))
    return box


def _uneven(rng: np.random.Generator, crop: Crop, mask: BoolArray) -> FloatArray:
    """Patches of a few mm, as in real masses of the lung, which vary by 8 to 140 HU beyond their grain."""
    return np.asarray(rng.uniform(5, 40) * _texture(rng, mask.shape, rng.uniform(2, 6), crop.grid_mm), np.float32)


def _fine_noise(rng: np.random.Generator, crop: Crop, mask: BoolArray) -> FloatArray:
    """Painted noise of 6-20 HU with the grain of a voxel."""
    return rng.uniform(6, 20) * _texture(rng, mask.shape, rng.uniform(0.7, 1.2), crop.grid_mm)


def _host_grain(rng: np.random.Generator, crop: Crop, mask: BoolArray) -> FloatArray | None:
    """HU about their median from where nine tenths of the mask would lie in soft tissue; None if 30 tries find none."""
    soft = crop.tissue == SOFT
    room = np.asarray(crop.hu.shape) - np.asarray(mask.shape)
    if (room < 0).any() or soft.sum() < mask.sum():
        return None
    for start in rng.integers(0, room + 1, size=(30, 3)):
        part = tuple(slice(int(a), int(a) + n) for a, n in zip(start, mask.shape, strict=True))
        inside = mask & soft[part]
        if inside.sum() >= 0.9 * mask.sum() and not (crop.label[part][mask] == 1).any():
            hu = crop.hu[part].astype(np.float32)
            return np.where(soft[part], np.clip(hu - np.median(hu[inside]), -80, 80), 0.0).astype(np.float32)
    return None


def _neighbour_level(rng: np.random.Generator, hu: NDArray[np.int16]) -> float:
    """HU of a lesion beside voxels of these HU: the median of what is soft tissue among them, within 20 HU."""
    soft = hu[(hu > 0) & (hu < 150)]
    return (float(np.median(soft)) if soft.size else 45.0) + float(rng.uniform(-20, 20))
