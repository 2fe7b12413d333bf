"""What makes the picture grainy: the texture of tissues, fixed in the patient, and the noise of the scanner."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from eval.phantom.shapes import Array
from eval.phantom.subject import Subject

TILE = 72
TEXEL_MM = 2.2
# HU -> standard deviation of the texture: lung is coarse, fat and organs are even, marrow is coarse.
TEXTURE_KNOTS = (
    (-1000, 0),
    (-965, 0),
    (-930, 16),
    (-800, 24),
    (-600, 18),
    (-200, 8),
    (-60, 5),
    (200, 4.5),
    (350, 40),
    (900, 60),
)
# Noise power peaks near this frequency, as after a soft-tissue kernel.
NOISE_CUT_PER_MM = 0.32


class Texture:
    """A periodic block of smooth noise in patient mm, so that two samplings of one patient show the same texture."""

    def __init__(self, subject: Subject) -> None:
        white = subject.rng(20).normal(size=(TILE, TILE, TILE)).astype(np.float32)
        smooth = ndimage.gaussian_filter(white, 0.8, mode="wrap") + 3 * ndimage.gaussian_filter(white, 2.3, mode="wrap")
        self._tile = (smooth / smooth.std()).astype(np.float32)
        knots = np.array(TEXTURE_KNOTS, dtype=float)
        self._size = np.interp(np.arange(-1024, 3072), knots[:, 0], knots[:, 1]).astype(np.float32)

    def add(self, hu: Array, x_mm: Array, y_mm: Array, z_mm: Array) -> None:
        """Add texture in place to `hu` (nz, ny, nx), as strong as the tissue there has it."""
        for axis_z, plane_hu in zip(z_mm, hu, strict=True):
            low, high, share = (a[0] for a in _lookup(np.asarray([axis_z])))
            plane = self._tile[low] * (1 - share) + self._tile[high] * share
            low, high, share = _lookup(y_mm)
            plane = plane[low] * (1 - share)[:, None] + plane[high] * share[:, None]
            low, high, share = _lookup(x_mm)
            plane = plane[:, low] * (1 - share) + plane[:, high] * share
            plane_hu += plane * self._size[np.clip(plane_hu + 1024, 0, 4095).astype(np.int16)]


def _lookup(position_mm: Array) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    position = np.asarray(position_mm, np.float32) / np.float32(TEXEL_MM)
    low = np.floor(position)
    index = low.astype(np.intp) % TILE
    return index, (index + 1) % TILE, position - low


class Noise:
    """Correlated noise, slice by slice; each slice has its own stream, so slabs of any thickness give the same scan.

    Args:
        sigma_hu: standard deviation in the middle of the patient for 2.5 mm slices; thinner slices have more.
        shape_yx, spacing_yx_mm: the slice.
        centre_yx_mm: the patient's axis relative to the first voxel: most rays are lost there.

    """

    def __init__(
        self,
        subject: Subject,
        sigma_hu: float,
        shape_yx: tuple[int, int],
        spacing_yx_mm: tuple[float, float],
        slice_mm: float,
        centre_yx_mm: tuple[float, float],
    ) -> None:
        self._subject, self._shape = subject, shape_yx
        fy = np.fft.fftfreq(shape_yx[0], spacing_yx_mm[0])[:, None]
        fx = np.fft.rfftfreq(shape_yx[1], spacing_yx_mm[1])[None, :]
        frequency = np.hypot(fy, fx)
        amplitude = np.sqrt(frequency + 0.01) * np.exp(-np.square(frequency / NOISE_CUT_PER_MM))
        weights = np.full(amplitude.shape, 2.0)
        weights[:, 0] = 1.0
        if shape_yx[1] % 2 == 0:
            weights[:, -1] = 1.0
        # Standard deviation 1 after the inverse transform of white noise times the amplitude.
        power = float((np.square(amplitude) * weights).sum()) / (shape_yx[0] * shape_yx[1])
        self._amplitude = (amplitude / np.sqrt(power)).astype(np.float32)
        y = np.arange(shape_yx[0])[:, None] * spacing_yx_mm[0] - centre_yx_mm[0]
        x = np.arange(shape_yx[1])[None, :] * spacing_yx_mm[1] - centre_yx_mm[1]
        spread = 0.45 + 0.6 * np.exp(-(np.square(x / 150) + np.square(y / 110)))
        thin = float(np.clip(np.sqrt(2.5 / slice_mm), 0.6, 1.7))
        self._sigma = (sigma_hu * thin * spread).astype(np.float32)

    def slice(self, index: int) -> Array:
        """Noise of one slice (ny, nx) in HU."""
        rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence([*self._subject.rng_key, 21, index])))
        white = rng.standard_normal(self._shape, dtype=np.float32)
        coloured = fft.irfft2(fft.rfft2(white) * self._amplitude, s=self._shape)
        result: Array = coloured * self._sigma
        return result
