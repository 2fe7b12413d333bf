"""Shared by the tests: painted scans, NIfTI files made byte by byte, engines that compute nothing heavy, a clock."""

from __future__ import annotations

import gzip
import itertools
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from gfscreen.config import PLAN_FILE, Plan, plan_to_json
from gfscreen.networks.engines.base import EngineInfo, FloatArray
from gfscreen.scan.grid import ModelGrid, ModelScan
from gfscreen.run.options import Options
from gfscreen.scan.anatomy import Overview
from gfscreen.run.predict import predict
from gfscreen.scan.region import RegionSplit
from gfscreen.screening.screening import Settings
from gfscreen.scan.volume import Geometry, Volume

AIR_HU, TISSUE_HU, LUNG_HU, LESION_HU = -1000, 40, -850, 200

# Small enough for milliseconds: 32 voxels of 4 mm are 128 mm, about the size of the painted bodies.
TINY_PLAN = Plan(
    preset="tiny",
    weights="trained",
    spacing_mm=(4.0, 4.0, 4.0),
    sub_volume_voxels=(32, 32, 32),
    overlap=0.25,
    gate=0.5,
)
# In the abdomen's window [-175, 250] tissue of 40 HU is 215/425 = 0.51 and a lesion of 200 HU is 375/425 = 0.88.
BRIGHT = 0.7

# --- scans ----------------------------------------

BALL_OFFSET_MM = np.array([22.0, -14.0, 10.0])
BALL_RADIUS_MM = 18.0
BODY_SEMI_AXES_MM = np.array([58.0, 50.0, 62.0])
PAINTED_SHAPE, PAINTED_AFFINE = (36, 32, 30), np.diag([4.0, 4.0, 5.0, 1.0])


def dice(a: NDArray[Any], b: NDArray[Any]) -> float:
    """2 |A and B| / (|A| + |B|)."""
    a, b = a.astype(bool), b.astype(bool)
    return float(2.0 * (a & b).sum() / (a.sum() + b.sum()))


