"""Organs of the chest: heart, great vessels, airways, lung vessels (atlas mm)."""

from __future__ import annotations

import numpy as np

from eval.phantom.canvas import Part
from eval.phantom.shapes import Array, Ellipsoid, Inset, Vector, rotation_from_axis, tube, vector
from eval.phantom.skeleton import spine_y_mm
from eval.phantom.subject import Subject
from eval.phantom.torso import Torso
from eval.phantom.trees import grow, sample_inside

CARINA_MM: Vector = (2.0, -14.0, 108.0)
HILA_MM: tuple[Vector, Vector] = ((44.0, -10.0, 84.0), (-46.0, -12.0, 90.0))


def heart_outline(subject: Subject) -> Ellipsoid:
    """The heart with its muscle."""
    size = subject.heart_size
    return Ellipsoid(
        (-20.0, 24.0, 34.0),
        (66 * size, 46 * size, 45 * size),
        axes=rotation_from_axis((-0.78, 0.48, -0.40)),
    )


def aorta_path() -> tuple[list[Vector], list[float]]:
    """Centre line and radii from the valve to the bifurcation."""
    points: list[Vector] = [
        (2, 18, 62), (14, 24, 84), (17, 23, 108), (13, 14, 130), (0, -4, 141), (-13, -22, 139), (-21, -36, 126),
    ]  # fmt: skip
    radii = [15.0, 15.5, 15.5, 14.5, 13.5, 13.0, 12.5]
    for z in np.linspace(105, -205, 12):
        share = float(np.clip((z + 120) / 200, 0, 1))
        points.append((-6.0 - 16 * share, spine_y_mm(float(z)) + 28 - 6 * share, float(z)))
        radii.append(8.5 + 3.2 * share)
    return points, radii


def lung_depth(torso: Torso, x: Array, y: Array, z: Array) -> Array:
    """Depth inside the lungs with the heart taken out; also used to place nodules."""
    cavity = torso.layers(x, y, z).cavity
    depth = torso.lungs(x, y, z, cavity, torso.above_diaphragm(x, y, z))
    result: Array = np.minimum(depth, -heart_outline(torso.subject).depth(x, y, z) - 7)
    return result


def lung_vessels(torso: Torso) -> list[Part]:
    """Arteries, veins and air-filled bronchi of both lungs."""
    subject = torso.subject
    rng = subject.rng(2)
    blood = subject.tissue.blood
    vessels: list[Part] = []
    walls: list[Part] = []
    lumens: list[Part] = []
    for side, hilum in zip((1, -1), HILA_MM, strict=True):
        low = (6.0, -95.0, -95.0) if side > 0 else (-140.0, -95.0, -95.0)
        high = (140.0, 88.0, 205.0) if side > 0 else (-6.0, 88.0, 205.0)
        for forward, count, stem in ((4.0, 256, 8.0), (-4.0, 256, 6.5)):
            points = sample_inside(lambda x, y, z: lung_depth(torso, x, y, z), low, high, count, rng, 4)
            root = (hilum[0], hilum[1] + forward * 2, hilum[2] - forward)
            for twig in grow(root, points, 0.8, stem):
                radius = twig.capsule.start_radius_mm
                hu = 40 + (blood - 40) * float(np.clip((radius - 1) / 3, 0, 1))
                vessels.append(Part("lung_vessel", twig.capsule, hu, "lungs"))
        points = sample_inside(lambda x, y, z: lung_depth(torso, x, y, z), low, high, 64, rng, 12)
        for twig in grow(hilum, points, 0.85, 4.4):
            if twig.order > 4:
                continue
            walls.append(Part("bronchus_wall", Inset(twig.capsule, -0.9), 20.0, "lungs"))
            lumens.append(Part("bronchus", twig.capsule, -960.0, "lungs"))
    return vessels + walls + lumens


