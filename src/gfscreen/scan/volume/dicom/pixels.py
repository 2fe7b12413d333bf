"""The pixels of one slice as Hounsfield units: stored values, rescaled by the slice's own header.

pydicom gives stored values as the standard defines them. What it would need further packages for (JPEG and its
successors) GDCM decompresses, behind SimpleITK, which is here anyway: it is handed a frame alone, without slope,
padding or display, because it applies the first slice's rescale to a whole series, inverts MONOCHROME1 and cuts
fractions off.
"""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.errors import InputError
from gfscreen.scan.volume.dicom.headers import read_dataset

AIR_HU = -1024
# HU that occur in patients: a padding value among them cannot be told from tissue by its value alone.
_TISSUE_HU = (-900.0, 3071.0)
_INT16 = np.iinfo(np.int16)
_PLUGIN = "gfscreen"
# What the plugin decompresses; pydicom knows these by name.
_COMPRESSED = {
    "1.2.840.10008.1.2.4.50": "JPEGBaseline8BitDecoder",
    "1.2.840.10008.1.2.4.51": "JPEGExtended12BitDecoder",
    "1.2.840.10008.1.2.4.57": "JPEGLosslessDecoder",
    "1.2.840.10008.1.2.4.70": "JPEGLosslessSV1Decoder",
    "1.2.840.10008.1.2.4.80": "JPEGLSLosslessDecoder",
    "1.2.840.10008.1.2.4.81": "JPEGLSNearLosslessDecoder",
    "1.2.840.10008.1.2.4.90": "JPEG2000LosslessDecoder",
    "1.2.840.10008.1.2.4.91": "JPEG2000Decoder",
    "1.2.840.10008.1.2.4.201": "HTJ2KLosslessDecoder",
    "1.2.840.10008.1.2.4.202": "HTJ2KLosslessRPCLDecoder",
    "1.2.840.10008.1.2.4.203": "HTJ2KDecoder",
}
_PLAIN = {
    "1.2.840.10008.1.2",  # implicit little endian
    "1.2.840.10008.1.2.1",  # explicit little endian
    "1.2.840.10008.1.2.1.99",  # deflated
    "1.2.840.10008.1.2.2",  # explicit big endian
    "1.2.840.10008.1.2.5",  # RLE
}
# Newer than pydicom's dictionary.
_NAMES = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
}
_thread = threading.local()


def unread_syntax(uid: str) -> str | None:
    """Name and UID of a transfer syntax that is not read; None for one that is, or none at all (bare data sets)."""
    if not uid or uid in _PLAIN or uid in _COMPRESSED:
        return None
    from pydicom.uid import UID

    name = _NAMES.get(uid) or UID(uid).name
    return uid if name == uid else f"{name} ({uid})"


def read_slice(path: Path) -> tuple[NDArray[np.int16], int]:
    """HU int16 (row, column) of one slice, and how many voxels were clipped to int16.

    Raises InputError, named by the file, for pixels that cannot be read.
    """
    try:
        dataset = read_dataset(path, pixels=True)
        return to_hu(stored_values(dataset), dataset)
    except (OSError, MemoryError, InputError):
        raise
    except Exception as error:  # pydicom raises many kinds for damaged pixels
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path.name} is a damaged CT slice ({reason[:200]}); copy it again") from error


