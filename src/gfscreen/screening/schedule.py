"""Which sub-volumes to glance at first, and how the time is shared between Glance and Focus, in rounds.

With enough time there is one round: all are glanced at, all suspicious ones are read. If Glance alone would take more
than its share, it covers the scan evenly as far as the share goes, Focus reads what is suspicious in that, and the time
that Focus has not needed goes into the next round, until nothing more fits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gfscreen.networks.engines.base import EngineInfo
from gfscreen.screening.budget import Allowance, Budget, Later, Pace
from gfscreen.screening.windows import Window

# Of what is left when a round begins, Glance may use this share.
GLANCE_SHARE = 0.5


def evenly_spread(windows: Sequence[Window], size: tuple[int, ...]) -> list[Window]:
    """The sub-volumes in an order whose every beginning covers the whole scan: each is the farthest from all before.

    Starts with the one nearest to the centre. Distances are in sub-volumes of `size` voxels (x, y, z); the first of
    equally far ones is taken, so that the order is reproducible.
    """
    if not windows:
        return []
    starts = np.array([window.start for window in windows], float) / np.array(size, float)
    chosen = int(((starts - starts.mean(axis=0)) ** 2).sum(axis=1).argmin())
    order, distance = [], np.full(len(windows), np.inf)
    for _ in windows:
        order.append(windows[chosen])
        distance = np.minimum(distance, ((starts - starts[chosen]) ** 2).sum(axis=1))
        distance[chosen] = -1.0
        chosen = int(distance.argmax())
    return order


class Timetable:
    """Hands out the time of a case: before `reserve_s` is all that is left, and no step that is not expected to fit.

    engine: what it expects of a step before one has been measured. later: what a read costs beyond `reserve_s` once all
    are done.
    """

    def __init__(self, budget: Budget, reserve_s: float, engine: EngineInfo, later: Later | None = None) -> None:
        self._budget = budget
        self._reserve_s = reserve_s
        self._later = Later() if later is None else later
        self._glance, self._focus, self._cells = Pace(engine.glance_s), Pace(engine.focus_s), Pace(engine.cells_s)
        self._second_focus, self._wide_second_focus = Pace(engine.second_focus_s), Pace(engine.second_focus_s)

    def left_s(self) -> float:
        """Seconds that may still be spent on both stages."""
        return self._budget.remaining_s() - self._reserve_s - self._later.after_s()

    def for_glance(self, batch: int, focus_batch: int) -> Allowance:
        """A share of what is left; never so much that what is found could not be read any more."""
        return self._share(self._glance, batch, focus_batch)

    def for_cells(self, step: int, focus_batch: int) -> Allowance:
        """The same for cells beside a Glance, which come after it; `step` in sub-volumes that a piece counts for."""
        self._cells.scale(self._glance.slowdown())
        return self._share(self._cells, step, focus_batch)

    def _share(self, pace: Pace, step: int, focus_batch: int) -> Allowance:
        self._focus.scale(self._glance.slowdown())
        left_s = self.left_s()
        one_read_s = self._focus.step_s(focus_batch) + self._later.after_s(focus_batch) - self._later.after_s()
        with_one_read_s = left_s - one_read_s
        return Allowance(self._budget, min(max(GLANCE_SHARE * left_s, pace.step_s(step)), with_one_read_s), pace)

    def for_focus(self) -> Allowance:
        """All that is left."""
        self._focus.scale(self._glance.slowdown())
        # The allowance counts what was read before by itself.
        return Allowance(self._budget, self.left_s() + self._later.after_s(), self._focus, self._later)

    def for_close_reads(self) -> Allowance:
        """The same for what the second Focus reads in Focus's place, in sub-volumes of its own."""
        self._second_focus.scale(self._glance.slowdown())
        return Allowance(self._budget, self.left_s() + self._later.after_s(), self._second_focus, self._later)

    def fit(self, wide: int, close: int) -> bool:
        """Whether there is time for so many reads of Focus, and of the second Focus in its place, as far as known."""
        self._focus.scale(self._glance.slowdown())
        self._second_focus.scale(self._glance.slowdown())
        takes_s = wide * self._focus.step_s(1) + close * self._second_focus.step_s(1)
        return takes_s + self._later.after_s(wide + close) - self._later.after_s() <= self.left_s()

    def for_second_focus(self, larger: float = 1.0) -> Allowance:
        """The same for second looks of the second Focus, which mark only where Focus has read: no cost later.

        larger: how many times as large as its own its sub-volumes are.
        """
        pace = self._second_focus if larger == 1.0 else self._wide_second_focus
        pace.scale(self._glance.slowdown() * larger)
        return Allowance(self._budget, self.left_s(), pace)
