"""A scan with its mask and its lesions, ready to be drawn: everything in RAS order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gfscreen.network_plan import RegionName
from gfscreen.results.preview.reading_windows import preset_of_region, presets_of_findings
from gfscreen.results.preview.volumes import Box, body_box
from gfscreen.results.statistics.lesions import MeasuredLesion
from gfscreen.scan.anatomy import Anatomy, find_anatomy
from gfscreen.scan.region import RegionSplit, split
from gfscreen.scan.volume import Geometry, Volume
from gfscreen.scan.volume.ras import ras_affine, ras_spacing, ras_view
from gfscreen.screening.network_outputs import NetworkOutputs

Voxel = tuple[int, int, int]


class FileAxis(NamedTuple):
    """The file's axis along one of x, y, z: its name (`i`, `j` or `k`), its length, and whether it runs against it."""

    name: str
    size: int
    flipped: bool

    def index_of(self, voxel: int) -> int:
        """The file's index, counted from 0, of a voxel of the RAS view."""
        return self.size - 1 - voxel if self.flipped else voxel


def file_axes(geometry: Geometry) -> tuple[FileAxis, FileAxis, FileAxis]:
    """The file's axes along x, y, z."""
    axes, flips = geometry.ras_axes
    x, y, z = (FileAxis("ijk"[axis], geometry.shape[axis], flip) for axis, flip in zip(axes, flips, strict=True))
    return x, y, z


@dataclass(frozen=True)
class ShownCase:
    """A case to draw.

    marked: bool (x, y, z), the mask in the scan's RAS view. network_outputs: None for a mask from elsewhere.
    status: `ok` or `degraded`, as in the report. suspicion: how likely it is to hold a
    lesion, 0 to 1, where that is told.
    """

    name: str
    status: str
    volume: Volume
    marked: NDArray[np.bool_]
    lesions: Sequence[MeasuredLesion]
    anatomy: Anatomy
    region: RegionSplit
    network_outputs: NetworkOutputs | None = None
    suspicion: float | None = None

    @property
    def hu(self) -> NDArray[Any]:
        """The scan, int16 (x, y, z)."""
        return ras_view(self.volume.hu, self.volume)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Spacing along x, y, z."""
        return ras_spacing(self.volume)

    @cached_property
    def affine_ras_mm(self) -> NDArray[np.float64]:
        """4x4, voxel (x, y, z) to RAS mm."""
        return ras_affine(self.volume)

    @cached_property
    def body_box(self) -> Box:
        """Box around body and mask."""
        return body_box(self.hu.shape, self.spacing_mm, self.anatomy, [self.marked])

    def region_at(self, z: int) -> RegionName:
        """Region of axial slice `z`."""
        coarse = min(z // self.anatomy.step_voxels[2], len(self.region.chest) - 1)
        return "chest" if self.region.chest[coarse] else "abdomen"

    @property
    def file_axes(self) -> tuple[FileAxis, FileAxis, FileAxis]:
        """The file's axes along x, y, z."""
        return file_axes(self.volume.geometry)

    @cached_property
    def presets(self) -> list[str]:
        """Key of the reading window of each finding."""
        voxels = [self.voxel_of(lesion.inside_voxel) for lesion in self.lesions]
        return presets_of_findings(self.hu, self.marked, voxels, self.spacing_mm)

    @property
    def first_preset(self) -> str:
        """Key of the reading window at the place of interest."""
        return self.presets[0] if self.lesions else preset_of_region(self.region_at(self.place_of_interest[2]))

    def voxel_of(self, file_voxel: Sequence[int]) -> Voxel:
        """The voxel (x, y, z) of a file's voxel (i, j, k)."""
        axes, flips = self.volume.geometry.ras_axes
        shape = self.volume.geometry.shape
        x, y, z = (
            shape[axis] - 1 - file_voxel[axis] if flip else file_voxel[axis]
            for axis, flip in zip(axes, flips, strict=True)
        )
        return x, y, z

    def position_of(self, lps_mm: Sequence[float]) -> NDArray[np.float64]:
        """Position in voxels (3,), fractions included, of a point in LPS mm."""
        ras = np.array([-lps_mm[0], -lps_mm[1], lps_mm[2], 1.0])
        position: NDArray[np.float64] = (np.linalg.inv(self.affine_ras_mm) @ ras)[:3]
        return position

    @property
    def place_of_interest(self) -> Voxel:
        """A voxel of the largest lesion, else the middle of the body."""
        if self.lesions:
            return self.voxel_of(self.lesions[0].inside_voxel)
        x, y, z = ((int(side.start) + int(side.stop)) // 2 for side in self.body_box)
        return x, y, z


def shown_case(
    name: str,
    status: str,
    volume: Volume,
    mask: NDArray[np.generic],
    lesions: Sequence[MeasuredLesion],
    region: RegionSplit | None = None,
    outputs: NetworkOutputs | None = None,
    suspicion: float | None = None,
) -> ShownCase:
    """Make a case ready to draw from a scan and its mask (i, j, k); the region is decided here if it is not given."""
    anatomy = find_anatomy(volume)
    marked = ras_view(np.greater(mask, 0), volume).astype(bool, copy=False)
    return ShownCase(name, status, volume, marked, lesions, anatomy, region or split(anatomy), outputs, suspicion)
