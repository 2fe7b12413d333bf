"""From a seed to a scan, slab by slab: the file to read first."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eval.phantom import abdomen, bowel, limbs, skeleton, thorax
from eval.phantom.canvas import Canvas, PartList
from eval.phantom.couch import paint_couch
from eval.phantom.grid import SPACING_LIMITS_MM, Grid, check_limits
from eval.phantom.lesions import PhantomLesion, paint_lesions, place_lesions
from eval.phantom.shapes import Array, Vector
from eval.phantom.subject import Subject, draw_subject
from eval.phantom.texture import Noise, Texture
from eval.phantom.torso import Torso

Kind = Literal["chest", "abdomen", "chest-abdomen"]
KINDS: tuple[Kind, ...] = ("chest", "abdomen", "chest-abdomen")
# Lower and upper end of each kind of scan in atlas mm: apices to adrenals, domes to the iliac wings, all of it.
Z_RANGE_MM: dict[Kind, tuple[float, float]] = {
    "chest": (-72.0, 223.0),
    "abdomen": (-265.0, 30.0),
    "chest-abdomen": (-265.0, 223.0),
}
IN_PLANE_MM = (384.0, 320.0)
DEFAULT_SPACING_MM: Vector = (2.0, 2.0, 5.0)
# Slices thicker than this are averaged from thinner ones.
SUBSLICE_MM = 2.0
SLAB_VOXELS = 600_000


@dataclass(frozen=True)
class Slab:
    """Consecutive axial slices; arrays (nz, ny, nx), which is NIfTI's order of voxels."""

    start: int
    image: NDArray[np.int16]
    label: NDArray[np.uint8]


@dataclass(frozen=True)
class Phantom:
    """A whole scan in memory.

    Args:
        image: HU, int16, axes (x, y, z). label: 1 in lesions, uint8, same axes.
        affine_ras: 4x4, voxel index -> RAS mm.
        region: "chest" or "abdomen" for each axial slice.
        boundary_z_mm: RAS height at which the chest ends.

    """

    image: NDArray[np.int16]
    label: NDArray[np.uint8]
    affine_ras: NDArray[np.float64]
    spacing_mm: Vector
    lesions: tuple[PhantomLesion, ...]
    region: tuple[str, ...]
    boundary_z_mm: float


def default_grid(
    kind: Kind,
    subject: Subject,
    shape: tuple[int, int, int] | None = None,
    spacing_mm: Vector | None = None,
) -> Grid:
    """The grid of a kind of scan; what is not given is chosen so that the usual field of view is covered.

    With a shape alone the slices are at least 1 mm and at most 10 mm apart, so that many slices mean a long scan.
    """
    check_limits(shape, spacing_mm)
    low, high = (end * subject.scale[2] for end in Z_RANGE_MM[kind])
    span = (*IN_PLANE_MM, high - low)
    if spacing_mm is None:
        spacing_mm = DEFAULT_SPACING_MM
        if shape is not None:
            in_plane = round(min(max(span[0] / shape[0], span[1] / shape[1], SPACING_LIMITS_MM[0]), 12.0), 3)
            spacing_mm = (in_plane, in_plane, round(min(max(span[2] / shape[2], 1.0), 10.0), 3))
    if shape is None:
        nx, ny, nz = (math.ceil(length / step - 1e-6) for length, step in zip(span, spacing_mm, strict=True))
        shape = (nx, ny, nz)
    off_x, off_y = subject.off_centre_mm
    return Grid(shape, spacing_mm, (off_x, -14.0 + off_y, (low + high) / 2))