def stored_values(dataset: Any) -> NDArray[Any]:
    """Stored values (row, column), integers, as the standard defines them: unused bits off, sign extended."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import ImplicitVRLittleEndian

    if "PixelData" not in dataset:
        raise ValueError("no pixel data")
    syntax = str(getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", "") or ImplicitVRLittleEndian)
    decoder = get_decoder(syntax)
    if syntax in _COMPRESSED and _PLUGIN not in decoder.available_plugins:
        decoder.add_plugin(_PLUGIN, (__name__, "decode_frame"))
    options = {"decoding_plugin": _PLUGIN} if syntax in _COMPRESSED else {}
    options |= {} if hasattr(dataset, "file_meta") else {"transfer_syntax_uid": ImplicitVRLittleEndian}
    stored: NDArray[Any] = decoder.as_array(dataset, raw=True, **options)[0]
    if stored.ndim != 2:
        raise ValueError(f"expected one plane, got shape {stored.shape}")
    return stored


def to_hu(stored: NDArray[Any], dataset: Any) -> tuple[NDArray[np.int16], int]:
    """Stored values (row, column) -> HU int16 by slope and intercept of this slice, rounded; padding becomes air."""
    slope, intercept = _number(dataset, "RescaleSlope", 1.0), _number(dataset, "RescaleIntercept", 0.0)
    if slope == 0.0:
        raise ValueError("Rescale Slope is 0")
    if slope == 1.0 and intercept.is_integer():
        values: NDArray[Any] = stored.astype(np.int64 if stored.dtype.itemsize > 2 else np.int32) + int(intercept)
    else:
        values = np.rint(stored.astype(np.float64) * slope + intercept)
    padding = padding_of(stored, dataset, slope, intercept)
    clipped = (values < _INT16.min) | (values > _INT16.max)
    count = 0
    if padding is not None:
        clipped &= ~padding
    if clipped.any():
        count = int(clipped.sum())
    hu = np.clip(values, _INT16.min, _INT16.max).astype(np.int16)
    if padding is not None:
        hu[padding] = AIR_HU
    return hu, count


def padding_of(stored: NDArray[Any], dataset: Any, slope: float, intercept: float) -> NDArray[np.bool_] | None:
    """Where the slice holds padding (row, column); None if it has none.

    Pixel Padding Value, or from it to Pixel Padding Range Limit, both by their bits, since exporters write -2000 as
    63536. A value that tissue may have as well is padding only where it is connected to the edge of the picture.
    """
    first = dataset.get("PixelPaddingValue")
    if first is None or first == "":
        return None
    bits = 8 * stored.dtype.itemsize
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = [_as_stored(int(value), stored.dtype, bits) for value in (first, first if limit in (None, "") else limit)]
    low, high = min(ends), max(ends)
    padding: NDArray[np.bool_] = (stored >= low) & (stored <= high)
    if not padding.any():
        return None
    hu = sorted(end * slope + intercept for end in (low, high))
    if hu[1] > _TISSUE_HU[0] and hu[0] < _TISSUE_HU[1]:
        labels, _ = ndimage.label(padding)
        edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
        padding = np.isin(labels, edge[edge > 0])
    return padding


def _as_stored(value: int, dtype: np.dtype[Any], bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if dtype.kind == "i" and value >= 1 << (bits - 1) else value


def _number(dataset: Any, keyword: str, default: float) -> float:
    value = dataset.get(keyword)
    if value is None or value == "":
        return default
    number = float(value)
    if not np.isfinite(number):
        raise ValueError(f"{keyword} is {value}")
    return number


# --- a plugin of pydicom's decoders ---------------------------------------------------------------------------------

# pydicom asks a plugin's module for both.
DECODER_DEPENDENCIES = dict.fromkeys(_COMPRESSED, ("SimpleITK",))


def is_available(uid: str) -> bool:
    """Whether the plugin decompresses a transfer syntax."""
    return uid in _COMPRESSED


def decode_frame(source: bytes, runner: Any) -> bytes:
    """One compressed frame -> its stored values, little endian, by GDCM."""
    import SimpleITK as sitk  # noqa: N813 - the field's usual name

    path = _scratch() / "frame.dcm"
    path.write_bytes(_wrapped(source, runner))
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        image = reader.Execute()
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ValueError(lines[-1] if lines else "not decompressed") from error
    kind = np.dtype(f"<{'i' if runner.pixel_representation else 'u'}{runner.bits_allocated // 8}")
    # The view does not keep the image alive.
    return bytes(sitk.GetArrayViewFromImage(image).astype(kind, casting="unsafe").tobytes())


def _scratch() -> Path:
    """A folder of this thread, which goes with the process."""
    if not hasattr(_thread, "folder"):
        _thread.folder = tempfile.TemporaryDirectory(prefix="gfscreen-frames-")
    return Path(_thread.folder.name)


def _wrapped(source: bytes, runner: Any) -> bytes:
    """A DICOM file around a frame: what it needs to be decompressed, and nothing that would be applied to it."""
    import io

    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import SecondaryCaptureImageStorage

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = runner.transfer_syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "2.25.1"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = runner.rows, runner.columns, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored = runner.bits_allocated, runner.bits_stored
    dataset.HighBit, dataset.PixelRepresentation = runner.bits_stored - 1, runner.pixel_representation
    dataset.PixelData = encapsulate([bytes(source)])
    dataset["PixelData"].VR = "OB"
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
