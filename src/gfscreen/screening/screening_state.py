"""What is known of the sub-volumes of one scan: their suspicion, which of them are suspicious, and which were read."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gfscreen.screening.windows import Window


@dataclass
class Glanced:
    """Sub-volumes with their suspicion: NaN where time did not allow a glance."""

    windows: list[Window]
    probability: NDArray[np.float64]


class ScreeningState:
    """How far the search of one scan has come: which sub-volumes were glanced at, with what suspicion, and read."""

    def __init__(self, windows: list[Window], gate: float, keep_share: float | None = None) -> None:
        self.windows = windows
        self.gate = gate
        self.keep_share = keep_share
        # Gate 0 needs no glance: everything is suspicious.
        self.suspicion = {} if self.glances else dict.fromkeys(windows, 1.0)
        self.read: set[Window] = set()
        # Where Glance knows the place: what is to be read instead, with its suspicion, the most suspicious first.
        self.pointed: dict[Window, float] | None = None
        self.goes_on = bool(windows)
        self._moved = False

    @property
    def glances(self) -> bool:
        """Whether Glance is asked at all."""
        return self.gate > 0 or self.keep_share is not None

    @property
    def probability(self) -> NDArray[np.float64]:
        """Suspicion of each sub-volume; NaN where it was not glanced at."""
        return np.array([self.suspicion.get(window, np.nan) for window in self.windows], np.float64)

    def suspicion_of(self, window: Window) -> float:
        """Suspicion of a sub-volume of the grid that was glanced at, or of one pointed at."""
        return self.suspicion[window] if self.pointed is None else self.pointed[window]

    def unseen(self, order: list[Window]) -> list[Window]:
        """Those of `order` that were not glanced at."""
        return [window for window in order if window not in self.suspicion]

    @property
    def suspicious(self) -> dict[Window, float]:
        """Sub-volumes of the grid above the gate with their suspicion, the most suspicious first."""
        kept = most_suspicious_first(Glanced(self.windows, self.probability), self.gate, self.keep_share)
        return {window: self.suspicion[window] for window in kept}

    def unread(self) -> list[Window]:
        """Those that are to be read and were not, the most suspicious first."""
        kept = self.suspicious if self.pointed is None else self.pointed
        return [window for window in kept if window not in self.read]

    def counts(self, close_per_wide: int) -> tuple[int, int]:
        """How many sub-volumes are kept, and how many of these were read, of close ones so many as one.

        The first rounded up; the second is the same if nothing is left unread, and smaller if anything is.
        """
        kept = math.ceil(in_wide_ones(self.kept, close_per_wide))
        read = math.floor(in_wide_ones(self.read, close_per_wide))
        return kept, min(read, kept - 1) if self.unread() else kept

    def saw(self, glanced: Glanced, *, looked: bool = False) -> None:
        """Take over what Glance says. looked: it has looked at something, if at no whole sub-volume."""
        seen = {w: float(p) for w, p in zip(glanced.windows, glanced.probability, strict=True) if not math.isnan(p)}
        self._moved = looked or not seen.keys() <= self.suspicion.keys()
        self.suspicion |= seen

    def point_at(self, found: list[tuple[Window, float]]) -> None:
        """Read these, and what was read already, instead of sub-volumes of the grid."""
        before = self.pointed or {}
        self.pointed = {window: before[window] for window in before if window in self.read} | dict(found)

    @property
    def kept(self) -> list[Window]:
        """What Focus is to read or has read: those above the gate, in the grid's order, or those pointed at."""
        if self.pointed is not None:
            return list(self.pointed)
        kept = self.read.union(self.unread())
        return [window for window in self.windows if window in kept]

    def did_read(self, windows: list[Window]) -> None:
        """Take over what Focus has read, which ends a round; one in which nothing was done was the last."""
        self.read |= set(windows)
        done = len(self.suspicion) == len(self.windows) and not self.unread()
        self.goes_on = (self._moved or bool(windows)) and not done


def in_wide_ones(windows: Collection[Window], close_per_wide: int) -> float:
    """How many of Focus's sub-volumes take as long: of close ones so many count for one."""
    close = sum(window.close for window in windows)
    return len(windows) - close + close / close_per_wide


def most_suspicious_first(glanced: Glanced, gate: float, keep_share: float | None = None) -> list[Window]:
    """The sub-volumes above the gate by falling suspicion, equal ones in the grid's order. Gate 0 keeps all.

    With `keep_share` that share of those glanced at (rounded up) is kept, whatever the gate.
    """
    order = np.argsort(-glanced.probability, kind="stable")
    if keep_share is not None:
        seen = int((~np.isnan(glanced.probability)).sum())
        return [glanced.windows[i] for i in order[: math.ceil(keep_share * seen)]]
    kept = [i for i in order if glanced.probability[i] > gate or gate == 0]
    return [glanced.windows[i] for i in kept]
