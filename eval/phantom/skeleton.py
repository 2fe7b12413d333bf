"""Bones: spine with discs and canal, ribs, sternum, shoulder girdle, pelvis, skull (atlas mm)."""

from __future__ import annotations

import math

import numpy as np

from eval.phantom.canvas import Canvas, Part
from eval.phantom.shapes import Array, Capsule, Drum, Ellipsoid, Inset, Rotation, Shape, Vector
from eval.phantom.subject import Subject
from eval.phantom.torso import Layers

# Height of the vertebral bodies' centres and the y of the spine's curve there.
SPINE_CURVE = np.array(
    [(-330, -82), (-290, -66), (-255, -46), (-210, -36), (-160, -36), (-110, -42), (-50, -52), (0, -60), (60, -64),
     (110, -61), (160, -50), (200, -38), (250, -22), (300, -20), (330, -22)], dtype=float,
)  # fmt: skip
RIB_PITCH_MM = 24.0
FIRST_RIB_MM = 192.0
# How far round from the spine each rib pair reaches (share of half a turn), first to twelfth.
RIB_REACH = (0.86, 0.9, 0.92, 0.92, 0.92, 0.9, 0.86, 0.78, 0.7, 0.62, 0.46, 0.32)
# Beyond this share the first seven are cartilage.
CARTILAGE_FROM = 0.76


def spine_y_mm(z_mm: float) -> float:
    """Front-to-back place of the vertebral bodies' centre at a height."""
    return float(np.interp(z_mm, SPINE_CURVE[:, 0], SPINE_CURVE[:, 1]))


def bone(name: str, shape: Shape, subject: Subject, shell_mm: float = 1.6, density: float = 1.0) -> list[Part]:
    """A cortical shell round marrow."""
    tissue = subject.tissue
    return [
        Part(name, shape, tissue.cortex * density),
        Part(f"{name}_marrow", Inset(shape, shell_mm), tissue.marrow * density),
    ]


def vertebra_levels() -> list[tuple[float, float]]:
    """(centre, pitch) in mm from L5 up to C1."""
    levels, z = [], -252.0
    for index in range(24):
        pitch = 34.0 - 0.55 * index if index < 17 else 19.0
        levels.append((z + pitch / 2, pitch))
        z += pitch
    return levels


def spine(subject: Subject) -> list[Part]:
    """Vertebrae L5 to C1 with discs, arches and the canal."""
    parts: list[Part] = []
    tissue = subject.tissue
    for index, (z, pitch) in enumerate(vertebra_levels()):
        y = spine_y_mm(z)
        size = 1.0 if index < 5 else max(0.88 - 0.022 * (index - 5), 0.5)
        width, depth = 24.5 * size, 17.0 * size
        canal = y - depth - 7.5
        thoracic = 5 <= index < 17
        slope = -13.0 if thoracic else -3.0
        parts.append(Part("disc", Drum((0, y, z - pitch / 2), (width, depth), pitch * 0.2), tissue.disc))
        parts += bone("vertebra", Drum((0, y, z), (width, depth), pitch * 0.39, waist=0.88), subject, 1.2, 0.66)
        for side in (-1, 1):
            root: Vector = (side * width * 0.55, y - depth * 0.85, z + 3)
            joint: Vector = (side * 15.0 * max(size, 0.7), canal - 6, z + 1)
            tip: Vector = (side * (34.0 if thoracic else 38.0 * size), canal - (10 if thoracic else 2), z + 3)
            lamina: Vector = (0.0, canal - 12, z - 5)
            parts += bone("arch", Capsule(root, joint, 4.8, 5.5), subject, density=0.8)
            parts += bone("arch", Capsule(joint, tip, 4.2, 3.4), subject, density=0.75)
            parts += bone("arch", Capsule(joint, lamina, 4.2, 3.6), subject, density=0.85)
        spinous = Capsule((0, canal - 12, z - 4), (0, canal - 12 - 22 * max(size, 0.75), z - 8 + slope), 3.4, 3.8)
        parts += bone("spinous", spinous, subject, density=0.75)
        sac = Ellipsoid((0, canal, z), (9.0, 7.5, pitch * 0.9))
        parts.append(Part("canal", sac, 22.0))
        if index > 5:
            parts.append(Part("cord", Drum((0, canal, z), (5.5, 4.2), pitch * 0.55), 42.0))
    return parts


def paint_ribs(canvas: Canvas, layers: Layers, subject: Subject) -> None:
    """All twelve pairs at once: flat tubes that follow the wall of the cavity and sink from back to front."""
    z = canvas.coordinates()[2]
    if float(z.max()) < -190 or float(z.min()) > FIRST_RIB_MM + 15:
        return
    turn = layers.from_back_rad / math.pi
    steep = np.interp(z, [20, 120, 190], [118, 100, 55]).astype(np.float32)
    sink = steep * (np.maximum(turn - 0.06, 0) - 1.3 * np.maximum(turn - 0.7, 0))
    order = (FIRST_RIB_MM - sink - z) / RIB_PITCH_MM
    number = np.clip(np.rint(order), 0, 11)
    off_axis = (order - number) * RIB_PITCH_MM
    radial = layers.cavity + 6.0
    reach = np.asarray(RIB_REACH, np.float32)[number.astype(np.intp)]
    ends = np.minimum(reach - turn, turn - 0.1) * 250
    across: Array = np.sqrt(np.square(radial / 3.8) + np.square(off_axis / 6.8))
    depth = np.minimum((1 - across) * 4.2, ends).astype(np.float32)
    tissue = subject.tissue
    cartilage = (turn > CARTILAGE_FROM) & (number < 8)
    canvas.fill(depth, np.where(cartilage, np.float32(115), np.float32(tissue.cortex * 0.85)))
    canvas.fill(depth - 1.5, np.where(cartilage, np.float32(80), np.float32(tissue.marrow * 0.8)))


