"""Solid organs of the abdomen: liver, spleen, kidneys, pancreas, vessels, muscles (atlas mm)."""

from __future__ import annotations

import numpy as np

from eval.phantom.canvas import Part
from eval.phantom.shapes import Array, Ellipsoid, Inset, Union, Vector, Wobble, rotation_from_axis, tube
from eval.phantom.skeleton import rotation_z, spine_y_mm
from eval.phantom.subject import Subject
from eval.phantom.torso import Torso
from eval.phantom.trees import grow, sample_inside

PORTA_MM: Vector = (28.0, 14.0, -82.0)
PANCREAS_MM = ((44, 14, -142), (40, 18, -122), (22, 26, -108), (-4, 22, -102), (-34, 4, -96), (-66, -18, -86))
PANCREAS_RADII_MM = (11.0, 13.0, 10.0, 9.0, 9.5, 8.0)


def wobble(rng: np.random.Generator, amplitude_mm: float, wavelength_mm: float) -> Wobble:
    """A random unevenness."""
    a, b, c = (float(phase) for phase in rng.uniform(0, 6.28, 3))
    return Wobble(amplitude_mm, wavelength_mm, (a, b, c))


def liver_shape(subject: Subject) -> Union:
    """Right and left lobe melted together; the diaphragm and the wall cut it to its final form."""
    rng = subject.rng(4)
    size = subject.liver_size
    right = Ellipsoid((74, -4, -68), (78 * size, 88 * size, 98 * size), wobble=wobble(rng, 4, 90))
    left = Ellipsoid((6, 44, -38), (76 * size, 33 * size, 44 * size), axes=rotation_z(0.18), wobble=wobble(rng, 3, 80))
    return Union(right, left, blend_mm=16)


def liver_depth(torso: Torso, x: Array, y: Array, z: Array) -> Array:
    """Depth inside the liver as it is finally seen; also used to place metastases and to tell chest from abdomen."""
    cavity = torso.layers(x, y, z).cavity
    under = np.minimum(cavity - 1, -torso.above_diaphragm(x, y, z) - 2.5)
    result: Array = np.minimum(liver_shape(torso.subject).depth(x, y, z), under)
    return result


def kidney_shapes(subject: Subject) -> tuple[Ellipsoid, Ellipsoid]:
    """Right and left kidney; their lower poles lie further out and further forward."""
    size = subject.kidney_size
    rng = subject.rng(5)
    shapes = []
    for side, z in ((1.0, -146.0), (-1.0, -132.0)):
        shapes.append(
            Ellipsoid(
                subject.jitter(rng, (side * 62, spine_y_mm(z) - 3, z)),
                (56 * size, 27 * size, 29 * size),
                axes=rotation_from_axis((-side * 0.22, -0.16, 1.0)),
                wobble=wobble(rng, 1.5, 34),
            )
        )
    return shapes[0], shapes[1]


def spleen_shape(subject: Subject) -> Ellipsoid:
    size = subject.spleen_size
    rng = subject.rng(6)
    centre = subject.jitter(rng, (-98, -34, -62))
    return Ellipsoid(centre, (31 * size, 50 * size, 56 * size), axes=rotation_z(0.6), wobble=wobble(rng, 3, 55))


def liver_parts(torso: Torso) -> list[Part]:
    """Liver with its veins, gall bladder."""
    subject = torso.subject
    tissue, rng = subject.tissue, subject.rng(7)
    shape = liver_shape(subject)
    parts = [Part("liver", shape, tissue.liver, "below_diaphragm")]
    box = shape.bounds

    def depth(x: Array, y: Array, z: Array) -> Array:
        return liver_depth(torso, x, y, z)

    for root, count, stem in ((PORTA_MM, 64, 7.0), ((24.0, -18.0, -14.0), 64, 6.0)):
        points = sample_inside(depth, box.low_mm, box.high_mm, count, rng, 9)
        parts += [
            Part("liver_vein", twig.capsule, tissue.liver_vein, "below_diaphragm")
            for twig in grow(root, points, 1.3, stem)
        ]
    bladder = Ellipsoid(subject.jitter(rng, (52, 48, -126)), (33, 17, 15), axes=rotation_from_axis((0.25, 0.5, -0.8)))
    parts.append(Part("gall_bladder", Inset(bladder, -1.8), 60.0, "below_diaphragm"))
    parts.append(Part("gall_bladder", bladder, tissue.bile, "below_diaphragm"))
    return parts


