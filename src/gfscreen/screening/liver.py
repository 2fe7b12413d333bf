"""The liver of a scan with contrast medium, by its density alone: large, thick, even, brighter than muscle.

No network: what is asked is where parenchyma lies and how bright it is, so that what is darker in it can be told.
Without contrast medium a liver is no brighter than what lies around it, and none is found. Arrays are (x, y, z).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.scan.boxes import BoxSlices
from gfscreen.scan.grid import ModelScan
from gfscreen.scan.parts import FACES, largest_part

# Looked for on blocks of about so many mm a side.
COARSE_MM = 3.0
# Enhanced parenchyma: above muscle and blood without contrast medium, below vessels, kidneys and bone.
PARENCHYMA_HU = (75.0, 160.0)
# Where it is this far from all that is not, it has at least the second volume.
DEEP_MM = 6.0
LEAST_DEEP_ML = 100.0
# Its commonest density: of a histogram in steps of 2 HU. The liver is what hangs together within 15 HU of it, without
# strands, and then within 20.
STEP_HU = 2.0
EVEN_HU = (15.0, 20.0)
LEAST_ML = 400.0


@dataclass(frozen=True)
class Liver:
    """Parenchyma of the liver, and of what hangs together with it at the same density.

    parenchyma: bool on blocks of the cropped model grid. block_voxels: model voxels per block. hu: its commonest HU.
    """

    parenchyma: NDArray[np.bool_]
    block_voxels: tuple[int, int, int]
    hu: float

    def near(self, part: tuple[slice, ...], blocks: int) -> NDArray[np.bool_]:
        """Whether voxels of a part of the grid lie within so many blocks of parenchyma, at least 1, along the axes."""
        near = ndimage.binary_dilation(self.parenchyma, FACES, iterations=blocks)
        index = [
            np.minimum(np.arange(side.start, side.stop) // step, count - 1)
            for side, step, count in zip(part, self.block_voxels, near.shape, strict=True)
        ]
        found: NDArray[np.bool_] = near[np.ix_(*index)]
        return found

    def box(self) -> BoxSlices:
        """The box of the cropped model grid that holds it all."""
        (blocks,) = ndimage.find_objects(self.parenchyma.view(np.uint8))
        x, y, z = (slice(s.start * n, s.stop * n) for s, n in zip(blocks, self.block_voxels, strict=True))
        return x, y, z


def find_liver(scan: ModelScan) -> Liver | None:
    """The liver; None where nothing looks like one with contrast medium."""
    spacing_mm = scan.grid.spacing_mm
    x, y, z = (max(1, round(COARSE_MM / mm)) for mm in spacing_mm)
    means = _means(scan.hu, (x, y, z))
    if not means.size:
        return None
    hu = ndimage.gaussian_filter(means, (0.0, 0.0, 0.5))
    body = scan.body[x // 2 :: x, y // 2 :: y, z // 2 :: z][tuple(slice(0, n) for n in hu.shape)]
    mm = (x * spacing_mm[0], y * spacing_mm[1], z * spacing_mm[2])
    ml = float(np.prod(mm)) / 1000.0
    bright = (hu > PARENCHYMA_HU[0]) & (hu < PARENCHYMA_HU[1]) & body
    deep = largest_part(ndimage.binary_erosion(bright, FACES, iterations=max(1, round(DEEP_MM / COARSE_MM))))
    if np.count_nonzero(deep) * ml < LEAST_DEEP_ML:
        return None
    counts, edges = np.histogram(hu[deep], bins=np.arange(PARENCHYMA_HU[0], PARENCHYMA_HU[1] + 1.0, STEP_HU))
    commonest = float(edges[np.convolve(counts, np.ones(3), "same").argmax()]) + STEP_HU / 2
    off = np.abs(hu - commonest)
    even = ndimage.binary_opening((off < EVEN_HU[0]) & body, FACES)
    parenchyma = largest_part(ndimage.binary_dilation(even, FACES) & (off < EVEN_HU[1]) & body)
    if np.count_nonzero(parenchyma) * ml < LEAST_ML:
        return None
    return Liver(parenchyma, (x, y, z), commonest)


def _means(hu: NDArray[np.float32], blocks: tuple[int, int, int]) -> NDArray[np.float32]:
    """Means of whole blocks of voxels; of what is left over at the far ends there is none."""
    means = hu
    for axis, size in enumerate(blocks):
        whole = [slice(None)] * 3
        whole[axis] = slice(0, means.shape[axis] // size * size)
        shape = list(means.shape)
        shape[axis : axis + 1] = [means.shape[axis] // size, size]
        means = means[tuple(whole)].reshape(shape).mean(axis=axis + 1, dtype=np.float32)
    return means
