"""A mask as a DICOM segmentation object (SEG) of the series that it was made from. Needs the extra `dicom`."""

from __future__ import annotations

import importlib.util
import io
import logging
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfscreen.errors import InputError, OutputError, UsageError
from gfscreen.files import write_atomically
from gfscreen.scan.volume.dicom.headers import quiet
from gfscreen.scan.volume.dicom.read import located
from gfscreen.scan.volume.dicom.seg_source import SegSource, seg_source
from gfscreen.scan.volume.dicom.series import Series
from gfscreen.scan.volume.dicom.stack import Stack
from gfscreen.scan.volume.geometry import Geometry
from gfscreen.scan.volume.nifti import read_nifti
from gfscreen.version import __version__

logger = logging.getLogger(__name__)

# The UID of an object or of a part of one.
UIDOf = Callable[[str], str]
# Number of each voxel's lesion: uint8 or uint16.
Numbers = NDArray[np.unsignedinteger[Any]]
SEG_SUFFIX = ".seg.dcm"
# Series numbers of a study are usually below this; the SEG of series 3 becomes 1003.
_SERIES_NUMBER_OFFSET = 1000
_MOST_SERIES = 10**9
# The length of a value is a 32 bit number, and even.
_MOST_BYTES = 2**32 - 2
# Two grids are the same if their voxels meet within this part of a voxel.
_SAME_GRID = 0.02


def check_available() -> None:
    """Raise UsageError if highdicom is not installed."""
    if importlib.util.find_spec("highdicom") is None:
        raise UsageError("DICOM SEG needs highdicom, which is not installed; pip install 'gfscreen[dicom]'")


def read_mask_for_seg(path: Path) -> tuple[NDArray[np.uint8], Geometry]:
    """A NIfTI mask of {0, 1} (i, j, k) and its geometry. Raises InputError."""
    volume = read_nifti(path, labels=True)
    low, high = int(volume.hu.min()), int(volume.hu.max())
    if low < 0 or high > 1:
        raise InputError(f"{path.name}: expected a mask of 0 and 1, got values {low}..{high}; give a binary mask")
    return volume.hu.astype(np.uint8), volume.geometry


def check_series(source: Path, series: str | None = None) -> None:
    """See by the headers of the series that `read_dicom` takes of `source` that a SEG of it can be made.

    Reads headers alone. Raises OutputError, one line with all that stands in the way; InputError, UsageError.
    """
    check_available()
    with located(source, series, again=True) as (chosen, slices, _):
        made = _source_of(chosen, slices, source)
    # What else highdicom may refuse shows on one slice.
    i, j, _ = slices.geometry.shape
    alone = SegSource(made.images[:1], made.patient_name, made.series[:1])
    _encode(np.zeros((1, j, i), np.uint8), alone, _number_of(chosen), None, source)


def write_seg(
    target: Path,
    mask: Numbers,
    geometry: Geometry,
    source: Path,
    series: str | None = None,
    weights_digest: str | None = None,
    *,
    again: bool = False,
) -> None:
    """Write `mask`, (i, j, k) on `geometry`, as a SEG of the series that `read_dicom` takes of `source`.

    mask: number of each voxel's lesion, from 1 on without a gap; 0 is background. One binary segment per lesion, of the
    lesion's number, `Lesion 1` and on, and of each only the slices that hold some of it. Of an empty mask one segment,
    `Lesion`, with all slices. A mask whose axes are permuted or flipped against the series is turned; one on another
    grid is refused. Headers that are odd or incomplete are mended, with a word in the log. Appears whole or not at all.
    again: the series was read before, and the log has told which it is. Raises InputError, OutputError, UsageError.
    """
    content = encode_seg(mask, geometry, source, series, weights_digest, again=again).content
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, content)
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({error.strerror or error}); check the folder and the disk"
        ) from error


@dataclass(frozen=True)
class EncodedSeg:
    """A SEG as the content of a file, and what it was made of: the source images, the Series Number of the series."""

    content: bytes
    source: SegSource
    series_number: int


def encode_seg(
    mask: Numbers,
    geometry: Geometry,
    source: Path,
    series: str | None = None,
    weights_digest: str | None = None,
    *,
    again: bool = False,
    uid_of: UIDOf | None = None,
) -> EncodedSeg:
    """The SEG that `write_seg` writes. uid_of: the UID of `seg`, `seg series` and `lesion N`; None: random ones.

    Raises InputError, OutputError, UsageError.
    """
    check_available()
    with located(source, series, again=again) as (chosen, slices, _):
        frames = _frames(mask, geometry, slices, source)
        made = _source_of(chosen, slices, source)
    _check_size(frames, source)
    content, altered = _encode(frames, made, _number_of(chosen), weights_digest, source, uid_of)
    for what, keywords in (("mended or left empty", altered), ("made", made.made)):
        if keywords:
            logger.warning(
                "%s: headers are odd or incomplete; in the SEG %s: %s", source.name, what, ", ".join(keywords)
            )
    return EncodedSeg(content, made, chosen.number or 0)


def _number_of(series: Series) -> int:
    """Series Number of the SEG: that of the series, moved out of the way, if it has a usual one."""
    number = series.number or 0
    return _SERIES_NUMBER_OFFSET + (number if 0 < number < _MOST_SERIES else 0)


def _source_of(chosen: Series, slices: Stack, source: Path) -> SegSource:
    """The source images, mended. Raises OutputError for what cannot be mended, all in one line."""
    made = seg_source(slices)
    if made.problems:
        name = "a series without number" if chosen.number is None else f"series {chosen.number}"
        raise OutputError(
            f"{source.name}: no SEG can be made of {name}: {'; '.join(made.problems)}; repair these headers, or go "
            "without SEG"
        )
    return made


