"""Patches of a Focus of nnU-Net's: where they lie, which of them Glance finds suspicious, and how they become one map.

nnU-Net spreads its patches evenly, at most half a patch apart, and weighs their middles more. A patch is as suspicious
as the most suspicious part of it that Glance has judged, and is read if that is above the gate: where Glance kept
something, every patch over it is read, and the scores there are those of reading everything.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.config import Plan
from gfscreen.networks.engines.base import Engine, FloatArray
from gfscreen.nnunet_plan import NnunetConfig
from gfscreen.scan.boxes import Box
from gfscreen.scan.grid import ModelScan
from gfscreen.scan.nnunet_grid import NnunetScan, model_box, to_nnunet
from gfscreen.scan.region import region_of
from gfscreen.scan.volume import Volume
from gfscreen.screening.budget import Allowance
from gfscreen.screening.cells import CellMap, probabilities
from gfscreen.screening.network_outputs import NetworkOutputs
from gfscreen.screening.screening_state import Glanced
from gfscreen.screening.windows import Window, clipped

# Score of lesion where no patch was read, as a logit: none, and not so low that it would reach far when interpolated.
UNREAD_LOGIT = -20.0
# Weight of a patch's middle, as nnU-Net has it: with half precision, that decides which weights at its corners differ.
MIDDLE_WEIGHT = 10.0


@dataclass(frozen=True)
class Patches:
    """A scan as the network reads it, and its patches.

    windows: starts on the network's grid, in its order of axes, negative where the scan is smaller than a patch.
    boxes: what each overlaps of the cropped model grid. config: the plan's, with the step of this run.
    """

    scan: NnunetScan
    windows: list[Window]
    boxes: list[Box]
    config: NnunetConfig


def axis_steps(length: int, size: int, step: float) -> list[int]:
    """Starts along one axis as nnU-Net spreads them; an axis shorter than a patch has one, centred, at or below 0."""
    if length <= size:
        return [-((size - length) // 2)]
    count = math.ceil((length - size) / (size * step)) + 1
    stride = (length - size) / (count - 1)
    return [int(np.round(stride * n)) for n in range(count)]


def plan_patches(volume: Volume, plan: Plan, model: ModelScan, overlap: float | None) -> Patches:
    """Bring a scan onto the network's grid and lay patches over all of it. overlap: None takes the plan's step."""
    assert plan.nnunet is not None
    config = plan.nnunet if overlap is None else replace(plan.nnunet, step=1.0 - overlap)
    scan = to_nnunet(volume, config)
    size = config.patch_voxels
    axes = [axis_steps(n, s, config.step) for n, s in zip(scan.grid.shape, size, strict=True)]
    windows, boxes = [], []
    for z, y, x in itertools.product(*axes):
        box = model_box((z, y, x), size, scan.grid, volume, model.grid)
        low, high = box[2]
        windows.append(Window((z, y, x), region_of(model.chest, low, high - low)))
        boxes.append(box)
    return Patches(scan, windows, boxes, config)


class PatchSuspicion:
    """How suspicious patches are, from what Glance says of its own sub-volumes (n, `size` voxels) or of its cells."""

    def __init__(self, patches: Patches, glance_windows: Sequence[Window], size: tuple[int, ...], gate: float) -> None:
        self._patches, self._gate = patches, gate
        self._said: dict[Window, float] = {}
        starts = np.array([window.start for window in glance_windows], np.intp).reshape(-1, 3)
        self._over = []
        for box in patches.boxes:
            low, high = np.array(box).T
            meets = ((starts < high) & (starts + np.array(size) > low)).all(axis=1)
            self._over.append([glance_windows[int(n)] for n in np.flatnonzero(meets)])

    def unseen(self, order: list[Window]) -> list[Window]:
        """Those of Glance's sub-volumes that it has not looked at and that lie over a patch."""
        wanted = {window for over in self._over for window in over}
        return [window for window in order if window in wanted and window not in self._said]

    def take(self, said: Glanced) -> tuple[Glanced, bool]:
        """Take over what Glance says; the patches' suspicion, and whether it has looked at something new.

        NaN for a patch of which nothing suspicious is known, while part of it has not been looked at.
        """
        new = {w: float(p) for w, p in zip(said.windows, said.probability, strict=True) if not math.isnan(p)}
        self._said |= new
        suspicion = []
        for over in self._over:
            known = [self._said[window] for window in over if window in self._said]
            highest = max(known, default=0.0)
            suspicion.append(highest if len(known) == len(over) or highest > self._gate else math.nan)
        return Glanced(self._patches.windows, np.array(suspicion, np.float64)), bool(new)

    def of_cells(self, cells: CellMap) -> Glanced:
        """The patches' suspicion from that of the cells whose centres lie in them."""
        suspicion = []
        for window, box in zip(self._patches.windows, self._patches.boxes, strict=True):
            lows = (box[0][0], box[1][0], box[2][0])
            size = tuple(high - low for low, high in box)
            suspicion.append(cells.suspicion(Window(lows, window.region), size))
        return Glanced(self._patches.windows, np.array(suspicion, np.float64))


