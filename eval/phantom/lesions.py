"""Lesions: what they are, where they may sit, how they look (scan mm)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.phantom import abdomen, thorax
from eval.phantom.canvas import Canvas
from eval.phantom.lesion_shape import LesionShape
from eval.phantom.shapes import Array, Box, Rotation, Vector, vector
from eval.phantom.skeleton import spine_y_mm, vertebra_levels
from eval.phantom.subject import Subject
from eval.phantom.torso import Torso

# Places of lymph nodes: paratracheal, subcarinal, aortopulmonary, hilar; para-aortic, aortocaval, mesenteric, iliac.
CHEST_NODES_MM = ((19, -4, 132), (6, -18, 84), (-32, 0, 118), (52, -16, 72), (-54, -14, 76), (22, 20, 148))
ABDOMEN_NODES_MM = ((-24, -6, -168), (8, -2, -186), (-20, 34, -176), (26, 36, -176), (-22, -10, -196), (-34, 14, -88))
CANDIDATES = 2000


@dataclass(frozen=True)
class PhantomLesion:
    """One row of the lesion table.

    Args:
        kind: lung_nodule, lymph_node, liver_metastasis, kidney_tumour, pancreas_tumour or bone_metastasis.
        look: solid, lobulated, spiculated, ground_glass, ring or hypodense.
        hu, contrast_hu: mean of its middle, and the difference from the tissue around it.

    """

    kind: str
    look: str
    centre_ras_mm: Vector
    long_axis_mm: float
    volume_ml: float
    hu: float
    contrast_hu: float
    rim_hu: float = field(repr=False, default=0.0)
    shape: LesionShape = field(repr=False, default_factory=lambda: LesionShape((0, 0, 0), (1, 1, 1), UPRIGHT))

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the table's columns."""
        return {
            "kind": self.kind,
            "look": self.look,
            "centre_ras_mm": [round(value, 2) for value in self.centre_ras_mm],
            "long_axis_mm": round(self.long_axis_mm, 2),
            "volume_ml": round(self.volume_ml, 4),
            "hu": round(self.hu, 1),
            "contrast_hu": round(self.contrast_hu, 1),
        }


UPRIGHT: Rotation = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class Wish:
    """A lesion to be placed: `diameter_mm` is the mean; `places` draws centres in atlas mm, given the reach."""

    kind: str
    look: str
    diameter_mm: float
    hu: float
    around_hu: float
    rim_hu: float
    places: Callable[[np.random.Generator, float], NDArray[np.float64]]


def paint_lesions(canvas: Canvas, lesions: tuple[PhantomLesion, ...]) -> Array:
    """Paint lesions on a canvas in scan mm; returns the share of each voxel that is lesion, (nz, ny, nx)."""
    share = np.zeros_like(canvas.hu)
    for lesion in lesions:
        window = canvas.window(lesion.shape.bounds)
        if window is None:
            continue
        depth = lesion.shape.depth(*canvas.coordinates(window))
        cover = canvas.cover(depth)
        rim = np.exp(-np.square((depth - 1.5) / 2.2))
        target = canvas.hu[window]
        target += cover * (lesion.hu + (lesion.rim_hu - lesion.hu) * rim - target)
        share[window] = np.maximum(share[window], cover)
    return share


