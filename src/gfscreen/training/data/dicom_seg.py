"""CT series and DICOM segmentation objects, as The Cancer Imaging Archive gives them, to arrays on the CT's grid.

The folder is that of the NBIA Data Retriever: one folder per series, whatever lies above. A segmentation object names
the series that it was drawn on; several objects on one series (LIDC's readers) are joined.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from gfscreen.errors import InputError
from gfscreen.scan.volume import read_volume
from gfscreen.scan.volume.geometry import Geometry, Volume

log = logging.getLogger(__name__)

SPACING_TOLERANCE_MM = 0.01
OFF_GRID = 0.25  # of a voxel: pixels farther from any voxel's centre belong to another series
LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


def _header(path: Path) -> Any:
    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except (OSError, pydicom.errors.InvalidDicomError) as error:
        raise InputError(f"{path}: not readable as DICOM ({error}); download the series again") from error


def find_series(source: Path) -> list[tuple[str, Path, tuple[Path, ...]]]:
    """Name, folder of the CT series and segmentation files of every segmented scan, by patient.

    The name is the patient's id, with _2, _3, ... where one patient has several segmented series. CT series without
    segmentation are left out. Raises InputError for a segmentation whose CT series is missing.
    """
    series: dict[str, Path] = {}
    segmentations: list[tuple[str, str, Path]] = []
    for folder in sorted({path.parent for path in source.rglob("*.dcm")}):
        files = sorted(folder.glob("*.dcm"))
        first = _header(files[0])
        if first.Modality == "CT":
            series[str(first.SeriesInstanceUID)] = folder
        elif first.Modality == "SEG":
            for path in files:
                header = _header(path)
                if not header.get("ReferencedSeriesSequence"):
                    raise InputError(f"{path}: the segmentation names no CT series; remove it, or convert it by hand")
                uid = str(header.ReferencedSeriesSequence[0].SeriesInstanceUID)
                segmentations.append((str(header.PatientID), uid, path))
    found: dict[tuple[str, str], list[Path]] = {}
    for patient, uid, path in segmentations:
        if uid not in series:
            raise InputError(f"{path}: was drawn on CT series {uid}, which is not below {source}; download the series")
        found.setdefault((patient, uid), []).append(path)
    if left := len(series) - len(found):
        log.info("%s: %d CT series without segmentation left out", source, left)
    cases: list[tuple[str, Path, tuple[Path, ...]]] = []
    count: dict[str, int] = {}
    for patient, uid in sorted(found):
        count[patient] = count.get(patient, 0) + 1
        name = patient if count[patient] == 1 else f"{patient}_{count[patient]}"
        cases.append((name, series[uid], tuple(sorted(found[patient, uid]))))
    return cases


def read_ct(folder: Path) -> Volume:
    """The CT series of a folder in HU. Raises InputError, also for missing slices."""
    return read_volume(folder)


def _chosen(path: Path, header: Any, lesion: Sequence[str], other: Sequence[str]) -> set[int]:
    """Numbers of the segments that are lesions. Raises InputError for a segment of an unknown name."""
    chosen = set()
    for segment in header.SegmentSequence:
        if header.get("SegmentationType") == "LABELMAP" and segment.SegmentNumber == header.get("PixelPaddingValue", 0):
            continue  # a label map has a segment for where there is none
        names = [str(segment.get(key, "")).lower() for key in ("SegmentLabel", "SegmentDescription")]
        if not lesion or any(name.startswith(tuple(lesion)) for name in names):
            chosen.add(int(segment.SegmentNumber))
        elif not any(name.startswith(tuple(other)) for name in names):
            raise InputError(
                f"{path}: segment {str(segment.get('SegmentLabel', ''))!r} is unknown; known are names that begin with "
                f"{', '.join((*lesion, *other))}"
            )
    return chosen


def read_label(
    paths: Sequence[Path], geometry: Geometry, lesion: Sequence[str] = (), other: Sequence[str] = ()
) -> NDArray[np.uint8]:
    """Lesions of the segmentation objects on the CT's grid: uint8 (i, j, k), 0 and 1, the union of all.

    An object may be binary, fractional (above one half) or a label map, whose pixels are numbers of segments.
    lesion, other: beginnings of segments' names, in lower case; without `lesion` every segment is one. Raises
    InputError for other names, for another pixel spacing than the CT's, and for a frame outside the CT's slices.
    """
    label = np.zeros(geometry.shape, dtype=np.uint8)
    to_voxel: NDArray[np.float64] = np.linalg.inv(geometry.affine_ras_mm).astype(np.float64)
    for path in paths:
        data = pydicom.dcmread(path)
        chosen = _chosen(path, data, lesion, other)
        pixels = data.pixel_array
        label_map = data.get("SegmentationType") == "LABELMAP"
        if label_map:
            pixels = np.isin(pixels, sorted(chosen))
        elif data.get("SegmentationType") == "FRACTIONAL":
            pixels = 2 * pixels.astype(np.int32) > int(data.MaximumFractionalValue)
        frames = pixels if pixels.ndim == 3 else pixels[None]
        shared = data.SharedFunctionalGroupsSequence[0]
        for frame, group in zip(frames, data.PerFrameFunctionalGroupsSequence, strict=True):
            if not label_map:
                segment = _of(group, shared, "SegmentIdentificationSequence", path)
                if segment.ReferencedSegmentNumber not in chosen:
                    continue
            rows, columns = np.nonzero(frame)
            if not rows.size:
                continue
            voxels = _voxels(rows, columns, group, shared, to_voxel, geometry, path)
            label[tuple(voxels.T)] = 1
    return label


def _of(group: Any, shared: Any, key: str, path: Path) -> Any:
    """An item of the frame's own functional groups, else of the shared ones."""
    for place in (group, shared):
        if place.get(key):
            return place.get(key)[0]
    raise InputError(f"{path}: a frame lacks its {key}; download the file again")


