"""Networks over sub-volumes, in batches and as far as time allows: what each stage of a screening asks of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np

from gfscreen.config import Plan
from gfscreen.networks.engines.base import Engine, FloatArray
from gfscreen.screening.budget import Allowance
from gfscreen.screening.cells import OnModelGrid
from gfscreen.screening.progress import Progress
from gfscreen.screening.schedule import Timetable
from gfscreen.screening.screening_state import Glanced
from gfscreen.screening.second_look import CLOSE_GROWTH_MM, WIDE_GROWTH_MM, SecondLooks, confirmed
from gfscreen.screening.windows import Stitcher, Window, gather, gather_for_focus


def glance(
    scan: OnModelGrid, windows: list[Window], plan: Plan, engine: Engine, allowance: Allowance, progress: Progress
) -> Glanced:
    """Suspicion of the sub-volumes, in batches and in the order given, of as many as the allowance lets in."""
    probability = np.full(len(windows), np.nan)
    done = 0
    while part := windows[done : done + engine.glance_batch]:
        if not allowance.another(len(part)):
            break
        probability[done : done + len(part)] = engine.glance(_gather(scan, part, plan))
        done += len(part)
        progress("glance", done, len(windows))
    allowance.stop()
    return Glanced(windows, probability)


def focus(
    scan: OnModelGrid,
    windows: list[Window],
    stitcher: Stitcher,
    plan: Plan,
    engine: Engine,
    allowance: Allowance,
    progress: Progress,
    *,
    mirrored: bool = False,
) -> int:
    """Add the lesion probability of the sub-volumes to `stitcher`; returns how many, in order, there was time for.

    mirrored: Focus sees them flipped along z, and its answer is flipped back.
    """
    stage = "second look" if mirrored else "focus"
    network, told = engine.focus, partial(progress, stage)
    return _read(scan, windows, stitcher.add, plan, engine, network, allowance, told, mirrored=mirrored)


def read_suspicious(
    scan: OnModelGrid,
    windows: list[Window],
    stitcher: Stitcher,
    plan: Plan,
    engine: Engine,
    time: Timetable,
    progress: Progress,
) -> list[Window]:
    """As `focus`, and close ones by the second Focus; in the order given. Returns those that there was time for.

    Where time will do for all, the close ones come first: networks that take turns give back their memory each time.
    """
    wide, close = (list(filter(lambda window: window.close == kind, windows)) for kind in (False, True))
    ordered = [*close, *wide] if time.fit(len(wide), len(close)) else windows
    done: list[Window] = []
    for is_close, run in itertools.groupby(ordered, key=lambda window: window.close):
        part = list(run)
        told = partial(_told_after, progress, len(done), len(windows))
        if is_close:
            own, allowance, network = plan.of_second_focus, time.for_close_reads(), engine.second_focus
            read = _read(scan, part, stitcher.add, own, engine, network, allowance, told, mirrored=False)
        else:
            allowance = time.for_focus()
            read = _read(scan, part, stitcher.add, plan, engine, engine.focus, allowance, told, mirrored=False)
        done += part[:read]
        if read < len(part):
            break
    return done


def _told_after(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    """Progress of a part of the reads as progress of all."""
    progress("focus", before + done, total)


def _by_second_focus(
    scan: OnModelGrid,
    windows: list[Window],
    stitcher: Stitcher,
    plan: Plan,
    engine: Engine,
    allowance: Allowance,
    told: Callable[[int, int], None],
    growth_mm: float,
    counts: int,
) -> int:
    """The same by the second Focus, which sees its sub-volumes mirrored; it confirms and outlines what was found.

    plan: as it is for the second Focus. growth_mm: so far beyond what was found it may mark. counts: for how many of
    Focus's answers one of its own does. An engine that knows no second Focus will do where there is nothing to look at.
    """
    if not windows:
        return 0

    def add(start: tuple[int, int, int], said: FloatArray) -> None:
        before = stitcher.at(start, said.shape)
        stitcher.add(start, confirmed(said, before, plan.lesion_threshold, plan.spacing_mm, growth_mm), counts)

    return _read(scan, windows, add, plan, engine, engine.second_focus, allowance, told, mirrored=True)


def look_again(
    scan: OnModelGrid,
    looks: SecondLooks,
    stitcher: Stitcher,
    plan: Plan,
    engine: Engine,
    time: Timetable,
    progress: Progress,
) -> int:
    """Second looks, the close ones first; returns how many there was time for."""
    close, allowance, told = plan.of_second_focus, time.for_second_focus(), partial(progress, "close look")
    counts = 1 if plan.second_focus is None else plan.second_focus.counts
    done = _by_second_focus(scan, looks.close, stitcher, close, engine, allowance, told, CLOSE_GROWTH_MM, counts)
    done += focus(scan, looks.wide, stitcher, plan, engine, time.for_focus(), progress, mirrored=True)
    if looks.by_both:
        wide = plan.of_wide_second_focus
        allowance = time.for_second_focus(math.prod(wide.sub_volume_voxels) / math.prod(close.sub_volume_voxels))
        told = partial(progress, "wide look")
        done += _by_second_focus(scan, looks.wide, stitcher, wide, engine, allowance, told, WIDE_GROWTH_MM, counts)
    return done


def _read(
    scan: OnModelGrid,
    windows: list[Window],
    add: Callable[[tuple[int, int, int], FloatArray], None],
    plan: Plan,
    engine: Engine,
    network: Callable[[FloatArray], FloatArray],
    allowance: Allowance,
    progress: Callable[[int, int], None],
    *,
    mirrored: bool,
) -> int:
    """`add` what a network says of the sub-volumes, read in batches; returns how many there was time for."""
    turn = slice(None, None, -1 if mirrored else 1)
    done = 0
    while part := windows[done : done + engine.focus_batch]:
        if not allowance.another(len(part)):
            break
        seen = np.ascontiguousarray(_gather_for_focus(scan, part, plan)[..., turn])
        for window, probability in zip(part, network(seen), strict=True):
            add(window.start, probability[..., turn])
        done += len(part)
        progress(done, len(windows))
    allowance.stop()
    return done


def _gather(scan: OnModelGrid, windows: list[Window], plan: Plan) -> FloatArray:
    """The sub-volumes as one batch (n, x, y, z), each through the HU window of its own region."""
    size, hu_windows = plan.sub_volume_voxels, plan.hu_windows
    return np.stack([gather(scan.hu, window.start, size, hu_windows.of(window.region)) for window in windows])


def _gather_for_focus(scan: OnModelGrid, windows: list[Window], plan: Plan) -> FloatArray:
    """The same as Focus sees them: of one that sees both HU windows (n, 2, x, y, z)."""
    size = plan.sub_volume_voxels
    return np.stack([gather_for_focus(scan.hu, window.start, size, window.region, plan) for window in windows])
