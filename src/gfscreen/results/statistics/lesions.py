"""The lesions of a mask, each measured in the patient's frame.

A lesion is a 26-connected part of the mask. Everything is computed on the scan's RAS view (x to the right, y to the
front, z to the head), so the order and direction of the file's axes change nothing but the voxel indices that are
reported. Axial means: across the file axis that runs closest to head-feet. A tilted scan is measured in its own
slices, as a reader sees it; `axial_tilt_deg` says by how much they are tilted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gfscreen.results.statistics.axes import LongestPiece, longest_piece, plane_metric
from gfscreen.results.statistics.parts import Part, parts_of
from gfscreen.scan.volume import Volume
from gfscreen.scan.volume.ras import ras_affine, ras_view
from gfscreen.screening.network_outputs import NetworkOutputs

Point = tuple[float, float, float]
Voxel = tuple[int, int, int]
_RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class MeasuredLesion:
    """One lesion. Voxels are (i, j, k) of the file, counted from 0; positions are LPS mm, as in DICOM.

    id: 1 is the largest. axes_slice: the slice in which both axes were measured. axes_slice_pieces: outlines that the
    lesion has there, of which the longest was measured. slices: first and last slice, both included, along the scan's
    `slice_axis`. inside_voxel: a voxel of the measured outline, nearest to its centre. hu_sd: population standard
    deviation. touches_border: the lesion reaches the edge of the scan, so its size is a lower bound.
    glance_probability: the highest of the sub-volumes that contain the centroid. focus_probability: the mean inside
    the lesion. lesion_likelihood: how likely the finding is to be lesion by the plan's `finding_model`. All three None
    where they are not known.
    """

    id: int
    voxels: int
    volume_mm3: float
    long_axis_mm: float
    short_axis_mm: float
    axes_slice: int
    axes_slice_pieces: int
    long_axis_ends_mm: tuple[Point, Point]
    short_axis_ends_mm: tuple[Point, Point]
    centroid_mm: Point
    centroid_voxel: Point
    inside_voxel: Voxel
    slices: tuple[int, int]
    hu_mean: float
    hu_sd: float
    touches_border: bool
    glance_probability: float | None
    focus_probability: float | None
    lesion_likelihood: float | None = None


def axial_tilt_deg(volume: Volume) -> float:
    """Angle between the slices' normal and head-feet, degrees; 0 for a scan whose slices are axial."""
    x, y, _ = ras_affine(volume)[:3, :3].T
    normal = np.cross(x, y)
    cosine = abs(normal[2]) / np.linalg.norm(normal)
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def measure_lesions(
    volume: Volume, mask: NDArray[np.generic], outputs: NetworkOutputs | None = None
) -> list[MeasuredLesion]:
    """Every lesion of a mask, the largest first; equal ones from left to right, back to front, feet to head.

    Args:
        volume: the scan.
        mask: (i, j, k) on the scan's grid; whatever is above 0 is lesion.
        outputs: of the screening that made the mask; without it no probability is known.

    """
    return [_measure(volume, part, outputs) for part in parts_of(mask, volume.geometry)]


def _measure(volume: Volume, part: Part, outputs: NetworkOutputs | None) -> MeasuredLesion:
    shape = np.array(ras_view(volume.hu, volume).shape)
    affine = ras_affine(volume)
    voxels = np.argwhere(part.inside) + part.start
    centroid = voxels.mean(axis=0)
    hu = ras_view(volume.hu, volume)[tuple(voxels.T)].astype(np.float64)
    z, piece = _longest_axes(part, plane_metric(affine[:3, :2]))
    ends = [np.append(end, float(z)) for end in (*piece.axes.long_ends, *piece.axes.short_ends)]
    ends_mm = [_point(_to_lps(affine, end)) for end in ends]
    low, high = sorted(_file_slice(volume, int(end)) for end in (part.start[2], part.stop[2] - 1))
    return MeasuredLesion(
        id=part.id,
        voxels=len(voxels),
        volume_mm3=round(len(voxels) * abs(float(np.linalg.det(affine[:3, :3]))), 3),
        long_axis_mm=round(piece.axes.long_mm, 3),
        short_axis_mm=round(piece.axes.short_mm, 3),
        axes_slice=_file_slice(volume, z),
        axes_slice_pieces=piece.pieces,
        long_axis_ends_mm=(ends_mm[0], ends_mm[1]),
        short_axis_ends_mm=(ends_mm[2], ends_mm[3]),
        centroid_mm=_point(_to_lps(affine, centroid)),
        centroid_voxel=_point(_to_file(volume, centroid)),
        inside_voxel=_inside_voxel(volume, np.column_stack((piece.pixels, np.full(len(piece.pixels), z)))),
        slices=(low, high),
        hu_mean=round(float(hu.mean()), 2),
        hu_sd=round(float(hu.std()), 2),
        touches_border=bool((part.start == 0).any() or (part.stop == shape).any()),
        glance_probability=None if outputs is None else _rounded(outputs.glance_at(centroid)),
        focus_probability=None if outputs is None else _rounded(outputs.focus_mean(voxels)),
        lesion_likelihood=None if outputs is None else _rounded(outputs.likelihood_of(voxels)),
    )


def _longest_axes(part: Part, metric: NDArray[np.float64]) -> tuple[int, LongestPiece]:
    """Slice z of the RAS view with the longest outline, and that outline in pixels (x, y) of the RAS view.

    Equally long ones: the slice nearest to the feet.
    """
    best, best_z = None, 0
    for z in np.flatnonzero(part.inside.any(axis=(0, 1))):
        found = longest_piece(part.inside[:, :, z], metric, 0.0 if best is None else best.axes.long_mm)
        if found is not None and (best is None or found.rank > best.rank):
            best, best_z = found, int(z)
    if best is None:
        raise ValueError("an empty part cannot be measured")
    return best_z + int(part.start[2]), best.moved(part.start[:2])


def _inside_voxel(volume: Volume, section: NDArray[np.intp]) -> Voxel:
    """The voxel of a piece of a slice (n, 3) nearest to the piece's centre, in the file's indices."""
    nearest = section[((section - section.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    i, j, k = np.rint(_to_file(volume, nearest)).astype(int)
    return int(i), int(j), int(k)


def _to_file(volume: Volume, voxel: NDArray[np.generic]) -> NDArray[np.float64]:
    """A position (3,) in the RAS view as (i, j, k) of the file."""
    axes, flips = volume.geometry.ras_axes
    found = np.zeros(3)
    for ras, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
        found[axis] = volume.geometry.shape[axis] - 1 - voxel[ras] if flip else voxel[ras]
    return found


def _file_slice(volume: Volume, z: int) -> int:
    axes, flips = volume.geometry.ras_axes
    return volume.geometry.shape[axes[2]] - 1 - z if flips[2] else z


def _to_lps(affine: NDArray[np.float64], voxel: NDArray[np.float64]) -> NDArray[np.float64]:
    position: NDArray[np.float64] = (affine[:3, :3] @ voxel + affine[:3, 3]) * _RAS_TO_LPS
    return position


def _point(values: NDArray[np.float64]) -> Point:
    x, y, z = (round(float(value), 3) + 0.0 for value in values)
    return x, y, z


def _rounded(probability: float | None) -> float | None:
    return None if probability is None else round(probability, 4)