def kidney_parts(subject: Subject) -> list[Part]:
    """Kidneys in their fat: cortex, medulla, sinus fat with the pelvis."""
    tissue = subject.tissue
    parts: list[Part] = []
    for side, kidney in zip((1.0, -1.0), kidney_shapes(subject), strict=True):
        assert kidney.axes is not None
        x, y, z = kidney.centre_mm
        parts.append(Part("perirenal_fat", Inset(kidney, -7), tissue.fat, "below_diaphragm"))
        parts.append(Part("kidney", kidney, tissue.kidney + 12, "below_diaphragm"))
        parts.append(Part("kidney_medulla", Inset(kidney, 7.5), tissue.kidney - 16, "below_diaphragm"))
        sinus = Ellipsoid((x - side * 15, y + 8, z), (25, 13, 13), axes=kidney.axes)
        parts.append(Part("kidney_sinus", sinus, -55.0, "below_diaphragm"))
        pelvis = Ellipsoid((x - side * 13, y + 7, z - 3), (15, 6, 6), axes=kidney.axes)
        parts.append(Part("kidney_pelvis", pelvis, 35.0))
        vein = tube([(x - side * 14, y + 9, z + 4), (side * 10, spine_y_mm(z) + 32, z + 10)], [4.5, 5.5])
        parts += [Part("renal_vein", piece, tissue.blood) for piece in vein]
        ureter = tube([(x - side * 18, y + 10, z - 14), (side * 38, -10, -240), (side * 40, 5, -320)], [2.4, 2.2, 2.2])
        parts += [Part("ureter", piece, 20.0) for piece in ureter]
        adrenal = (x - side * 22, y + 8, z + 58)
        for lean in (-5.0, 5.0):
            limb = tube(
                [(adrenal[0], adrenal[1] + 6, adrenal[2]), (adrenal[0] + lean, adrenal[1] - 9, adrenal[2] - 6)],
                [2.6, 2.2],
            )
            parts += [Part("adrenal", piece, 75.0, "below_diaphragm") for piece in limb]
    return parts


def pancreas_parts(subject: Subject) -> list[Part]:
    """A lobulated tube from the duodenum to the spleen, with the splenic and portal vein behind it."""
    tissue, rng = subject.tissue, subject.rng(8)
    parts = [
        Part("pancreas", piece, tissue.pancreas, "below_diaphragm") for piece in tube(PANCREAS_MM, PANCREAS_RADII_MM)
    ]
    for a, b, radius in zip(PANCREAS_MM[:-1], PANCREAS_MM[1:], PANCREAS_RADII_MM[1:], strict=True):
        for share in (0.2, 0.5, 0.8):
            middle = tuple(p + share * (q - p) for p, q in zip(a, b, strict=True))
            lobe = Ellipsoid(subject.jitter(rng, (middle[0], middle[1], middle[2]), 3.5), (radius * 0.72,) * 3)
            parts.append(Part("pancreas", lobe, tissue.pancreas, "below_diaphragm"))
    splenic = [(20, 8, -104), (-6, 6, -98), (-36, -12, -90), (-72, -30, -78)]
    portal = [(8, 14, -150), (12, 10, -122), (18, 6, -104), PORTA_MM]
    mesenteric = [(4, 20, -235), (8, 22, -190), (8, 14, -150)]
    veins = tube(splenic, [5.5, 5, 4.5, 4]) + tube(portal, [6, 6.5, 7, 7]) + tube(mesenteric, [4, 5, 6])
    artery = tube([(-3, 2, -108), (-5, 16, -128), (-6, 20, -190), (-2, 20, -235)], [4, 3.8, 3.2, 2.5])
    celiac = tube([(-3, 0, -92), (0, 12, -90), (20, 12, -86)], [4, 3.5, 3])
    return parts + [Part("abdominal_vessel", piece, tissue.blood) for piece in veins + artery + celiac]


def trunk_vessels(subject: Subject) -> list[Part]:
    """Inferior vena cava and the iliac vessels (the aorta comes with the chest)."""
    tissue = subject.tissue
    heights = [30.0, -10.0, -50.0, -100.0, -150.0, -215.0]
    cava = [(20.0, spine_y_mm(z) + (34 if z > -20 else 27), z) for z in heights]
    pieces = tube(cava, [11, 11.5, 11, 10.5, 10, 9.5])
    for side in (-1.0, 1.0):
        y = spine_y_mm(-215) + 27
        pieces += tube(
            [(-6, y, -203), (side * 36, y - 8, -255), (side * 66, 18, -318), (side * 78, 50, -360)], [8, 6.5, 5.5, 5]
        )
        pieces += tube(
            [(16, y - 2, -212), (side * 36, y - 20, -255), (side * 64, 6, -318), (side * 72, 46, -360)], [9, 7, 6.5, 6]
        )
    return [Part("trunk_vessel", piece, tissue.blood) for piece in pieces]


def muscle_parts(subject: Subject) -> list[Part]:
    """Psoas, quadratus, crura; gluteal and iliac muscle are part of the wall."""
    tissue = subject.tissue
    parts: list[Part] = []
    for side in (-1.0, 1.0):
        psoas = [
            (side * 26, -52, -95),
            (side * 36, -46, -150),
            (side * 44, -40, -210),
            (side * 62, -4, -285),
            (side * 84, 26, -345),
        ]
        parts += [Part("psoas", piece, tissue.muscle) for piece in tube(psoas, [7, 15, 20, 19, 13])]
        quadratus = Ellipsoid((side * 66, -70, -190), (20, 10, 58), axes=rotation_z(side * 0.3))
        parts.append(Part("quadratus", quadratus, tissue.muscle, "cavity"))
        crus = tube([(side * 14, -14, -30), (side * 13, -10, -75), (side * 12, -8, -130)], [4, 4.5, 3])
        parts += [Part("crus", piece, tissue.muscle, "below_diaphragm") for piece in crus]
    return parts


def spleen_parts(subject: Subject) -> list[Part]:
    return [Part("spleen", spleen_shape(subject), subject.tissue.spleen, "below_diaphragm")]
