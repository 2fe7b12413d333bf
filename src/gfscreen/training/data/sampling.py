"""Sub-volumes to train on: real lesions, inserted lesions, and background, drawn in given shares.

Every draw depends only on the random generator it is given; the loop seeds one per step, so that a resumed run sees the
data that an uninterrupted one would have seen. Arrays are (x, y, z); networks see [0, 1] after the HU window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gfscreen.config import Plan
from gfscreen.errors import UsageError
from gfscreen.network_plan import RegionName
from gfscreen.scan.region import region_of
from gfscreen.screening.windows import gather_for_focus
from gfscreen.training.data.cache import Scan
from gfscreen.training.data.lists import DataList
from gfscreen.training.data.places import cut, deep_lung_points, part_of, spread_points, start_around
from gfscreen.training.objectives import IGNORE
from gfscreen.training.settings import KINDS, Mix
from gfscreen.training.synthesis import lesion_bank as bank
from gfscreen.training.synthesis.augmentation import augment, distort
from gfscreen.training.synthesis.contrast_medium import without_contrast_medium
from gfscreen.training.synthesis.copied_lesions import RealLesion, insert_copy, real_lesions
from gfscreen.training.synthesis.insertion import (
    FAT_HU,
    Box,
    Crop,
    insert_leaning_mass,
    insert_lung_mass,
    insert_node,
    insert_nodule,
    insert_soft_lesion,
)
from gfscreen.training.synthesis.lesion_bank import FloatArray, Nodule, Shape
from gfscreen.training.synthesis.tissue import LUNG, SOFT

LUNG_SHAPES = ("uls23_MDSC_Task06_Lung", "uls23_ULS23_DeepLesion3D", "uls23_LiTS")
NODE_SHAPES = ("uls23_NIH_LN_ABD", "uls23_NIH_LN_MED")
LEANING_ML = (2.0, 120.0)
# Kinds whose sizes `sized_from_ml` rules.
SIZED = ("masses", "soft", "leaning")
TRIES = 20
MIN_HOST_LUNG_ML = 300.0
# Kinds that are placed away from annotated lesions, and get none inserted.
WITHOUT_LESION = ("background", "hot", "marked")


@dataclass(frozen=True)
class Sample:
    """One sub-volume: image float32 (x, y, z) in [0, 1], label uint8 (0, 1, IGNORE), kind as drawn, lesions inserted.

    other_window: the same in the other region's HU window, for a Focus that sees both; None elsewhere.

    loose: bool, the wider outlines of inserted nodules; own: bool, the lesions that the host had before others were
    inserted. Both None once the sub-volume is augmented, own also where nothing was inserted. weight: float16, how
    often a voxel counts in the loss of the Focus (learning/lesion_weights.py); None for once. hu: int16, what the image
    was made of, where a Focus of nnU-Net's is to see it, or who asked for it; None elsewhere and once the sub-volume is
    augmented. chest: whether it is seen through the chest's window.
    """

    image: FloatArray
    label: NDArray[np.uint8]
    kind: str
    inserted: int
    loose: NDArray[np.bool_] | None = None
    own: NDArray[np.bool_] | None = None
    weight: NDArray[np.float16] | None = None
    hu: NDArray[np.int16] | None = None
    other_window: FloatArray | None = None
    chest: bool = False

    @property
    def channels(self) -> FloatArray:
        """What Focus sees, float32 (channels, x, y, z)."""
        return self.image[None] if self.other_window is None else np.stack([self.image, self.other_window])


@dataclass(frozen=True)
class Source:
    """Scans and lesions of one side of the split."""

    scans: tuple[Scan, ...]
    nodules: tuple[Nodule, ...] = ()
    shapes: tuple[Shape, ...] = ()


def load_lesions(data: DataList, *, dev: bool) -> tuple[tuple[Nodule, ...], tuple[Shape, ...]]:
    """Nodules and shapes of one side: dev gets the patients whose hash says so, training all others."""

    def wanted(patient: str) -> bool:
        return data.on_dev_side(patient) == dev

    nodules = bank.read_nodules(data.nodules) if data.nodules else []
    shapes = bank.read_shapes(data.shapes) if data.shapes else []
    return tuple(n for n in nodules if wanted(n.patient)), tuple(s for s in shapes if wanted(s.patient))


def lesions_to_copy(scans: Iterable[Scan], plan: Plan) -> list[RealLesion]:
    """What kind `copied` draws from: the lesions of these scans in soft tissue, those of phantoms left out."""
    patients = [s for s in scans if not s.phantom]
    return [lesion for s in patients for lesion in real_lesions(s.name, s.hu, s.label, plan.spacing_mm)]


Grown = tuple[list[Shape], Callable[[np.random.Generator, Crop, bank.Patch], Box | None]]


def grown_kinds(shapes: Sequence[Shape]) -> dict[str, Grown]:
    """The kinds of lesion that are grown from a shape: which shapes each takes, and how it is inserted."""
    return {
        "masses": ([s for s in shapes if s.source in LUNG_SHAPES], insert_lung_mass),
        "soft": (list(shapes), insert_soft_lesion),
        "leaning": ([s for s in shapes if LEANING_ML[0] <= s.volume_ml <= LEANING_ML[1]], insert_leaning_mass),
        "nodes": ([s for s in shapes if s.source in NODE_SHAPES], insert_node),
    }


def _by_octave(shapes: Sequence[Shape], from_ml: float) -> list[list[Shape]]:
    """Shapes of at least `from_ml` by doublings of the volume, the smallest first; all as one where it is 0."""
    if from_ml <= 0:
        return [list(shapes)]
    octaves: dict[int, list[Shape]] = {}
    for shape in shapes:
        if shape.volume_ml >= from_ml:
            octaves.setdefault(int(np.log2(shape.volume_ml / from_ml)), []).append(shape)
    return [octaves[octave] for octave in sorted(octaves)]


class PatchSampler:
    """Draws sub-volumes of one side of the split."""

    def __init__(self, source: Source, plan: Plan, mix: Mix, *, strong: bool = False, keep_hu: bool = False) -> None:
        """strong: the draws are also turned, zoomed and changed in contrast and sharpness (`augmentation.distort`).

        keep_hu: plain draws hold their HU.
        """
        self.source, self.plan, self.mix, self.strong = source, plan, mix, strong
        self._annotated = [s for s in source.scans if s.annotated]
        hosts = self._annotated if mix.annotated_only else source.scans
        self._with_lesion = [s for s in self._annotated if len(s.lesions)]
        voxel_ml = float(np.prod(plan.spacing_mm)) / 1000.0
        self._points = {
            "background": {s.name: spread_points(s.body & (s.label == 0)) for s in self._annotated},
            "lung": {s.name: spread_points(s.tissue == LUNG, MIN_HOST_LUNG_ML / voxel_ml) for s in hosts},
            # 30 HU are 2 % of the chest window: lesions of soft tissue are only asked for where the other one is seen.
            "soft": {s.name: spread_points((s.tissue == SOFT) & (~s.chest | (plan.focus.channels > 1))) for s in hosts},
            "leaning": {s.name: deep_lung_points(s, plan.spacing_mm) for s in hosts},
            "nodes": {s.name: spread_points(s.body & (s.hu > FAT_HU[0]) & (s.hu < FAT_HU[1])) for s in hosts},
            "hot": {s.name: s.hot for s in self._annotated if s.hot is not None},
            "marked": {s.name: s.marked for s in self._annotated if s.marked is not None},
        }
        self._hosts = {
            kind: [s for s in source.scans if len(points.get(s.name, ()))] for kind, points in self._points.items()
        }
        self._grown = {
            kind: (_by_octave(own, mix.sized_from_ml if kind in SIZED else 0.0), insert)
            for kind, (own, insert) in grown_kinds(source.shapes).items()
        }
        self._keeps_hu = keep_hu or plan.nnunet is not None
        self._copied = lesions_to_copy(self._with_lesion, plan) if mix.copied > 0 else []
        self.possible = {
            "real": bool(self._with_lesion),
            "background": bool(self._hosts["background"]),
            "hot": bool(self._hosts["hot"]),
            "marked": bool(self._hosts["marked"]),
            "nodules": bool(self._hosts["lung"] and source.nodules),
            "copied": bool(self._hosts["soft"] and self._copied),
            **{
                kind: bool(self._hosts[self._place_of(kind)] and any(octaves))
                for kind, (octaves, _) in self._grown.items()
            },
        }
        shares = np.array([getattr(mix, kind) if self.possible[kind] else 0.0 for kind in KINDS])
        if shares.sum() <= 0:
            raise UsageError(f"mix: none of the kinds with a share can be drawn from this data ({self.possible})")
        self._shares = shares / shares.sum()

    def draw(self, rng: np.random.Generator, size: tuple[int, ...], *, kind: str | None = None) -> Sample:
        """One augmented sub-volume of `size` voxels.

        Where nobody annotated and no lesion found a place, another one is drawn.
        """
        sample, _ = self.draw_twins(rng, size, kind=kind)
        changed = _changed(sample, *augment(rng, sample.channels, sample.label))
        return _distorted(changed, rng) if self.strong else changed

    def draw_plain(self, rng: np.random.Generator, size: tuple[int, ...], *, kind: str) -> Sample:
        """One sub-volume of a kind to evaluate on, not augmented.

        Lesions that the host had before others were inserted are IGNORE: they are neither to be found nor false.
        """
        sample, _ = self.draw_twins(rng, size, kind=kind)
        if sample.own is not None:
            sample.label[sample.own] = IGNORE
        return sample

    def draw_changed_twins(self, rng: np.random.Generator, size: tuple[int, ...]) -> tuple[Sample, Sample | None]:
        """As `draw_twins`; if `strong`, both are turned, zoomed and changed alike, unless that loses the lesion."""
        sample, twin = self.draw_twins(rng, size)
        if not self.strong:
            return sample, twin
        seed = int(rng.integers(2**32))
        changed = _distorted(sample, np.random.default_rng(seed))
        if (sample.label == 1).any() and not (changed.label == 1).any():
            return sample, twin
        return changed, twin and _distorted(twin, np.random.default_rng(seed))

    def draw_twins(
        self, rng: np.random.Generator, size: tuple[int, ...], *, kind: str | None = None
    ) -> tuple[Sample, Sample | None]:
        """A sub-volume and, if lesions were inserted into a lesion-free one, what it was before; both not augmented."""
        kind = kind or str(rng.choice(KINDS, p=self._shares))
        shapes = self._sizes(rng, kind)
        for _ in range(TRIES):
            scan, start = self._place(rng, kind, size)
            crop = cut(scan, start, size, self.plan)
            if self.mix.unenhanced > 0 and rng.random() < self.mix.unenhanced:
                crop.hu[...] = without_contrast_medium(rng, crop.hu)
            before, own, lesion_free = crop.hu.copy(), crop.label == 1, not crop.label.any()
            inserted = self._insert(rng, crop, kind, shapes)
            if inserted or (kind in ("real", *WITHOUT_LESION) and (crop.label != IGNORE).any()):
                break
        region = region_of(scan.chest, start[2], size[2])
        image, other_window = self._seen(crop.hu, region)
        sample = Sample(
            image, crop.label, kind, inserted, crop.loose, own if inserted else None,
            hu=crop.hu if self._keeps_hu else None, other_window=other_window, chest=region == "chest",
        )  # fmt: skip
        if not (inserted and lesion_free):
            return sample, None
        image, other_window = self._seen(before, region)
        return sample, Sample(image, np.zeros_like(crop.label), "background", 0, other_window=other_window)

    def _seen(self, hu: NDArray[np.int16], region: RegionName) -> tuple[FloatArray, FloatArray | None]:
        """A sub-volume's HU in the window of its region, and, for a Focus that sees both, in the other."""
        seen = gather_for_focus(hu, (0, 0, 0), hu.shape, region, self.plan)
        return (seen, None) if seen.ndim == 3 else (seen[0], seen[1])

    def _place(self, rng: np.random.Generator, kind: str, size: tuple[int, ...]) -> tuple[Scan, tuple[int, int, int]]:
        """A scan and the start of a sub-volume that can hold what `kind` asks for."""
        if kind == "real":
            weights = np.array([s.weight for s in self._with_lesion])
            scan = self._with_lesion[int(rng.choice(len(weights), p=weights / weights.sum()))]
            return scan, start_around(rng, scan.lesions[int(rng.integers(len(scan.lesions)))], size)
        where = self._place_of(kind)
        hosts = self._hosts[where]
        weights = np.array([s.weight for s in hosts])
        scan = hosts[int(rng.choice(len(hosts), p=weights / weights.sum()))]
        points = self._points[where][scan.name]
        for _ in range(TRIES):
            start = start_around(rng, points[int(rng.integers(len(points)))], size, jitter=0.2)
            if kind not in WITHOUT_LESION or not (part_of(scan.label, start, size) == 1).any():
                break
        return scan, start

    def _place_of(self, kind: str) -> str:
        """Which of the points a kind is placed around."""
        if kind in self._points:
            return kind
        return "soft" if kind == "copied" else "lung"

    def _sizes(self, rng: np.random.Generator, kind: str) -> list[Shape]:
        """The shapes that a kind is grown from this time: with sized_from_ml, those of one doubling of the volume.

        Settled before a place is looked for: otherwise what fits most easily, the small ones, would be drawn.
        """
        if kind not in self._grown:
            return []
        octaves, _ = self._grown[kind]
        # Where there is nothing to choose no number is drawn, so that older recipes draw what they always did.
        return octaves[int(rng.integers(len(octaves)))] if len(octaves) > 1 else octaves[0]

    def _insert(self, rng: np.random.Generator, crop: Crop, kind: str, shapes: Sequence[Shape]) -> int:
        grid_mm = self.plan.spacing_mm
        if kind == "nodules":
            count = 0
            for _ in range(int(rng.integers(1, self.mix.nodules_per_crop + 1))):
                nodule = self.source.nodules[int(rng.integers(len(self.source.nodules)))]
                count += insert_nodule(rng, crop, bank.sample_nodule(rng, nodule, grid_mm)) is not None
            return count
        if kind == "copied":
            lesions = rng.choice(len(self._copied), size=int(rng.integers(1, 4)))
            return sum(insert_copy(rng, crop, self._copied[int(i)]) is not None for i in lesions)
        if kind not in self._grown:
            return 0
        _, insert = self._grown[kind]

        def grow() -> bool:
            shape = shapes[int(rng.integers(len(shapes)))]
            return insert(rng, crop, bank.sample_shape(rng, shape, grid_mm)) is not None

        if kind in ("masses", "leaning"):
            return int(any(grow() for _ in range(3)))
        return sum(grow() for _ in range(int(rng.integers(1, 4))))


def _distorted(sample: Sample, rng: np.random.Generator) -> Sample:
    return _changed(sample, *distort(rng, sample.channels, sample.label))


def _changed(sample: Sample, channels: FloatArray, label: NDArray[np.uint8]) -> Sample:
    other_window = None if sample.other_window is None else channels[1]
    return Sample(channels[0], label, sample.kind, sample.inserted, other_window=other_window)
