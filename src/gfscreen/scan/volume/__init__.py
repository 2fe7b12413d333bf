"""A scan and its geometry: read, repair, write. The only place where file axes and patient frames meet.

Arrays are indexed (i, j, k) along the axes of the file; affines map voxel indices to RAS+ millimetres, as NIfTI does.
"""

from gfscreen.scan.volume.files import (
    finished_mask,
    read_volume,
    write_empty_mask,
    write_map,
    write_mask,
)
from gfscreen.scan.volume.geometry import Geometry, Volume
from gfscreen.scan.volume.inputs import InputCase, find_cases

__all__ = [
    "Geometry",
    "InputCase",
    "Volume",
    "find_cases",
    "finished_mask",
    "read_volume",
    "write_empty_mask",
    "write_map",
    "write_mask",
]