def _frames(mask: Numbers, geometry: Geometry, slices: Stack, source: Path) -> Numbers:
    """The mask in the order of the series' pixels: (slice, row, column)."""
    # Voxel of the mask -> voxel of the series: a signed permutation and a shift if the grids are the same.
    change = np.linalg.inv(slices.geometry.affine_ras_mm) @ geometry.affine_ras_mm
    turn = np.rint(change[:3, :3])
    size = np.array(slices.geometry.shape)
    proper = np.array_equal(np.abs(turn).sum(axis=0), np.ones(3)) and np.array_equal(
        np.abs(turn).sum(axis=1), np.ones(3)
    )
    corner = np.where(turn.sum(axis=1) < 0, size - 1, 0)
    stray = np.abs((change[:3, :3] - turn) * np.array(geometry.shape)).sum(axis=1) + np.abs(change[:3, 3] - corner)
    if not proper or stray.max() > max(_SAME_GRID, 1e-4 * size.max()) or _turned(geometry.shape, turn) != tuple(size):
        raise InputError(
            f"{source.name}: expected a mask on the grid of the series, {slices.geometry.shape} voxels of "
            f"{np.round(slices.geometry.spacing_mm, 3).tolist()} mm, got {geometry.shape} voxels of "
            f"{np.round(geometry.spacing_mm, 3).tolist()} mm at another place; choose the series with --series"
        )
    axes = [int(np.abs(turn[axis]).argmax()) for axis in range(3)]
    flipped = [slice(None, None, -1) if turn[axis].sum() < 0 else slice(None) for axis in range(3)]
    frames: Numbers = np.ascontiguousarray(mask.transpose(axes)[tuple(flipped)].transpose(2, 1, 0))
    return frames


def _check_size(frames: Numbers, source: Path) -> None:
    """Raise OutputError for more pixels than the value of one DICOM element holds."""
    count = sum(np.unique(frame[frame > 0]).size for frame in frames if frame.any())
    size = count * math.ceil(frames[0].size / 8)
    if size > _MOST_BYTES:
        raise OutputError(
            f"{source.name}: a SEG of {int(frames.max(initial=0))} lesions in {count} frames would hold {size} bytes "
            f"of pixels, at most {_MOST_BYTES} fit; raise the plan's min_finding_ml, or go without SEG"
        )


def _turned(shape: tuple[int, int, int], turn: NDArray[np.float64]) -> tuple[int, ...]:
    return tuple(int(n) for n in np.abs(turn) @ np.array(shape))


def _encode(
    frames: Numbers,
    made: SegSource,
    series_number: int,
    weights_digest: str | None,
    source: Path,
    uid_of: UIDOf | None = None,
) -> tuple[bytes, list[str]]:
    """The SEG as a file, and keywords of what it has otherwise than the headers. Raises OutputError.

    frames: (slice, row, column), one per image of `made`.
    """
    import highdicom as hd
    from pydicom.config import disable_value_validation
    from pydicom.sr.codedict import codes

    algorithm = hd.AlgorithmIdentificationSequence(
        name="GF-Screen",
        family=codes.DCM.ArtificialIntelligence,
        version=__version__,
        parameters=None if weights_digest is None else {"weights sha256": weights_digest},
    )
    uid_of = uid_of or (lambda _: str(hd.UID()))
    lesions = int(frames.max(initial=0))
    labels = [f"Lesion {number}" for number in range(1, lesions + 1)] or ["Lesion"]
    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Lesion,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_id=label,
            tracking_uid=uid_of(label.lower()),
        )
        for number, label in enumerate(labels, start=1)
    ]
    try:
        # All is mended but UIDs, which may be invalid.
        with quiet(), disable_value_validation():
            seg: Any = hd.seg.Segmentation(
                source_images=made.images,
                pixel_array=frames,
                segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=segments,
                series_instance_uid=uid_of("seg series"),
                series_number=series_number,
                sop_instance_uid=uid_of("seg"),
                instance_number=1,
                manufacturer="GF-Screen for FLARE",
                manufacturer_model_name="gfscreen",
                software_versions=__version__,
                device_serial_number=(weights_digest or "unknown")[:16],
                content_description="Lesions outlined by software; for research, not for diagnosis",
                content_label="LESIONS",
                series_description="Lesions (GF-Screen)",
                omit_empty_frames=lesions > 0,
            )
            seg.PatientName = made.patient_name
            _refer_to_series(seg, made)
            buffer = io.BytesIO()
            seg.save_as(buffer)
    except Exception as error:  # highdicom and pydicom raise many kinds for headers that they do not expect
        raise OutputError(
            f"{source.name}: no SEG can be made of this series ({type(error).__name__}: {error}); repair its headers, "
            "or go without SEG"
        ) from error
    return buffer.getvalue(), [keyword for keyword in dict.fromkeys(made.changed) if keyword in seg]


def _refer_to_series(seg: Any, made: SegSource) -> None:
    """Name each image under its own series, where several were taken as one."""
    from pydicom.dataset import Dataset

    if len(set(made.series)) == 1:
        return
    items: dict[str, list[Any]] = defaultdict(list)
    for uid, reference in zip(made.series, seg.SourceImageSequence, strict=True):
        items[uid].append(reference)
    seg.ReferencedSeriesSequence = []
    for uid, references in items.items():
        item = Dataset()
        item.SeriesInstanceUID, item.ReferencedInstanceSequence = uid, references
        seg.ReferencedSeriesSequence.append(item)