def world_mm(shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """RAS position of every voxel centre, (i, j, k, 3)."""
    index = np.moveaxis(np.indices(shape), 0, -1).astype(np.float64)
    return index @ affine[:3, :3].T + affine[:3, 3]


def paint(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """An ellipsoid body with one bright ball off its centre, painted by world position; (HU, where the ball is).

    The same patient whatever the axes: the ball lies to the right, back and head of the centre of the scan.
    """
    centre = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    relative = world_mm(shape, affine) - centre
    body = ((relative / BODY_SEMI_AXES_MM) ** 2).sum(axis=-1) <= 1.0
    ball = ((relative - BALL_OFFSET_MM) ** 2).sum(axis=-1) <= BALL_RADIUS_MM**2
    hu = np.full(shape, AIR_HU, np.int16)
    hu[body] = TISSUE_HU
    hu[ball] = LESION_HU
    return hu, ball


def axes_affine(
    order: tuple[int, ...], signs: tuple[int, ...], spacing_mm: tuple[float, ...], origin_mm: tuple[float, ...]
) -> NDArray[np.float64]:
    """Affine whose file axis n runs along RAS axis order[n], in the direction of signs[n]."""
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    for file_axis, (ras, sign) in enumerate(zip(order, signs, strict=True)):
        affine[ras, file_axis] = sign * spacing_mm[file_axis]
    affine[:3, 3] = origin_mm
    return affine


ORIENTATIONS = [
    pytest.param(order, signs, id="".join("LPI"[o] if s < 0 else "RAS"[o] for o, s in zip(order, signs, strict=True)))
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def rotation(axis: int, degrees: float) -> NDArray[np.float64]:
    """Rotation matrix (3, 3) about one of the RAS axes."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    a, b = [n for n in range(3) if n != axis]
    matrix[a, a], matrix[a, b], matrix[b, a], matrix[b, b] = c, -s, s, c
    return matrix


def affine_of(
    columns: NDArray[np.float64], origin_mm: tuple[float, ...] = (-60.0, -55.0, -70.0)
) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = columns, origin_mm
    return affine


def volume_of(hu: NDArray[Any], affine: NDArray[np.float64] | None = None, name: str = "scan.nii.gz") -> Volume:
    """A volume in memory; the affine defaults to 4 x 4 x 5 mm along R, A, S."""
    affine = np.diag([4.0, 4.0, 5.0, 1.0]) if affine is None else affine
    shape = (hu.shape[0], hu.shape[1], hu.shape[2])
    return Volume(np.asfortranarray(hu.astype(np.int16)), Geometry(shape, affine), Path(name))


# --- files ----------------------------------------


def nifti_header(
    shape: tuple[int, ...],
    dtype: Any = np.int16,
    *,
    sform: NDArray[np.float64] | None = None,
    qform: NDArray[np.float64] | None = None,
    sform_code: int = 1,
    qform_code: int = 1,
    zooms: tuple[float, ...] | None = None,
    slope: float = float("nan"),
    intercept: float = float("nan"),
    version: int = 1,
    endian: str = "<",
) -> Any:
    """A NIfTI header with exactly these forms; an absent form has code 0 and zeros."""
    header = (nib.Nifti1Header if version == 1 else nib.Nifti2Header)(endianness=endian)
    header.set_data_shape(shape)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(endian))
    if qform is not None:
        header.set_qform(qform, code=qform_code, strip_shears=True)
    if sform is not None:
        header.set_sform(sform, code=sform_code)
        if qform is None:
            header["pixdim"][1:4] = np.linalg.norm(sform[:3, :3], axis=0)
    if zooms is not None:
        header["pixdim"][1 : 1 + len(zooms)] = zooms
    header.set_xyzt_units("mm", "sec")
    header["scl_slope"], header["scl_inter"] = slope, intercept
    header["vox_offset"] = int(header["sizeof_hdr"]) + 4
    return header


def nifti_bytes(header: Any, stored: NDArray[Any], extension: bytes = b"") -> bytes:
    """Header, extension flag and voxels, i fastest, in the header's byte order."""
    flag = b"\1\0\0\0" if extension else b"\0\0\0\0"
    dtype = stored.dtype.newbyteorder(header.endianness)
    return bytes(header.binaryblock) + flag + extension + stored.astype(dtype).tobytes(order="F")


def write_nifti(path: Path, stored: NDArray[Any], affine: NDArray[np.float64] | None = None, **header: Any) -> Path:
    """Write a scan; sform and qform both from `affine` unless the header's arguments say otherwise."""
    affine = np.diag([4.0, 4.0, 5.0, 1.0]) if affine is None else affine
    forms = {} if {"sform", "qform", "zooms"} & set(header) else {"sform": affine, "qform": affine}
    content = nifti_bytes(nifti_header(stored.shape, stored.dtype, **forms, **header), stored)
    path.write_bytes(gzip.compress(content, 1, mtime=0) if path.suffix == ".gz" else content)
    return path


def write_painted(path: Path) -> Path:
    """A scan of PAINTED_SHAPE with a body and a bright ball."""
    return write_nifti(path, paint(PAINTED_SHAPE, PAINTED_AFFINE)[0], PAINTED_AFFINE)


def write_training_list(folder: Path) -> Path:
    """Scan A, an ellipse of soft tissue with a bright block that is its lesion, and `list.json` to train on it."""
    i, j = np.indices((100, 90))
    hu = np.full((100, 90, 44), -1000, np.int16)
    hu[((i - 50) / 45) ** 2 + ((j - 45) / 40) ** 2 <= 1] = 60
    hu[40:60, 40:60, 15:25] = 140
    label = (hu == 140).astype(np.uint8)
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    entry = {"image": "imagesTr/A_0000.nii.gz", "label": "labelsTr/A.nii.gz"}
    for key, array in (("image", hu), ("label", label)):
        (folder / entry[key]).parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, affine), folder / entry[key])
    path = folder / "list.json"
    path.write_text(json.dumps({"training": [entry]}))
    return path


def raw_content(path: Path) -> bytes:
    """The bytes of a NIfTI file, unpacked."""
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


# Byte ranges of the header, from the NIfTI-1 and NIfTI-2 definitions (nifti1.h, nifti2.h), not from any library.
GEOMETRY_FIELDS = {
    348: {
        "dim": (40, 56),
        "pixdim": (76, 108),
        "xyzt_units": (123, 124),
        "qform_code": (252, 254),
        "sform_code": (254, 256),
        "quatern": (256, 268),
        "qoffset": (268, 280),
        "srow": (280, 328),
    },
    540: {
        "dim": (16, 80),
        "pixdim": (104, 168),
        "qform_code": (344, 348),
        "sform_code": (348, 352),
        "quatern": (352, 376),
        "qoffset": (376, 400),
        "srow": (400, 496),
        "xyzt_units": (500, 504),
    },
}
# What a mask may change: datatype and bitpix, vox_offset, scl_slope, scl_inter, cal_max, cal_min.
CHANGED_FIELDS = {
    348: [(70, 74), (108, 112), (112, 120), (124, 132)],
    540: [(12, 16), (168, 176), (176, 192), (192, 208)],
}


def assert_same_geometry(scan: Path, mask: Path) -> None:
    """The mask's header equals the scan's to the byte in everything but the type of its voxels."""
    a, b = raw_content(scan), raw_content(mask)
    size = 348 if 348 in (int.from_bytes(a[:4], "little"), int.from_bytes(a[:4], "big")) else 540
    for name, (start, stop) in GEOMETRY_FIELDS[size].items():
        assert a[start:stop] == b[start:stop], f"{name}: {a[start:stop].hex()} became {b[start:stop].hex()}"
    changed = {n for start, stop in CHANGED_FIELDS[size] for n in range(start, stop)}
    different = [n for n in range(size) if a[n] != b[n] and n not in changed]
    assert not different, f"header bytes {different} changed"


def header_of(path: Path) -> Any:
    """The header as stored; nibabel's images forget slope and calibration on loading."""
    content = raw_content(path)
    kind = (
        nib.Nifti2Header
        if 540 in (int.from_bytes(content[:4], order) for order in ("little", "big"))
        else nib.Nifti1Header
    )
    return kind(content[: kind.sizeof_hdr], check=False)


def read_mask(path: Path) -> NDArray[np.uint8]:
    """The stored voxels of a mask, after checking that they are uint8 {0, 1} with slope 1."""
    header = header_of(path)
    assert header.get_data_dtype() == np.uint8
    assert (float(header["scl_slope"]), float(header["scl_inter"])) == (1.0, 0.0)
    shape = tuple(int(n) for n in header["dim"][1:4])
    content = raw_content(path)[int(header["vox_offset"]) :]
    assert len(content) == np.prod(shape), "one byte per voxel and nothing behind them"
    stored = np.frombuffer(content, np.uint8).reshape(shape, order="F")
    assert set(np.unique(stored)) <= {0, 1}
    return stored


def write_plan(folder: Path, plan: Plan = TINY_PLAN) -> Path:
    """A weights folder that holds only the plan: enough where the engine is faked."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLAN_FILE).write_text(json.dumps(plan_to_json(plan)))
    return folder


# --- engines and time ----------------------------------------


@dataclass
class FakeClock:
    """A clock that only moves when told to."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class FakeEngine:
    """An engine of two functions of one sub-volume (x, y, z); counts what it was asked. Optionally takes its time."""

    suspicion: Callable[[FloatArray], float]
    outline: Callable[[FloatArray], FloatArray]
    glance_batch: int = 1
    focus_batch: int = 1
    info: EngineInfo = field(default_factory=lambda: EngineInfo("fake", "cpu", "fp32", "for a test"))
    clock: FakeClock | None = None
    glance_s: float = 0.0
    focus_s: float = 0.0
    glanced: int = 0
    later_rounds: int = 0
    released: int = 0
    focused: list[FloatArray] = field(default_factory=list)

    def glance(self, batch: FloatArray) -> FloatArray:
        self._check(batch, self.glance_batch)
        self.glanced += len(batch)
        self.later_rounds += bool(self.focused)
        if self.clock:
            self.clock.now_s += self.glance_s
        return np.array([self.suspicion(patch) for patch in batch], np.float32)

    def focus(self, batch: FloatArray) -> FloatArray:
        self._check(batch, self.focus_batch)
        self.focused.extend(batch)
        if self.clock:
            self.clock.now_s += self.focus_s
        return np.stack([self.outline(patch) for patch in batch]).astype(np.float32)

    def release(self) -> None:
        self.released += 1

    def peak_gpu_mb(self) -> float | None:
        return None

    @staticmethod
    def _check(batch: FloatArray, limit: int) -> None:
        """The engine protocol: float32 (n, x, y, z) in [0, 1], at most `limit` at once."""
        assert batch.dtype == np.float32
        assert batch.ndim == 4
        assert 1 <= len(batch) <= limit
        assert batch.min() >= 0.0
        assert batch.max() <= 1.0


def bright_engine(**options: Any) -> FakeEngine:
    """Finds what is brighter than tissue in the abdomen's window: exact where the networks would only be plausible."""
    return FakeEngine(
        lambda patch: 0.95 if (patch > BRIGHT).any() else 0.05,
        lambda patch: (patch > BRIGHT).astype(np.float32),
        **options,
    )


def constant_engine(suspicion: float, probability: float, **options: Any) -> FakeEngine:
    """Says the same everywhere."""
    return FakeEngine(lambda _: suspicion, lambda patch: np.full_like(patch, probability), **options)


def model_scan(
    shape: tuple[int, int, int],
    hu: NDArray[Any] | None = None,
    body: NDArray[np.bool_] | None = None,
    chest: NDArray[np.bool_] | None = None,
    spacing_mm: tuple[float, float, float] = (4.0, 4.0, 4.0),
) -> ModelScan:
    """A scan that already lies on the model grid, uncropped; all body and all abdomen unless said otherwise."""
    hu = np.full(shape, TISSUE_HU, np.float32) if hu is None else hu.astype(np.float32)
    body = np.ones(shape, bool) if body is None else body
    chest = np.zeros(shape[2], bool) if chest is None else chest
    grid = ModelGrid(((0, shape[0]), (0, shape[1]), (0, shape[2])), shape, shape, spacing_mm, spacing_mm)
    overview = Overview((1, 1, 1), spacing_mm, body, np.zeros(shape, bool))
    region = RegionSplit("abdomen", chest, np.zeros(shape[2]), spacing_mm[2], "for a test")
    return ModelScan(hu, body, chest, grid, region, overview)


# --- runs ----------------------------------------


@contextmanager
def untouched_logging() -> Iterator[None]:
    """The command line configures the package's logger; give it back as it was."""
    logger = logging.getLogger("gfscreen")
    before = logger.handlers[:], logger.level, logger.propagate
    try:
        yield
    finally:
        logger.handlers[:], logger.level, logger.propagate = before


@dataclass
class Run:
    """What a run left behind: exit code, report, names in the output folder."""

    code: int
    report: dict[str, Any]
    output: Path

    @property
    def cases(self) -> dict[str, dict[str, Any]]:
        return {case["name"]: case for case in self.report["cases"]}

    @property
    def only(self) -> dict[str, Any]:
        assert len(self.report["cases"]) == 1
        case: dict[str, Any] = self.report["cases"][0]
        return case

    @property
    def written(self) -> list[str]:
        return sorted(path.name for path in self.output.iterdir()) if self.output.is_dir() else []


class Runner:
    """Runs `predict` with a fake engine on files below one temporary folder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, plan: Plan = TINY_PLAN) -> None:
        self.inputs, self.output = folder / "inputs", folder / "outputs"
        self.inputs.mkdir()
        self.report, self.weights = folder / "report.json", write_plan(folder / "weights", plan)
        self._monkeypatch = monkeypatch

    def __call__(self, source: Path | None = None, engine: FakeEngine | None = None, **options: Any) -> Run:
        engine = engine or bright_engine()
        self._monkeypatch.setattr("gfscreen.run.predict.load_engine", lambda *_, **__: engine)
        # Otherwise the age of the test session would count against a deadline.
        self._monkeypatch.setattr("gfscreen.run.predict.process_age_s", lambda: 0.0)
        settings = Settings(**{key: options.pop(key) for key in ("region", "overlap", "gate") if key in options})
        output = options.pop("output", self.output)
        code = predict(
            Options(source or self.inputs, output, self.weights, settings=settings, report=self.report, **options)
        )
        return Run(code, json.loads(self.report.read_text(encoding="utf-8")), output)
