"""Of which scan a mask was made: a fingerprint in the comment of the mask's gzip header, which no image reader sees.

Two patients' folders may both be called DICOM: their masks then have one name, and one must not replace the other.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from gfscreen.scan.volume.geometry import Volume

_PREFIX = b"gfscreen: mask of scan "
_HEADER_BYTES = 10
_COMMENT_FLAG = 0x10
_MOST_COMMENT_BYTES = 200
# Every so many voxels along each axis: enough to tell two patients apart, and no time.
_STEP = 5


def fingerprint(volume: Volume) -> str:
    """16 hexadecimal digits of a scan's grid and HU. The same scan has the same, whatever its file is called."""
    geometry = volume.geometry
    digest = hashlib.sha256(str((geometry.shape, np.round(geometry.affine_ras_mm, 3).tolist())).encode())
    digest.update(np.ascontiguousarray(volume.hu[::_STEP, ::_STEP, ::_STEP]).tobytes())
    return digest.hexdigest()[:16]


def note_of(scan: str) -> bytes:
    """The comment for the mask of the scan with this fingerprint."""
    return _PREFIX + scan.encode("ascii")


def comment_of(head: bytes) -> bytes:
    """The comment in the beginning of a gzip file; empty without one, or where it is no gzip file."""
    if head[:3] != b"\x1f\x8b\x08" or not head[3:4] or head[3] != _COMMENT_FLAG:
        return b""
    return head[_HEADER_BYTES:].partition(b"\0")[0]


def made_of(mask: Path) -> str | None:
    """Fingerprint of the scan that a mask file was made of; None if it does not say. Raises OSError."""
    with mask.open("rb") as stream:
        comment = comment_of(stream.read(_HEADER_BYTES + _MOST_COMMENT_BYTES))
    return comment.removeprefix(_PREFIX).decode("ascii", "replace") if comment.startswith(_PREFIX) else None
