"""What is done to a drawn sub-volume so that few scans stand for many: image and label move together.

image float32 (x, y, z) in [0, 1] after the HU window; label uint8 (x, y, z), 0, 1 or IGNORE. Both are new arrays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.training.objectives import IGNORE
from gfscreen.training.synthesis.lesion_bank import FloatArray


def augment(
    rng: np.random.Generator, image: FloatArray, label: NDArray[np.uint8]
) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Flips (each axis, 1/2), a quarter turn about z (1/2), intensity scale and shift to 0.1 (1/5), noise (1/5).

    The published probabilities are 0.2, 0.2 and 0.1: with a few scans more is needed.
    """
    for axis in range(3):
        if rng.random() < 0.5:
            image, label = np.flip(image, axis), np.flip(label, axis)
    if image.shape[0] == image.shape[1] and rng.random() < 0.5:
        image, label = np.rot90(image), np.rot90(label)
    if rng.random() < 0.2:
        image = image * (1 + rng.uniform(-0.1, 0.1)) + rng.uniform(-0.1, 0.1)
    if rng.random() < 0.2:
        image = image + rng.uniform(0, 0.03) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.ascontiguousarray(np.clip(image, 0, 1), dtype=np.float32), np.ascontiguousarray(label)


def distort(
    rng: np.random.Generator, image: FloatArray, label: NDArray[np.uint8]
) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Turn about z and zoom in plane (1/2), and change gamma (1/3), brightness and contrast (1/3), sharpness (1/6).

    For when a few scans must stand for all. Any angle, zoom 0.75 to 1.3, gamma 0.65 to 1.5, contrast 0.75 to 1.25,
    brightness to 0.15, blur to 1.2 voxels in plane. What comes from beyond the sub-volume mirrors it, labelled IGNORE.
    """
    if rng.random() < 0.5:
        angle, zoom = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(np.log(0.75), np.log(1.3)))
        cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
        matrix = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        centre = (np.asarray(image.shape) - 1) / 2
        offset = centre - matrix @ centre
        image = ndimage.affine_transform(image, matrix, offset, order=1, mode="mirror")
        label = ndimage.affine_transform(label, matrix, offset, order=0, mode="constant", cval=IGNORE)
    if rng.random() < 1 / 3:
        image = image ** np.float32(np.exp(rng.uniform(np.log(0.65), np.log(1.5))))
    if rng.random() < 1 / 3:
        middle = image.mean()
        image = (image - middle) * rng.uniform(0.75, 1.25) + middle + rng.uniform(-0.15, 0.15)
    if rng.random() < 1 / 6:
        blur = rng.uniform(0.4, 1.2)
        image = ndimage.gaussian_filter(image, (blur, blur, 0))
    return np.ascontiguousarray(np.clip(image, 0, 1), dtype=np.float32), np.ascontiguousarray(label)
