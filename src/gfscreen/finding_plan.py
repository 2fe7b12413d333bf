"""What a plan says of findings: how likely one is to be lesion, which are only fluid, which Glance alone makes."""

from __future__ import annotations

import math
from dataclasses import dataclass

# What is measured of a finding (screening/finding_measures.py), in this order.
MEASURES = (
    "peak_logit",
    "mean_logit",
    "sure_share",
    "probability_around",
    "log10_ml",
    "length",
    "flatness",
    "compactness",
    "mean_hu",
    "log_hu_spread",
    "log_edge_hu_per_mm",
    "contrast_hu",
    "alike_around",
    "air_around",
    "cell_logit",
    "mean_cell_logit",
    "chest",
)


@dataclass(frozen=True)
class FindingMeasure:
    """One of MEASURES: mean and standard deviation where the regression was fitted, and how much it counts.

    weight: of the standardised value. products: of its products with itself and with each measure that follows.
    """

    name: str
    mean: float
    scale: float
    weight: float
    products: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.name not in MEASURES:
            raise ValueError(f"{self.name} is none of the measures, which are {', '.join(MEASURES)}")
        numbers = (self.mean, self.scale, self.weight, *self.products)
        if not (all(map(math.isfinite, numbers)) and self.scale > 0.0):
            raise ValueError(f"{self.name}: all numbers must be finite and scale above 0, got {numbers[:3]}")


@dataclass(frozen=True)
class FindingModel:
    """Logit = offset + for each measure weight * v + products * v * w, where v = (value - mean) / scale.

    w: v of the measure itself and of those that follow. least_peak: findings whose highest probability is not above it
    were not fitted to, and are held for none. Fitted to what one set of weights finds (`eval findings`).
    """

    offset: float
    measures: tuple[FindingMeasure, ...]
    least_peak: float

    def __post_init__(self) -> None:
        if not 0.0 < self.least_peak < 1.0:
            raise ValueError(f"finding_model: least_peak must be a probability in (0, 1), got {self.least_peak}")
        names = [measure.name for measure in self.measures]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"finding_model must name each of its measures once, got {', '.join(names) or 'none'}")
        if not math.isfinite(self.offset):
            raise ValueError(f"finding_model: offset must be finite, got {self.offset}")
        for number, measure in enumerate(self.measures):
            if len(measure.products) != len(names) - number:
                raise ValueError(
                    f"{measure.name}: expected {len(names) - number} products, with itself and with each measure that "
                    f"follows, got {len(measure.products)}"
                )


@dataclass(frozen=True)
class MassRule:
    """Which masses at the lung are marked because Glance is sure of them (screening/masses.py).

    mark_from: Glance probability of their middle, everywhere. peak: somewhere in it, at least. least_ml: its volume.
    """

    mark_from: float = 0.73
    peak: float = 0.88
    least_ml: float = 8.0

    def __post_init__(self) -> None:
        key = "liver_masses" if isinstance(self, LiverMassRule) else "masses"
        if not 0.5 <= self.mark_from <= self.peak < 1.0:
            raise ValueError(
                f"{key}: mark_from must be a probability from 0.5 on, and peak one from it to below 1, got "
                f"{self.mark_from} and {self.peak}"
            )
        if not 0.0 < self.least_ml <= 1000.0:
            raise ValueError(f"{key}: least_ml must be a volume above 0, up to 1000 ml, got {self.least_ml}")


@dataclass(frozen=True)
class LiverMassRule(MassRule):
    """The same of masses in the liver (screening/liver_masses.py)."""

    mark_from: float = 0.5
    peak: float = 0.88
    least_ml: float = 1.0


@dataclass(frozen=True)
class FluidRule:
    """Which findings are dropped because they are nothing but fluid (screening/fluid.py).

    Of at least `least_ml`, with a median from `lowest_hu` to `highest_hu` inside and there, without noise, a standard
    deviation of at most `spread_hu`.
    """

    lowest_hu: float = -15.0
    highest_hu: float = 25.0
    spread_hu: float = 9.0
    least_ml: float = 1.0

    def __post_init__(self) -> None:
        if not -100.0 <= self.lowest_hu < self.highest_hu <= 100.0:
            raise ValueError(
                f"fluid: lowest_hu must be below highest_hu, both from -100 to 100 HU, got {self.lowest_hu} and "
                f"{self.highest_hu}"
            )
        if not 0.0 < self.spread_hu <= 100.0:
            raise ValueError(f"fluid: spread_hu must be above 0, up to 100 HU, got {self.spread_hu}")
        if not 0.0 < self.least_ml <= 1000.0:
            raise ValueError(f"fluid: least_ml must be a volume above 0, up to 1000 ml, got {self.least_ml}")