def place_lesions(torso: Torso, kind: str, field_of_view: Box, voxel_mm: Vector) -> tuple[PhantomLesion, ...]:
    """The lesions of a scan: those of the subject that lie fully inside the field of view and that its voxels can show.

    Every wish draws from its own stream: that one is left out does not move another, and the sampling of the same
    field of view does not move any.
    """
    subject = torso.subject
    placed: list[PhantomLesion] = []
    for index, wish in enumerate(_wishes(torso, kind)):
        rng = subject.rng(100 + index)
        shape = _draw_shape(wish, rng)
        for centre_atlas in wish.places(rng, shape.reach_mm):
            centre = vector(np.asarray(centre_atlas) * subject.scale)
            moved = LesionShape(centre, shape.radii_mm, shape.axes, shape.waves, shape.spikes, shape.spike_sharpness)
            if not _fits(moved, field_of_view) or any(_touch(moved, other.shape) for other in placed):
                continue
            if moved.volume_ml < 3e-3 * float(np.prod(voxel_mm)) or moved.long_axis_mm < 1.1 * max(voxel_mm):
                break
            placed.append(
                PhantomLesion(
                    kind=wish.kind,
                    look=wish.look,
                    centre_ras_mm=centre,
                    long_axis_mm=moved.long_axis_mm,
                    volume_ml=moved.volume_ml,
                    hu=wish.hu,
                    contrast_hu=wish.hu - wish.around_hu,
                    rim_hu=wish.rim_hu,
                    shape=moved,
                )
            )
            break
    return tuple(placed)


def _fits(shape: LesionShape, box: Box) -> bool:
    bounds = shape.bounds
    return bool(np.all(np.greater(bounds.low_mm, box.low_mm)) and np.all(np.less(bounds.high_mm, box.high_mm)))


def _touch(first: LesionShape, second: LesionShape) -> bool:
    gap = np.linalg.norm(np.subtract(first.centre_mm, second.centre_mm))
    return bool(gap < first.reach_mm + second.reach_mm + 2)


def _draw_shape(wish: Wish, rng: np.random.Generator) -> LesionShape:
    """A random form about the origin, of the mean diameter that was wished."""
    stretch = np.exp(rng.normal(0, 0.13, 3))
    radii = wish.diameter_mm / 2 * stretch / np.cbrt(stretch.prod())
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rough = 0.11 if wish.look == "lobulated" else 0.05
    waves = []
    for order in (2.0, 3.0, 4.0):
        direction = rng.normal(size=3)
        k = direction / np.linalg.norm(direction) * order
        waves.append((rough * float(rng.uniform(0.6, 1.2)), *vector(k), float(rng.uniform(0, 2 * np.pi))))
    rays = rng.normal(size=(16, 3)) if wish.look == "spiculated" else np.empty((0, 3))
    spikes = [(float(rng.uniform(0.25, 0.6)), *vector(ray / np.linalg.norm(ray))) for ray in rays]
    rotation: Rotation = (vector(axes[0]), vector(axes[1]), vector(axes[2]))
    return LesionShape((0.0, 0.0, 0.0), vector(radii), rotation, tuple(waves), tuple(spikes), 60.0)


def _wishes(torso: Torso, kind: str) -> list[Wish]:
    """What a patient with disease has, by the kind of scan."""
    rng = torso.subject.rng(30)
    chest, belly = _chest_wishes(torso, rng), _abdomen_wishes(torso, rng)
    if kind == "chest":
        return chest
    return belly if kind == "abdomen" else chest + belly


def _chest_wishes(torso: Torso, rng: np.random.Generator) -> list[Wish]:
    tissue = torso.subject.tissue
    looks = ("spiculated", "lobulated", "solid", "solid", "ground_glass")
    sizes = [rng.uniform(18, 27), rng.uniform(16, 24), rng.uniform(10, 15), rng.uniform(6.5, 9), rng.uniform(12, 20)]
    wishes = []
    for look, size in zip(looks, sizes, strict=True):
        hu = -560.0 if look == "ground_glass" else float(rng.uniform(25, 55))
        wishes.append(Wish("lung_nodule", look, float(size), hu, tissue.lung, hu, _in_lungs(torso)))
    for size in (rng.uniform(17, 24), rng.uniform(11, 15)):
        hu = float(rng.uniform(70, 95))
        wishes.append(
            Wish("lymph_node", "solid", float(size), hu, tissue.fat, hu, _near(torso.subject, CHEST_NODES_MM))
        )
    return wishes