class Scan:
    """One case, ready to be drawn slab by slab; memory is bounded by the slab, not by the scan."""

    def __init__(
        self,
        kind: Kind,
        seed: int,
        shape: tuple[int, int, int] | None = None,
        spacing_mm: Vector | None = None,
        healthy: bool = False,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind {kind!r}: unknown; choose one of {', '.join(KINDS)}")
        if seed < 0:
            raise ValueError(f"seed {seed}: must not be negative; give 0 or more")
        self.kind = kind
        self.subject = draw_subject(seed, KINDS.index(kind))
        self.grid = default_grid(kind, self.subject, shape, spacing_mm)
        self._torso = Torso(self.subject)
        self.lesions: tuple[PhantomLesion, ...] = ()
        if not healthy:
            self.lesions = place_lesions(self._torso, kind, self.grid.inner_box(), self.grid.spacing_mm)
            if not self.lesions:
                raise ValueError(
                    f"shape {self.grid.shape} at spacing {self.grid.spacing_mm} mm: no {kind} lesion fits into "
                    "this field of view; enlarge shape or spacing, or ask for a healthy scan"
                )
        self.boundary_z_mm = self._find_boundary()
        self._soft, self._bones = self._collect_parts()
        self._texture = Texture(self.subject)
        x, y, _ = self.grid.axes_mm()
        self._noise = Noise(
            self.subject,
            self.subject.noise_hu,
            (self.grid.shape[1], self.grid.shape[0]),
            (self.grid.spacing_mm[1], self.grid.spacing_mm[0]),
            self.grid.spacing_mm[2],
            (float(y[0]), float(x[0])),
        )
        lying = self._torso.radii(np.array([-math.pi / 2]), np.arange(-265.0, 150.0, 5.0))[2]
        self._back_y_mm = -float(np.percentile(lying, 90)) * self.subject.scale[1]

    @property
    def region(self) -> tuple[str, ...]:
        """For each axial slice, from index 0 (lowest) upwards: chest or abdomen."""
        return tuple("chest" if z >= self.boundary_z_mm else "abdomen" for z in self.grid.axes_mm()[2])

    def slabs(self, threads: int | None = None) -> Iterator[Slab]:
        """All slices in order, computed ahead by a few threads; the result does not depend on their number."""
        threads = threads or min(os.cpu_count() or 1, 4)
        parts = max(round(self.grid.spacing_mm[2] / SUBSLICE_MM), 1)
        thickness = max(SLAB_VOXELS // (self.grid.shape[0] * self.grid.shape[1] * parts), 1)
        waiting: deque[Future[Slab]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, self.grid.shape[2], thickness):
                waiting.append(pool.submit(self._draw, start, min(start + thickness, self.grid.shape[2]), parts))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _draw(self, start: int, stop: int, parts: int) -> Slab:
        """Slices start..stop: anatomy and lesions on thin slices, averaged, then texture, noise and rounding."""
        x, y, z_all = self.grid.axes_mm()
        z = z_all[start:stop]
        offsets = ((np.arange(parts) + 0.5) / parts - 0.5) * self.grid.spacing_mm[2]
        thin_z = (z[:, None] + offsets[None, :]).astype(np.float32).ravel()
        canvas = Canvas(x, y, thin_z, edge_mm=max(self.grid.spacing_mm[0], self.grid.spacing_mm[1], 0.9))
        paint_couch(canvas, self._back_y_mm, self.grid.centre_ras_mm[0])
        self._paint_anatomy(canvas.hu, x, y, thin_z)
        share = paint_lesions(canvas, self.lesions)
        hu = canvas.hu.reshape(len(z), parts, len(y), len(x)).mean(axis=1)
        label = share.reshape(hu.shape[0], parts, *hu.shape[1:]).mean(axis=1) > 0.5
        self._texture.add(hu, x, y, z)
        for index in range(len(z)):
            hu[index] += self._noise.slice(start + index)
        image = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
        return Slab(start, image, label.astype(np.uint8))

    def _paint_anatomy(self, hu: Array, x: Array, y: Array, z: Array) -> None:
        """Paint on `hu` in atlas mm, the frame in which the anatomy is written."""
        sx, sy, sz = (np.float32(s) for s in self.subject.scale)
        edge_mm = max(self.grid.spacing_mm[0], self.grid.spacing_mm[1], 0.9) / float(np.mean(self.subject.scale))
        canvas_z = z / sz
        canvas = Canvas(x / sx, y / sy, canvas_z, edge_mm, hu)
        canvas.paint(limbs.limb_parts(self.subject))
        low, high = float(canvas_z.min()) - edge_mm, float(canvas_z.max()) + edge_mm
        trunk_window = canvas.window(self._torso.bounds(canvas_z[:, None, None]))
        if trunk_window is not None:
            trunk = canvas.crop(trunk_window)
            layers = self._torso.paint(trunk)
            trunk.paint(self._soft.between(low, high))
            skeleton.paint_ribs(trunk, layers, self.subject)
            skeleton.paint_skull(trunk, layers, self.subject)
        canvas.paint(self._bones.between(low, high))

    def _collect_parts(self) -> tuple[PartList, PartList]:
        """Everything with a shape of its own, in painting order."""
        subject, torso = self.subject, self._torso
        soft = abdomen.muscle_parts(subject) + thorax.lung_vessels(torso) + thorax.mediastinum(torso)
        soft += bowel.bowel_parts(subject) + abdomen.liver_parts(torso) + abdomen.spleen_parts(subject)
        soft += abdomen.kidney_parts(subject) + abdomen.pancreas_parts(subject) + abdomen.trunk_vessels(subject)
        front = float(torso.radii(np.array([math.pi / 2]), np.array([70.0]))[0][0])
        bones = skeleton.spine(subject) + skeleton.girdle(subject, front) + skeleton.pelvis(subject)
        return PartList(soft), PartList(bones)

    def _find_boundary(self) -> float:
        """RAS z in mm of the highest axial level at which the liver's area exceeds the lungs'."""
        x, y = (
            np.arange(-140, 141, 5, dtype=np.float32)[None, None, :],
            np.arange(-100, 96, 5, dtype=np.float32)[None, :, None],
        )
        z = np.arange(-140, 30, 2.0, dtype=np.float32)[:, None, None]
        lung = (thorax.lung_depth(self._torso, x, y, z) > 0).sum(axis=(1, 2))
        liver = (abdomen.liver_depth(self._torso, x, y, z) > 0).sum(axis=(1, 2))
        return float(z[np.flatnonzero(liver > lung)[-1], 0, 0]) * self.subject.scale[2]


def make_phantom(
    kind: Kind = "chest",
    seed: int = 0,
    shape: tuple[int, int, int] | None = None,
    spacing_mm: Vector | None = None,
    healthy: bool = False,
) -> Phantom:
    """One synthetic CT with its label.

    Args:
        kind: chest, abdomen or chest-abdomen.
        seed: the patient; the same arguments give the same voxels.
        shape: voxels (x, y, z); if None, `default_grid` chooses.
        spacing_mm: distance of voxel centres (x, y, z); if None, `default_grid` chooses.
        healthy: no lesion, an all-zero label.

    Raises:
        ValueError: a value out of its limits, or a field of view in which no lesion fits.

    """
    scan = Scan(kind, seed, shape, spacing_mm, healthy)
    nx, ny, nz = scan.grid.shape
    image = np.empty((nz, ny, nx), np.int16)
    label = np.empty((nz, ny, nx), np.uint8)
    for slab in scan.slabs():
        image[slab.start : slab.start + len(slab.image)] = slab.image
        label[slab.start : slab.start + len(slab.label)] = slab.label
    return Phantom(
        image.transpose(2, 1, 0),
        label.transpose(2, 1, 0),
        scan.grid.affine_ras,
        scan.grid.spacing_mm,
        scan.lesions,
        scan.region,
        scan.boundary_z_mm,
    )
