"""What is done to a drawn sub-volume so that few scans stand for many: image and label move together.

image float32 (channels, x, y, z) in [0, 1], each channel after an HU window; label uint8 (x, y, z), 0, 1 or IGNORE.
Both are new arrays. All channels move alike and get the same noise; brightness, contrast and gamma are drawn for each.
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
            image, label = np.flip(image, axis + 1), np.flip(label, axis)
    if label.shape[0] == label.shape[1] and rng.random() < 0.5:
        image, label = np.rot90(image, axes=(1, 2)), np.rot90(label)
    if rng.random() < 0.2:
        image = np.stack([channel * (1 + rng.uniform(-0.1, 0.1)) + rng.uniform(-0.1, 0.1) for channel in image])
    if rng.random() < 0.2:
        image = image + rng.uniform(0, 0.03) * rng.standard_normal(label.shape, dtype=np.float32)
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
        centre = (np.asarray(label.shape) - 1) / 2
        offset = centre - matrix @ centre
        image = np.stack(
            [ndimage.affine_transform(channel, matrix, offset, order=1, mode="mirror") for channel in image]
        )
        label = ndimage.affine_transform(label, matrix, offset, order=0, mode="constant", cval=IGNORE)
    if rng.random() < 1 / 3:
        image = np.stack([c ** np.float32(np.exp(rng.uniform(np.log(0.65), np.log(1.5)))) for c in image])
    if rng.random() < 1 / 3:
        image = np.stack([_contrast(rng, channel) for channel in image])
    if rng.random() < 1 / 6:
        blur = rng.uniform(0.4, 1.2)
        image = ndimage.gaussian_filter(image, (0, blur, blur, 0))
    return np.ascontiguousarray(np.clip(image, 0, 1), dtype=np.float32), np.ascontiguousarray(label)


def _contrast(rng: np.random.Generator, channel: FloatArray) -> FloatArray:
    """The channel with another contrast and brightness."""
    middle = channel.mean()
    changed: FloatArray = (channel - middle) * rng.uniform(0.75, 1.25) + middle + rng.uniform(-0.15, 0.15)
    return changed