def _abdomen_wishes(torso: Torso, rng: np.random.Generator) -> list[Wish]:
    subject = torso.subject
    tissue = subject.tissue
    wishes = []
    for look, low, high in (("ring", 32, 52), ("hypodense", 18, 28), ("ring", 14, 20), ("hypodense", 8, 12)):
        hu = float(rng.uniform(45, 65))
        rim = tissue.liver + 22 if look == "ring" else hu
        size = float(rng.uniform(low, high))
        wishes.append(Wish("liver_metastasis", look, size, hu, tissue.liver, rim, _in_liver(torso)))
    size, hu = float(rng.uniform(22, 38)), float(rng.uniform(75, 100))
    wishes.append(Wish("kidney_tumour", "lobulated", size, hu, tissue.kidney, hu + 15, _on_kidney(subject)))
    size, hu = float(rng.uniform(20, 32)), float(rng.uniform(48, 62))
    wishes.append(
        Wish("pancreas_tumour", "lobulated", size, hu, tissue.pancreas, hu, _near(subject, abdomen.PANCREAS_MM))
    )
    for _ in range(2):
        size, hu = float(rng.uniform(13, 24)), float(rng.uniform(75, 100))
        wishes.append(Wish("lymph_node", "solid", size, hu, tissue.fat, hu, _near(subject, ABDOMEN_NODES_MM)))
    size = float(rng.uniform(12, 18))
    wishes.append(Wish("bone_metastasis", "solid", size, 70.0, tissue.marrow, 70.0, _in_vertebrae))
    return wishes


Places = Callable[[np.random.Generator, float], NDArray[np.float64]]


def _inside(depth: Callable[[Array, Array, Array], Array], low: Vector, high: Vector) -> Places:
    def places(rng: np.random.Generator, reach_mm: float) -> NDArray[np.float64]:
        points = rng.uniform(low, high, size=(CANDIDATES, 3))
        x, y, z = points.astype(np.float32).T
        found: NDArray[np.float64] = points[depth(x, y, z) > reach_mm * 1.05 + 1]
        return found[:400]

    return places


def _in_lungs(torso: Torso) -> Places:
    return _inside(lambda x, y, z: thorax.lung_depth(torso, x, y, z), (-138, -90, -85), (138, 85, 200))


def _in_liver(torso: Torso) -> Places:
    box = abdomen.liver_shape(torso.subject).bounds
    return _inside(lambda x, y, z: abdomen.liver_depth(torso, x, y, z), box.low_mm, box.high_mm)


def _on_kidney(subject: Subject) -> Places:
    """On the outer side of either kidney, half of it bulging out."""

    def places(rng: np.random.Generator, reach_mm: float) -> NDArray[np.float64]:
        found = []
        for index in rng.permutation(2):
            kidney = abdomen.kidney_shapes(subject)[index]
            side = 1 if index == 0 else -1
            for along in rng.uniform(-0.65, 0.65, size=12):
                away = np.array([side * rng.uniform(0.6, 1), rng.uniform(-0.3, 0.5), 0])
                away *= kidney.radii_mm[1] * 0.85 * np.sqrt(1 - along**2) / np.linalg.norm(away)
                axis = np.asarray(kidney.axes)[0] * kidney.radii_mm[0] * along
                found.append(np.asarray(kidney.centre_mm) + axis + away)
        return np.array(found)

    return places


def _near(subject: Subject, stations_mm: tuple[tuple[float, float, float], ...]) -> Places:
    def places(rng: np.random.Generator, reach_mm: float) -> NDArray[np.float64]:
        order = rng.permutation(len(stations_mm))
        return np.array([subject.jitter(rng, stations_mm[index], 2.0) for index in order])

    return places


def _in_vertebrae(rng: np.random.Generator, reach_mm: float) -> NDArray[np.float64]:
    levels = [z for z, _ in vertebra_levels()[:12]]
    order = rng.permutation(len(levels))
    return np.array([(rng.uniform(-6, 6), spine_y_mm(levels[i]) + 1, levels[i]) for i in order])