def _voxels(
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    group: Any,
    shared: Any,
    to_voxel: NDArray[np.float64],
    geometry: Geometry,
    path: Path,
) -> NDArray[np.intp]:
    """Voxels (n, 3) of the CT under the pixels of a frame. Raises InputError if they do not lie on its grid."""
    measures = _of(group, shared, "PixelMeasuresSequence", path)
    row_mm, column_mm = (float(v) for v in measures.PixelSpacing)
    directions = np.array(_of(group, shared, "PlaneOrientationSequence", path).ImageOrientationPatient, dtype=float)
    origin = np.array(_of(group, shared, "PlanePositionSequence", path).ImagePositionPatient, dtype=float)
    # Step along a row (the column index grows) and down a column, in the patient's frame, LPS, mm.
    steps = np.stack([directions[:3] * column_mm, directions[3:] * row_mm])
    spacing = np.array(geometry.spacing_mm)
    in_voxels = (steps * LPS_TO_RAS) @ to_voxel[:3, :3].T
    if np.abs(np.abs(in_voxels).max(axis=1) - 1).max() * spacing[:2].max() > SPACING_TOLERANCE_MM:
        raise InputError(
            f"{path}: pixels of {row_mm:g} x {column_mm:g} mm do not lie on the CT's grid of "
            f"{' x '.join(f'{v:g}' for v in spacing)} mm; resample the segmentation"
        )
    points_lps = origin + np.stack([columns, rows], axis=1) @ steps
    exact = (points_lps * LPS_TO_RAS) @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    voxels: NDArray[np.intp] = np.rint(exact).astype(np.intp)
    if np.abs(exact - voxels).max() > OFF_GRID or (voxels < 0).any() or (voxels >= geometry.shape).any():
        raise InputError(
            f"{path}: a frame at {origin.tolist()} (LPS, mm) lies outside the CT's slices; check the series"
        )
    return voxels