def mediastinum(torso: Torso) -> list[Part]:
    """Heart in its fat, great vessels, oesophagus, trachea and main bronchi."""
    subject = torso.subject
    tissue, rng, size = subject.tissue, subject.rng(3), subject.heart_size
    parts: list[Part] = []
    heart = heart_outline(subject)
    assert heart.axes is not None
    long_axis, second, third = (np.asarray(axis) for axis in heart.axes)
    centre = np.asarray(heart.centre_mm)

    def chamber(along: float, across: float, up: float, radii: Vector, hu: float) -> Part:
        place = centre + size * (along * long_axis + across * second + up * third)
        radii = (radii[0] * size, radii[1] * size, radii[2] * size)
        return Part("chamber", Ellipsoid(vector(place), radii, heart.axes), hu, "above_diaphragm")

    parts.append(Part("pericardial_fat", Inset(heart, -6), tissue.fat, "above_diaphragm"))
    parts.append(Part("upper_mediastinum", Ellipsoid((0, 5, 115), (27, 40, 62)), tissue.fat, "cavity"))
    for side in (-1.0, 1.0):
        fat_pad = Ellipsoid((side * 38 - 10, 62, 4), (30, 22, 20))
        parts.append(Part("fat_pad", fat_pad, tissue.fat, "above_diaphragm"))
    parts.append(Part("heart", heart, tissue.heart_wall, "above_diaphragm"))
    # `second` points to the left and back, `third` up and forward: ventricles lie along the long axis, atria behind.
    parts += [
        chamber(20, -14, -6, (36, 20, 20), tissue.blood),
        chamber(12, 18, 8, (44, 17, 30), tissue.blood * 0.97),
        chamber(-42, -12, 10, (18, 26, 22), tissue.blood * 1.02),
        chamber(-40, 22, -8, (20, 19, 27), tissue.blood * 0.95),
    ]
    trunk = tube([(-12, 36, 66), (-17, 28, 86), (-22, 8, 97)], [14, 14, 12])
    right = tube([(-18, 14, 94), (8, 0, 92), (30, -7, 90), HILA_MM[0]], [12, 11, 10, 9])
    left = tube([(-22, 8, 97), (-36, -6, 100), HILA_MM[1]], [12, 11, 9])
    cava = tube([(24, 8, 64), (27, 10, 95), (26, 13, 135), (27, 15, 160)], [10, 9.5, 9, 8.5])
    azygos = tube([(27, 6, 118), (22, -20, 122), (9, -38, 112), (8, -38, 30)], [4.5, 4.5, 4.0, 3.5])
    veins = tube([(27, 15, 160), (42, 20, 178), (95, 5, 205)], [8, 7, 6])
    veins += tube([(27, 15, 158), (-5, 24, 160), (-36, 22, 178), (-95, 5, 205)], [8, 7, 7, 6])
    arteries = tube([(10, 6, 140), (14, 2, 175), (34, -4, 225), (34, 0, 320)], [6.5, 6, 4, 3.5])
    arteries += tube([(2, -4, 142), (-14, -4, 175), (-32, -4, 225), (-32, 0, 320)], [4.5, 4.2, 4, 3.5])
    arteries += tube([(-12, -20, 140), (-24, -20, 178), (-62, -14, 196), (-98, -8, 205)], [5, 5, 5, 4.5])
    for name, capsules in (
        ("pulmonary_trunk", trunk + right + left),
        ("vena_cava_superior", cava + azygos + veins),
        ("arch_artery", arteries),
    ):
        parts += [Part(name, capsule, tissue.blood) for capsule in capsules]
    points, radii = aorta_path()
    parts += [Part("aorta", Inset(piece, -1.2), 60.0) for piece in tube(points, radii)]
    parts += [Part("aorta", piece, tissue.blood) for piece in tube(points, radii)]
    gullet = [(-4.0, spine_y_mm(z) + 23 + (6 if z < 40 else 0), float(z)) for z in np.linspace(225, -5, 9)]
    gullet.append((-22.0, 2.0, -22.0))
    parts += [Part("oesophagus", piece, 45.0) for piece in tube(gullet, [8.0] * len(gullet))]
    place = gullet[int(rng.integers(1, 6))]
    parts.append(Part("oesophagus_gas", Ellipsoid(place, (3.2, 2.4, 12)), tissue.gas))
    parts += _airway(subject)
    thyroid = [Ellipsoid((side * 20.0, 12.0, 236.0), (9, 10, 22)) for side in (-1, 1)]
    parts += [Part("thyroid", lobe, 130.0) for lobe in thyroid]
    return parts


def _airway(subject: Subject) -> list[Part]:
    lumen = tube([(0, 6, 300), (0, 2, 240), (1, -4, 175), CARINA_MM], [8, 8.5, 8.8, 8.8])
    for hilum, radius in zip(HILA_MM, (6.8, 6.0), strict=True):
        lumen += tube([CARINA_MM, hilum], [radius, radius * 0.8])
    walls = [Part("airway_wall", Inset(piece, -1.8), 35.0) for piece in lumen]
    return walls + [Part("airway", piece, subject.tissue.gas) for piece in lumen]
