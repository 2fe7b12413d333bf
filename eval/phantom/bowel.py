"""Hollow organs of the abdomen and pelvis: stomach, small bowel, colon, bladder, with fluid, stool and gas (atlas mm).

The patient lies on the back: gas gathers in front (+y) above a level that is straight in every axial slice.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from eval.phantom.canvas import Part
from eval.phantom.shapes import Above, Capsule, Ellipsoid, Inset, Union, Vector, rotation_from_axis, tube, vector
from eval.phantom.subject import Subject

COLON_MM = (
    (88, 10, -312), (98, 4, -270), (103, 0, -225), (100, 12, -182), (80, 42, -168), (44, 60, -182), (4, 62, -196),
    (-40, 58, -184), (-78, 38, -152), (-100, 10, -120), (-106, -22, -140), (-106, -28, -190), (-104, -22, -240),
    (-92, -4, -285), (-58, 20, -318), (-20, 4, -322), (6, -26, -318), (4, -40, -350), (0, -38, -395),
)  # fmt: skip


def bowel_parts(subject: Subject) -> list[Part]:
    """Small bowel first: colon and stomach lie in front of it."""
    return _small_bowel(subject) + _colon(subject) + _stomach(subject) + _bladder(subject)


def _stomach(subject: Subject) -> list[Part]:
    tissue, rng = subject.tissue, subject.rng(9)
    fundus = Ellipsoid(subject.jitter(rng, (-62, 4, -48)), (40, 36, 44))
    body = Capsule((-62, 12, -70), (-30, 48, -128), 30, 25)
    antrum = Capsule((-30, 48, -128), (26, 40, -132), 25, 14)
    lumen = Inset(Union(Union(fundus, body, 12), antrum, 8), 4.5)
    wall = Inset(lumen, -4.5)
    level = float(rng.uniform(22, 38))
    duodenum = tube([(30, 36, -132), (54, 16, -126), (58, 6, -165), (40, 2, -188), (0, 12, -188)], [12, 12, 11, 11, 10])
    parts = [Part("duodenum", piece, tissue.bowel_wall, "below_diaphragm") for piece in duodenum]
    parts += [Part("duodenum_fluid", Inset(piece, 3), tissue.fluid, "below_diaphragm") for piece in duodenum]
    parts += [
        Part("stomach", wall, tissue.bowel_wall, "below_diaphragm"),
        Part("stomach_fluid", lumen, tissue.fluid + 6, "below_diaphragm"),
        Part("stomach_gas", Above(lumen, level), tissue.gas, "below_diaphragm"),
    ]
    return parts


def _colon(subject: Subject) -> list[Part]:
    tissue, rng = subject.tissue, subject.rng(10)
    path = [subject.jitter(rng, (float(x), float(y), float(z)), 4) for x, y, z in COLON_MM]
    parts: list[Part] = []
    for index, (a, b) in enumerate(pairwise(path)):
        wide = 23.0 if index < 4 else 19.0 if index < 9 else 14.5
        pieces = max(int(np.linalg.norm(np.subtract(b, a)) / 17), 1)
        steps = [vector(np.asarray(a) + (np.asarray(b) - a) * share) for share in np.linspace(0, 1, pieces + 1)]
        content = float(rng.choice([-40.0, 25.0, 45.0]))
        full = float(rng.uniform(-0.7, 0.9))
        # Haustra: each pouch is wide in its middle.
        pouches = [
            Ellipsoid(vector((np.asarray(p) + q) / 2), (wide * 0.72, wide, wide), rotation_from_axis(np.subtract(q, p)))
            for p, q in pairwise(steps)
        ]
        core = tube(steps, [wide * 0.72] * len(steps))
        shapes: list[Ellipsoid | Capsule] = [*core, *pouches]
        parts += [Part("colon", shape, tissue.bowel_wall, "cavity") for shape in shapes]
        parts += [Part("colon_stool", Inset(shape, 2.6), content, "cavity") for shape in shapes]
        level = (a[1] + b[1]) / 2 + full * wide
        parts += [Part("colon_gas", Above(Inset(shape, 2.6), level), tissue.gas, "cavity") for shape in shapes]
    return parts


def _small_bowel(subject: Subject) -> list[Part]:
    tissue, rng = subject.tissue, subject.rng(11)
    parts: list[Part] = []
    for _ in range(21):
        middle = np.array([rng.uniform(-72, 72), rng.uniform(0, 54), rng.uniform(-330, -178)])
        radius = float(rng.uniform(9.5, 13))
        turn = rng.uniform(0, 2 * np.pi)
        path: list[Vector] = []
        for step in range(7):
            angle = turn + step * 0.95
            offset = np.array([30 * np.cos(angle), 17 * np.sin(angle * 1.3), 26 * np.sin(angle)])
            path.append(vector(middle + offset + rng.normal(size=3) * 5))
        loops = tube(path, [radius] * len(path))
        content = float(rng.choice([12.0, 22.0, 30.0]))
        parts += [Part("small_bowel", piece, tissue.bowel_wall, "cavity") for piece in loops]
        parts += [Part("small_bowel_fluid", Inset(piece, 2.8), content, "cavity") for piece in loops]
        if rng.random() < 0.45:
            gas = loops[int(rng.integers(len(loops)))]
            level = (gas.start_mm[1] + gas.end_mm[1]) / 2 + float(rng.uniform(0, 0.5)) * radius
            parts.append(Part("small_bowel_gas", Above(Inset(gas, 2.8), level), tissue.gas, "cavity"))
    for _ in range(60):
        start = np.array([rng.uniform(-70, 70), rng.uniform(10, 60), rng.uniform(-320, -180)])
        end = start + rng.normal(size=3) * 16
        vessel = tube([vector(start), vector(end)], [1.8, 1.3])
        parts += [Part("mesenteric_vessel", piece, tissue.blood * 0.8, "cavity") for piece in vessel]
    return parts


def _bladder(subject: Subject) -> list[Part]:
    bladder = Ellipsoid((0, 28, -346), (40, 30, 27))
    prostate = Ellipsoid((0, 6, -386), (23, 17, 18))
    return [
        Part("prostate", prostate, 60.0),
        Part("bladder", Inset(bladder, -3.5), 45.0, "cavity"),
        Part("bladder_urine", bladder, 6.0, "cavity"),
    ]
