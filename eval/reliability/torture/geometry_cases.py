"""Orientations, spacings, sizes, tilts, and how patients lie."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from eval.reliability.torture.case import SHAPE, SPACING_MM, TortureCase, scan
from eval.reliability.torture.patient import Patient
from eval.reliability.torture.store import axes_affine, plain_affine, rotation


def orientations() -> Iterator[TortureCase]:
    """All 48 ways in which three axes can run along left-right, back-front and feet-head."""
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            code = "".join("LPI"[o] if s < 0 else "RAS"[o] for o, s in zip(order, signs, strict=True))
            spacing = tuple((10.0, 9.0, 11.0)[o] for o in order)
            shape = ((30, 28, 24)[order[0]], (30, 28, 24)[order[1]], (30, 28, 24)[order[2]])
            affine = axes_affine(order, signs, spacing, shape)
            yield TortureCase("orientation", code, f"axes-{code}_0000.nii.gz", scan(None, shape, affine))


_SPACINGS: dict[tuple[float, float, float], tuple[int, int, int]] = {
    (0.3, 0.3, 0.3): (192, 192, 96),
    (0.5, 0.5, 0.5): (160, 144, 96),
    (1.0, 1.0, 1.0): (128, 120, 80),
    (2.0, 2.0, 2.0): (90, 80, 70),
    (5.0, 5.0, 5.0): (60, 56, 50),
    (10.0, 10.0, 10.0): (40, 36, 30),
    (0.5, 0.5, 10.0): (320, 300, 16),
    (0.7, 0.7, 5.0): (256, 256, 30),
    (10.0, 0.6, 0.6): (24, 256, 256),
    (0.6, 10.0, 0.6): (256, 24, 256),
    (0.3, 3.0, 10.0): (512, 60, 20),
    (3.0, 3.0, 0.3): (70, 64, 400),
}


def spacings() -> Iterator[TortureCase]:
    """0.3 to 10 mm, equal in all directions and not."""
    for spacing, shape in _SPACINGS.items():
        name = "x".join(f"{s:g}" for s in spacing)
        make = scan(None, shape, plain_affine(spacing, shape))
        yield TortureCase("spacing", f"{name} mm", f"spacing-{name}_0000.nii.gz", make)


_SIZES: dict[tuple[int, int, int], tuple[float, float, float]] = {
    (1, 1, 1): (1.0, 1.0, 1.0),
    (60, 50, 1): (6.0, 6.0, 5.0),
    (60, 50, 2): (6.0, 6.0, 5.0),
    (60, 50, 3): (6.0, 6.0, 5.0),
    (1, 60, 60): (5.0, 5.0, 5.0),
    (60, 1, 60): (5.0, 5.0, 5.0),
    (40, 40, 12): (8.0, 8.0, 20.0),
    (40, 40, 1200): (8.0, 8.0, 0.5),
    (64, 64, 1200): (6.0, 6.0, 1.0),
    (512, 512, 16): (0.7, 0.7, 10.0),
    (1024, 1024, 6): (0.35, 0.35, 20.0),
    (700, 64, 20): (0.5, 5.0, 10.0),
    (5, 6, 7): (9.0, 9.0, 9.0),
}


def sizes() -> Iterator[TortureCase]:
    """1 to 1200 slices, one voxel to 1024 x 1024."""
    for shape, spacing in _SIZES.items():
        name = "x".join(map(str, shape))
        whole = min(shape) >= 12
        make = scan(None, shape, plain_affine(spacing, shape), check=whole)
        yield TortureCase("size", f"{name} voxels", f"size-{name}_0000.nii.gz", make)


def _tilted(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    affine = plain_affine(SPACING_MM, SHAPE)
    affine[:3, :3] = matrix @ affine[:3, :3]
    return affine


def frames() -> Iterator[TortureCase]:
    """Rotated, tilted, sheared, mirrored, and far away."""
    sheared = np.eye(3)
    sheared[1, 2] = np.tan(np.radians(12))
    far = plain_affine(SPACING_MM, SHAPE)
    far[:3, 3] = (12000.0, -9000.0, 30000.0)
    cases: list[tuple[str, str, NDArray[np.float64], str]] = [
        ("gantry tilted by 15 degrees", "tilt15", _tilted(rotation(0, 15)), ""),
        ("gantry tilted by 30 degrees", "tilt30", _tilted(rotation(0, -30)), ""),
        ("patient rotated by 20 degrees about the long axis", "turn20", _tilted(rotation(2, 20)), ""),
        ("rotated by exactly 45 degrees", "turn45", _tilted(rotation(2, 45)), ""),
        ("rotated about all three axes", "turn3", _tilted(rotation(0, 11) @ rotation(1, -17) @ rotation(2, 23)), ""),
        ("tilt as shear: cosines not orthonormal", "sheared", _tilted(sheared), "not orthonormal"),
        ("mirrored: a left-handed frame", "mirrored", _tilted(np.diag([-1.0, 1.0, 1.0])), ""),
        ("origin 30 m away", "far", far, ""),
    ]
    for title, name, affine, says in cases:
        yield TortureCase("frame", title, f"frame-{name}_0000.nii.gz", scan(affine=affine), says=says)


def positions() -> Iterator[TortureCase]:
    """How the patient lies and what the scan shows."""
    prone = axes_affine((0, 1, 2), (1, 1, 1), SPACING_MM, SHAPE)
    feet_first = axes_affine((0, 1, 2), (1, -1, -1), SPACING_MM, SHAPE)
    lesion = (0.14, -0.1, -0.2)
    cases = [
        ("both lungs", "lungs2", scan(Patient(lungs=2, lesion=lesion))),
        ("one lung: the other removed", "lungs1", scan(Patient(lungs=1, lesion=lesion))),
        ("no lung: both collapsed", "lungs0", scan(Patient(lungs=0))),
        ("arms up", "arms", scan(Patient(lungs=2, arms=True, lesion=lesion))),
        ("prone", "prone", scan(Patient(lungs=2, lesion=lesion), affine=prone)),
        ("feet first: slices from head to feet", "feetfirst", scan(affine=feet_first)),
        ("patient 12 cm off the centre", "offcentre", scan(Patient(centre=(0.36, -0.1), lesion=(-0.1, 0.02, 0.1)))),
        ("body cut off by the field of view", "cut", scan(Patient(centre=(-0.3, 0.25), lesion=(0.05, -0.1, 0.1)))),
        ("only legs", "legs", scan(Patient(trunk="legs"))),
        ("phantom of water", "water", scan(Patient(trunk="water"))),
        ("empty table", "table", scan(Patient(trunk="none"))),
        ("lesion at the edge of the scan", "edge", scan(Patient(lesion=(0.3, 0.0, 0.49)))),
    ]
    for title, name, make in cases:
        yield TortureCase("patient", title, f"patient-{name}_0000.nii.gz", make)


def geometry_cases() -> list[TortureCase]:
    """All of them."""
    return [*orientations(), *spacings(), *sizes(), *frames(), *positions()]
