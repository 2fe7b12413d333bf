"""One input of the torture set and what must come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eval.reliability.torture.patient import Patient, paint
from eval.reliability.torture.store import plain_affine, save

Expect = Literal["mask", "error", "ignored"]
Truth = NDArray[np.bool_] | None
# Writes the input at a path; returns where the ball is (i, j, k), or None where that is not to be checked.
Make = Callable[[Path], Truth]

SHAPE = (48, 40, 36)
SPACING_MM = (7.0, 7.0, 8.0)
AFFINE = plain_affine(SPACING_MM, SHAPE)


@dataclass(frozen=True)
class TortureCase:
    """An input. file: its name. says: a text that its error, or one of its warnings, must hold.

    group: the class that it is counted in. mask: name of its mask. expect: `mask`: a valid one with its geometry;
    `error`: one clear line and no mask; `ignored`: neither.
    """

    group: str
    title: str
    file: str
    make: Make
    expect: Expect = "mask"
    says: str = ""
    mask: str = ""

    @property
    def mask_name(self) -> str:
        """Name of the mask: without suffix and `_0000`, with .nii.gz."""
        return self.mask or self.file.replace("_0000.", ".").removesuffix(".nii.gz").removesuffix(".nii") + ".nii.gz"


def scan(
    patient: Patient | None = None,
    shape: tuple[int, int, int] = SHAPE,
    affine: NDArray[np.float64] | None = None,
    *,
    change: Callable[[NDArray[np.int16]], NDArray[Any]] = lambda hu: hu,
    check: bool = True,
    **options: Any,
) -> Make:
    """Paint a patient, change its values, save it. check: whether the mask must find the ball."""
    used = plain_affine(SPACING_MM, shape) if affine is None else affine

    def make(path: Path) -> Truth:
        hu, truth = paint(shape, used, patient)
        save(path, change(hu), used, **options)
        return truth if check and truth.any() else None

    return make