def girdle(subject: Subject, front_mm: float) -> list[Part]:
    """Sternum, clavicles, scapulae, humeral heads; `front_mm`: y of the cavity's front at the sternum."""
    parts: list[Part] = []
    for z, height, width, y in ((145.0, 27.0, 26.0, front_mm - 15), (70.0, 62.0, 17.0, front_mm + 5)):
        plate = Ellipsoid((0, y, z), (width, 6.5, height), axes=rotation_x(-0.16))
        parts += bone("sternum", plate, subject, 1.2, 0.6)
    for side in (-1.0, 1.0):
        parts += bone("clavicle", Capsule((side * 22, 46, 172), (side * 76, 26, 205), 6.5, 5.5), subject)
        parts += bone("clavicle", Capsule((side * 76, 26, 205), (side * 112, -10, 218), 5.5, 5.5), subject)
        blade = Ellipsoid((side * 102, -78, 122), (3.6, 42, 64), axes=rotation_z(side * -0.7))
        parts += bone("scapula", blade, subject, 1.4, 0.8)
        parts += bone("scapula", Capsule((side * 80, -96, 166), (side * 122, -44, 206), 4.5, 7), subject)
        parts += bone("glenoid", Ellipsoid((side * 112, -36, 192), (8, 13, 18)), subject)
        parts += bone("humerus", Ellipsoid((side * 134, -24, 206), (22, 22, 22)), subject, 1.6, 0.8)
        parts += bone("humerus", Capsule((side * 138, -20, 222), (side * 166, 4, 480), 12, 11), subject, 3.5)
    return parts


def pelvis(subject: Subject) -> list[Part]:
    """Sacrum, iliac wings, hip joints, femora, pubis."""
    parts: list[Part] = []
    for index in range(5):
        z = -268.0 - 22 * index
        radii = (46.0 - 7 * index, 19.0 - 2.2 * index, 15.0)
        parts += bone("sacrum", Ellipsoid((0, spine_y_mm(z) - 6, z), radii), subject, 1.5, 0.7)
    for side in (-1.0, 1.0):
        wing = Ellipsoid((side * 92, -12, -262), (7.5, 64, 60), axes=rotation_z(side * -0.55))
        parts += bone("ilium", wing, subject, 2.0, 0.85)
        parts += bone(
            "ilium", Ellipsoid((side * 60, -62, -282), (12, 24, 38), axes=rotation_z(side * -0.5)), subject, 2.0
        )
        parts += bone("ilium", Capsule((side * 82, -10, -310), (side * 84, 2, -345), 17, 26), subject, 2.5)
        parts += bone("femur", Ellipsoid((side * 92, 4, -348), (24, 24, 24)), subject, 1.8)
        parts += bone("femur", Capsule((side * 100, 2, -352), (side * 128, -10, -372), 15, 18), subject, 2.0)
        parts += bone("femur", Capsule((side * 128, -8, -375), (side * 95, 8, -800), 16, 13), subject, 4.5)
        parts += bone("pubis", Capsule((side * 68, 26, -352), (side * 9, 52, -366), 9, 9), subject, 1.6)
        parts += bone("ischium", Capsule((side * 72, -24, -352), (side * 50, -32, -408), 15, 12), subject, 2.0)
    return parts


def paint_skull(canvas: Canvas, layers: Layers, subject: Subject) -> None:
    """Calvarium and skull base as a shell just outside the brain."""
    z = canvas.coordinates()[2]
    head = z[:, 0, 0] > 305
    if not head.any():
        return
    shell = np.minimum(layers.cavity[head] + 6.5, 1.0 - layers.cavity[head])
    shell = np.minimum(shell, np.minimum(layers.body[head] - 3, 0.25 * (z[head] - 318)))
    canvas.hu[head] += canvas.cover(shell) * (subject.tissue.cortex - canvas.hu[head])


def rotation_z(angle_rad: float) -> Rotation:
    """Own axes turned about the body's axis."""
    c, s = math.cos(angle_rad), math.sin(angle_rad)
    return (c, s, 0.0), (-s, c, 0.0), (0.0, 0.0, 1.0)


def rotation_x(angle_rad: float) -> Rotation:
    """Own axes tilted forwards or backwards."""
    c, s = math.cos(angle_rad), math.sin(angle_rad)
    return (1.0, 0.0, 0.0), (0.0, c, s), (0.0, -s, c)