def patch_weight(size: tuple[int, ...]) -> FloatArray:
    """How much each voxel of a patch counts (z, y, x), as nnU-Net weighs it; nowhere 0.

    A Gaussian of an eighth of the patch, cut off after four sigma, in half precision, whose 0 become its lowest value.
    """
    point = np.zeros(size)
    point[tuple(n // 2 for n in size)] = 1.0
    weight = ndimage.gaussian_filter(point, [n / 8 for n in size], 0, mode="constant", cval=0.0)
    half = (weight / weight.max() * MIDDLE_WEIGHT).astype(np.float16)
    half[half == 0] = half[half > 0].min()
    result: FloatArray = half.astype(np.float32)
    return result


class PatchStitcher:
    """Weighted mean of overlapping patches' scores, float32 (scores, z, y, x)."""

    def __init__(self, shape: tuple[int, int, int], config: NnunetConfig) -> None:
        self._config = config
        self._sum = np.zeros((config.scores, *shape), np.float32)
        self._weight_sum = np.zeros(shape, np.float32)
        self._weight = patch_weight(config.patch_voxels)

    def add(self, start: tuple[int, int, int], scores: FloatArray) -> None:
        """Add one patch's scores (scores, z, y, x); what lies outside the scan is dropped."""
        inside = clipped(start, self._config.patch_voxels, self._weight_sum.shape)
        part = tuple(slice(s.start - a, s.stop - a) for s, a in zip(inside, start, strict=True))
        weight = self._weight[part]
        for own, score in zip(self._sum, scores, strict=True):
            own[inside] += score[part] * weight
        self._weight_sum[inside] += weight

    def finish(self) -> FloatArray:
        """Mean scores; where nothing was read those of background. The stitcher is spent afterwards."""
        read = self._weight_sum > 0
        for number, own in enumerate(self._sum):
            np.divide(own, self._weight_sum, out=own, where=read)
            background = not self._config.regions and self._config.scores > 1 and number == 0
            own[~read] = 0.0 if background else UNREAD_LOGIT
        return self._sum


def lesion_logit(scores: FloatArray, config: NnunetConfig) -> FloatArray:
    """Scores (scores, ...) -> logit of lesion (...): above 0 where nnU-Net's mask has one of the lesion's labels.

    Of more labels than two: the strongest of the lesion's less the strongest of the others. Of regions: the strongest.
    """
    if config.scores == 1:
        only: FloatArray = scores[0]
        return only
    if config.regions:
        strongest: FloatArray = scores.max(axis=0)
        return strongest
    others = [n for n in range(len(config.outputs)) if n not in config.lesion]
    difference: FloatArray = scores[list(config.lesion)].max(axis=0) - scores[others].max(axis=0)
    return difference


def lesion_probability(scores: FloatArray, config: NnunetConfig) -> FloatArray:
    """Scores (scores, ...) -> probability of lesion (...), float32: softmax summed over the lesion's labels.

    Of regions: sigmoid of the strongest.
    """
    if config.scores == 1 or config.regions:
        return probabilities(lesion_logit(scores, config))
    raised = np.exp(scores - scores.max(axis=0))
    share: FloatArray = raised[list(config.lesion)].sum(axis=0) / raised.sum(axis=0)
    return share


def read_patches(
    patches: Patches,
    windows: list[Window],
    stitcher: PatchStitcher,
    engine: Engine,
    allowance: Allowance,
    progress: Callable[[str, int, int], None],
) -> int:
    """Add the scores of patches to `stitcher`; returns how many, in order, there was time for.

    With mirroring each is read once more for every combination of axes, and the answers are averaged.
    """
    mirrors = [
        axes
        for count in range(len(patches.config.mirror_axes) + 1)
        for axes in itertools.combinations(patches.config.mirror_axes, count)
    ]
    done = 0
    while part := windows[done : done + engine.focus_batch]:
        if not allowance.another(len(part)):
            break
        size = patches.config.patch_voxels
        batch = np.stack([gather_patch(patches.scan.image, window.start, size) for window in part])
        total: NDArray[np.float32] | None = None
        for axes in mirrors:
            turned = tuple(axis + 2 for axis in axes)
            scores = np.flip(engine.focus(np.ascontiguousarray(np.flip(batch, turned))), turned)
            total = scores if total is None else total + scores
        assert total is not None
        for window, scores in zip(part, total / np.float32(len(mirrors)), strict=True):
            stitcher.add(window.start, scores)
        done += len(part)
        progress("focus", done, len(windows))
    allowance.stop()
    return done


def gather_patch(image: FloatArray, start: tuple[int, int, int], size: tuple[int, ...]) -> FloatArray:
    """One patch of a scan (channels, z, y, x); 0 beyond it, as nnU-Net pads what is normalised."""
    inside = clipped(start, size, image.shape[1:])
    patch = np.zeros((len(image), *size), np.float32)
    target = tuple(slice(s.start - a, s.stop - a) for s, a in zip(inside, start, strict=True))
    patch[(slice(None), *target)] = image[(slice(None), *inside)]
    return patch


def on_model_grid(outputs: NetworkOutputs, patches: Patches) -> NetworkOutputs:
    """Outputs whose sub-volumes are patches, with these as boxes of the model grid, all of the largest one's size."""
    size = tuple(max((box[axis][1] - box[axis][0] for box in patches.boxes), default=1) for axis in range(3))
    starts = [(box[0][0], box[1][0], box[2][0]) for box in patches.boxes]
    windows = [Window(start, own.region) for start, own in zip(starts, patches.windows, strict=True)]
    return replace(outputs, size_voxels=size, windows=windows, grid_windows=windows)
