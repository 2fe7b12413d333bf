"""A small picture of a case for the worklist: one axial slice through the largest finding, its outline in colour.

No plotting library: workers need none.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.results.preview.reading_windows import PRESETS
from gfscreen.scan.volume import Volume
from gfscreen.scan.volume.ras import ras_spacing, ras_view, ras_view_of

SIDE_PIXELS = 112
# Of `planes.PREDICTION`.
_OUTLINE = (0xFF, 0x6A, 0x3D)


def thumbnail(volume: Volume, mask: NDArray[np.generic], voxel: tuple[int, int, int] | None, *, chest: bool) -> bytes:
    """A PNG of at most 112 x 112 pixels, radiological: the patient's right on the left, the front on top.

    mask: (i, j, k), whatever is above 0. voxel: (x, y, z) of the RAS view that the slice goes through; None: the
    middle. chest: seen in the lung window, else in that of soft tissue.
    """
    view = ras_view(volume.hu, volume)
    z = view.shape[2] // 2 if voxel is None else voxel[2]
    plane = np.asarray(view[:, :, z], np.float32)
    marked = np.asarray(ras_view_of(mask, volume.geometry)[:, :, z]) > 0
    mm = ras_spacing(volume)
    size_mm = np.array(plane.shape) * np.array(mm[:2])
    pixels = np.maximum(1, np.rint(SIDE_PIXELS * size_mm / size_mm.max())).astype(int)
    places = [(np.arange(n) + 0.5) * old / n - 0.5 for n, old in zip(pixels, plane.shape, strict=True)]
    grid = np.meshgrid(*places, indexing="ij")
    # A mean over what a pixel covers keeps small things; the nearest voxel would miss them.
    reach = [max(1, int(old / n)) for n, old in zip(pixels, plane.shape, strict=True)]
    grey = ndimage.map_coordinates(ndimage.uniform_filter(plane, reach), grid, order=1, mode="nearest")
    found = ndimage.map_coordinates(ndimage.maximum_filter(marked.astype(np.uint8), reach), grid, order=0) > 0
    window = PRESETS["lung" if chest else "soft"].hu
    shown = np.clip((grey - window.low_hu) / (window.high_hu - window.low_hu), 0.0, 1.0) * 255
    picture = np.repeat(shown.astype(np.uint8)[..., None], 3, axis=2)
    picture[ndimage.binary_dilation(found) & ~found] = _OUTLINE
    # Rows from the front to the back, columns from the patient's right to the left: both axes of the view turned.
    return png(picture[::-1, ::-1].transpose(1, 0, 2))


def png(picture: NDArray[np.uint8]) -> bytes:
    """RGB (rows, columns, 3) as a PNG file."""
    rows, columns = picture.shape[:2]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = b"".join(b"\0" + line.tobytes() for line in np.ascontiguousarray(picture))
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")
