"""Headers that are odd, contradict themselves, or are wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from eval.reliability.torture.case import AFFINE, SHAPE, Expect, TortureCase, Truth, scan
from eval.reliability.torture.patient import paint
from eval.reliability.torture.store import header, plain_affine, save

_MOVED = plain_affine((7.0, 7.0, 8.0), (20, 60, 10))


def _forms(sform_of: Any, qform_of: Any, **fields: Any) -> Callable[[Path], Truth]:
    """Two forms from different affines; the ball is where the sform says."""

    def make(path: Path) -> Truth:
        hu, truth = paint(SHAPE, AFFINE)
        other = header(SHAPE, np.int16, qform_of)
        names = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
        save(path, hu, sform_of, fields={**{name: other[name] for name in names}, **fields})
        return truth

    return make


def _shaped(shape: tuple[int, ...], **fields: Any) -> Callable[[Path], Truth]:
    """A file of air with these dimensions."""

    def make(path: Path) -> Truth:
        save(path, np.full(shape, -1000, np.int16), AFFINE, fields=fields)
        return None

    return make


def header_cases() -> list[TortureCase]:
    """All of them."""
    cases: list[TortureCase] = []

    def add(title: str, name: str, make: Callable[[Path], Truth], expect: Expect = "mask", says: str = "") -> None:
        cases.append(TortureCase("header", title, f"header-{name}_0000.nii.gz", make, expect, says))

    def odd(title: str, name: str, expect: Expect = "mask", says: str = "", forms: str = "both", **fields: Any) -> None:
        add(title, name, scan(forms=forms, fields=fields), expect, says)

    odd("only the sform", "sform", forms="sform")
    odd("only the qform", "qform", forms="qform")
    make = scan(forms="none", check=False)
    add("neither sform nor qform", "noform", make, says="neither sform nor qform")
    odd("qfac 0, only the qform", "qfac0", forms="qform", pixdim={0: 0.0})
    odd("qfac 5, only the qform", "qfac5", says="neither 1 nor -1", forms="qform", pixdim={0: 5.0})
    odd("qfac NaN, only the qform", "qfacnan", says="neither 1 nor -1", forms="qform", pixdim={0: np.nan})
    make = scan(forms="qform", fields={"pixdim": {0: -1.0}}, check=False)
    add("qfac -1 where 1 was meant: the frame as stated, mirrored", "qfacwrong", make)
    add("sform and qform 140 mm apart", "formsapart", _forms(AFFINE, _MOVED), says="apart")
    nonsense: dict[str, Any] = {"quatern_b": 3.0, "quatern_c": -4.0, "quatern_d": 5.0}
    odd("quaternion longer than 1 beside an sform", "quatsform", says="qform cannot be read", **nonsense)
    odd("quaternion longer than 1, no sform", "quat", "error", "readable orientation", "qform", **nonsense)
    odd("zero spacing beside an sform", "zerosform", pixdim={3: 0.0})
    odd("zero spacing, no sform", "zero", "error", "positive spacing", "qform", pixdim={3: 0.0})
    odd("negative spacing beside an sform", "negsform", pixdim={1: -7.0})
    odd("negative spacing, no sform", "neg", "error", "positive spacing", "qform", pixdim={1: -7.0})
    odd("spacing NaN, no sform", "nan", "error", "positive spacing", "none", pixdim={2: np.nan})
    odd("negative form codes", "negcode", "mask", "neither sform nor qform", sform_code=-1, qform_code=-1)
    odd(
        "sform with two axes alike",
        "singular",
        "error",
        "three independent axes",
        srow_y=[7, 0, 0, 0],
        srow_x=[7, 0, 0, 0],
    )
    odd("sform of zeros", "zeros", "error", "independent axes", srow_x=[0] * 4, srow_y=[0] * 4, srow_z=[0] * 4)
    odd("sform with NaN", "sformnan", "error", "finite geometry", srow_x=[np.nan, 0, 0, 0])
    odd("sform with infinity", "sforminf", "error", "finite geometry", srow_z=[0, 0, np.inf, 0])
    thousandth: dict[str, Any] = {f"srow_{a}": AFFINE[n] / 1000 for n, a in enumerate("xyz")}
    odd("metres taken for millimetres", "metres", "error", "units", **thousandth)
    thousand: dict[str, Any] = {f"srow_{a}": AFFINE[n] * 1000 for n, a in enumerate("xyz")}
    odd("micrometres taken for millimetres", "micro", "error", "units", **thousand)
    add("a fourth dimension of 1", "dim4one", scan(fields={"dim": {0: 4, 4: 1}}))
    add("a seventh dimension of 1", "dim7one", scan(fields={"dim": {0: 7}}))
    add("two dimensions", "2d", _shaped((40, 30)), "error", "expected a 3D volume")
    add("four dimensions", "4d", _shaped((12, 12, 12, 3)), "error", "split the time axis")
    add("a dimension of zero", "dim0", _shaped((12, 12, 12), dim={3: 0}), "error", "positive dimensions")
    add("a negative dimension", "dimneg", _shaped((12, 12, 12), dim={2: -12}), "error", "positive dimensions")
    add("no dimensions", "nodim", _shaped((12, 12, 12), dim={0: 0}), "error", "3 dimensions")
    add(
        "32767 voxels in each direction",
        "bomb",
        _shaped((8, 8, 8), dim={1: 32767, 2: 32767, 3: 32767}),
        "error",
        "cannot hold",
    )
    add("one slice more than the file holds", "short", _shaped((12, 12, 12), dim={3: 13}), "error", "truncated")
    add("voxels said to begin at 1 GB", "offset", _shaped((12, 12, 12), vox_offset=1e9), "error", "vox_offset")
    add("offset NaN", "offsetnan", _shaped((12, 12, 12), vox_offset=np.nan), "error", "vox_offset")
    add("unknown data type", "type", _shaped((12, 12, 12), datatype=4242), "error", "datatype 4242")
    add("magic of a two-file NIfTI", "ni1", _shaped((12, 12, 12), magic=b"ni1"), "error", "single-file NIfTI")
    add("no magic: Analyze", "analyze", _shaped((12, 12, 12), magic=b""), "error", "single-file NIfTI")
    return cases
