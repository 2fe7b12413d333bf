"""One imaginary patient: what differs between people, drawn from a seed.

All anatomy is written once, in atlas millimetres: RAS, x = 0 in the midline, y = 0 half-way between front and back,
z = 0 at the top of the right diaphragm. A subject stretches the atlas (`scale`), puts fat around it and shifts organs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.phantom.shapes import Vector, vector


@dataclass(frozen=True)
class Tissue:
    """Mean HU in a contrast-enhanced scan, portal venous phase."""

    fat: float = -102.0
    muscle: float = 55.0
    skin: float = 15.0
    lung: float = -855.0
    blood: float = 155.0
    heart_wall: float = 98.0
    liver: float = 105.0
    liver_vein: float = 150.0
    spleen: float = 115.0
    kidney: float = 165.0
    pancreas: float = 92.0
    bowel_wall: float = 75.0
    fluid: float = 18.0
    bile: float = 8.0
    gas: float = -985.0
    cortex: float = 850.0
    marrow: float = 230.0
    disc: float = 85.0
    brain: float = 38.0


@dataclass(frozen=True)
class Subject:
    """Draws for one patient; `rng_key` seeds what is grown later (vessels, bowel loops, lesions, noise)."""

    rng_key: tuple[int, ...]
    scale: Vector
    adiposity: float
    off_centre_mm: tuple[float, float]
    liver_size: float
    spleen_size: float
    kidney_size: float
    heart_size: float
    diaphragm_mm: tuple[float, float]
    noise_hu: float
    tissue: Tissue

    def rng(self, purpose: int) -> np.random.Generator:
        """An independent stream per purpose, so that one part can change without moving the others."""
        return np.random.default_rng(np.random.SeedSequence([*self.rng_key, purpose]))

    def jitter(self, rng: np.random.Generator, point_mm: tuple[float, float, float], sigma_mm: float = 3.0) -> Vector:
        """A place in the body, a little moved."""
        return vector(np.asarray(point_mm) + np.clip(rng.normal(size=3), -2, 2) * sigma_mm)


def draw_subject(seed: int, stream: int) -> Subject:
    """The patient of a seed; `stream` separates the kinds of scan, so that one seed gives different people."""
    key = (seed, stream)
    rng = np.random.default_rng(np.random.SeedSequence([*key, 0]))

    def about(centre: float, spread: float) -> float:
        return float(centre + spread * np.clip(rng.normal(), -2, 2))

    size = about(0.98, 0.025)
    enhancement = about(1.0, 0.06)
    base = Tissue()
    return Subject(
        rng_key=key,
        scale=(size * about(1, 0.015), size * about(1, 0.02), size * about(1, 0.02)),
        adiposity=float(np.exp(np.clip(rng.normal(-0.05, 0.3), -0.6, 0.5))),
        off_centre_mm=(about(0, 4), about(0, 3)),
        liver_size=about(1, 0.04),
        spleen_size=about(1, 0.1),
        kidney_size=about(1, 0.06),
        heart_size=about(1, 0.05),
        diaphragm_mm=(about(0, 4), about(-14, 4)),
        noise_hu=about(11, 1.5),
        tissue=Tissue(
            fat=about(base.fat, 3),
            muscle=about(base.muscle, 3),
            lung=about(base.lung, 10),
            blood=base.blood * enhancement,
            heart_wall=base.heart_wall * enhancement,
            liver=about(base.liver, 4),
            liver_vein=base.liver_vein * enhancement,
            spleen=about(base.spleen, 4),
            kidney=base.kidney * enhancement,
            pancreas=about(base.pancreas, 3),
            cortex=about(base.cortex, 60),
            marrow=about(base.marrow, 25),
        ),
    )
