"""Sub-volumes with their cells and what reading them pays: what a head learns from as a policy.

The Focus is frozen: each sub-volume is read once, and both rewards are kept with its cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gfscreen.scan.region import region_of
from gfscreen.screening.windows import gather_for_focus
from gfscreen.training.cells.features import features_of
from gfscreen.training.cells.gathering import Arrays, Draw, Material
from gfscreen.training.data.places import cut
from gfscreen.training.objectives import IGNORE, detection_reward, dice_reward

# Of each version of a scan: sub-volumes around its lesions, and as many that hold none.
WITH_LESION = 2
WITHOUT_LESION = 2
TRIES = 20
# Where in a sub-volume the point lies that it is drawn around, in its size.
RANGE = (0.15, 0.85)


@dataclass(frozen=True)
class SubVolume:
    """Cells of one sub-volume: features float16 (n, 2048), region int8 (n,); n is at least 1.

    has_lesion: whether a voxel of it is lesion. detection, dice: rewards of reading it (training/objectives.py).
    """

    features: NDArray[np.float16]
    region: NDArray[np.int8]
    has_lesion: bool
    detection: float
    dice: float


def read_sub_volumes(material: Material, focus: nn.Module, draw: Draw) -> Arrays:
    """Sub-volumes of one version of a scan as arrays: their cells once, and for each those that lie in it.

    focus: logits (1, 2, X, Y, Z) of (1, C, X, Y, Z), in evaluation mode; asked only where there is a lesion, for
    without one the reward is 0.
    """
    size = material.plan.sub_volume_voxels
    scan = replace(draw.scan, hu=draw.populated.hu, label=draw.populated.label)
    body = ~np.isneginf(draw.cells.logit)
    wanted, boxes, rewards = np.zeros(body.shape, bool), [], []
    for start in _starts(draw, size):
        box = draw.cells.within(start, size)
        if not body[box].any():
            continue
        wanted[box] |= body[box]
        boxes.append(box)
        label = cut(scan, start, size, material.plan).label
        has_lesion = bool((label == 1).any())
        detection = dice = 0.0
        if has_lesion:
            region = region_of(scan.chest, start[2], size[2])
            seen_by_focus = torch.from_numpy(gather_for_focus(scan.hu, start, size, region, material.plan))
            with torch.inference_mode():
                logits = focus(seen_by_focus.reshape(1, -1, *size))
            known = torch.from_numpy(label)[None]
            detection, dice = float(detection_reward(logits, known)), float(dice_reward(logits, known))
        rewards.append((float(has_lesion), detection, dice))
    seen = features_of(material.run, draw.host, draw.cells, wanted, material.config)
    row = np.full(body.shape, -1, np.int32)
    row[tuple(seen.cell.T)] = np.arange(len(seen.cell))
    members = [row[box][row[box] >= 0] for box in boxes]
    return {
        "features": seen.features,
        "region": seen.region,
        "members": np.concatenate([*members, np.zeros(0, np.int32)]),
        "counts": np.array([len(rows) for rows in members], np.int32),
        "rewards": np.array(rewards, np.float32).reshape(-1, 3),
    }


def _starts(draw: Draw, size: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """Starts of sub-volumes: around as many different lesions as there are, at most WITH_LESION, and without any."""
    rng, lesions, shape = draw.rng, draw.populated.lesions, draw.scan.hu.shape
    count = len(draw.populated.kinds)
    for number in rng.permutation(count)[:WITH_LESION] + 1:
        voxels = np.flatnonzero(lesions == number)
        yield _around(rng, int(rng.choice(voxels)), shape, size)
    if draw.entry.unannotated:
        return
    body = np.flatnonzero(draw.scan.body)
    found = 0
    for _ in range(TRIES if body.size else 0):
        start = _around(rng, int(rng.choice(body)), shape, size)
        part = tuple(slice(max(0, a), max(0, a + n)) for a, n in zip(start, size, strict=True))
        unknown = not draw.entry.lesion_free and (draw.populated.label[part] == IGNORE).any()
        if unknown or (lesions[part] > 0).any():
            continue
        yield start
        found += 1
        if found == WITHOUT_LESION:
            return


def _around(
    rng: np.random.Generator, voxel: int, shape: tuple[int, ...], size: tuple[int, ...]
) -> tuple[int, int, int]:
    """Start of a sub-volume that holds a voxel (flat index) and, as in a screening, leaves no axis that is longer."""
    point = np.array(np.unravel_index(voxel, shape))
    room = np.array(shape) - np.array(size)
    start = np.clip(np.rint(point - rng.uniform(*RANGE, size=3) * np.array(size)), 0, np.maximum(room, 0))
    x, y, z = (int(v) for v in np.where(room <= 0, -(-room // 2), start))
    return x, y, z


def sub_volumes_of(arrays: Arrays) -> Iterator[SubVolume]:
    """What `read_sub_volumes` gave, one by one."""
    ends = np.cumsum(arrays["counts"])
    for end, count, (has_lesion, detection, dice) in zip(ends, arrays["counts"], arrays["rewards"], strict=True):
        rows = arrays["members"][end - count : end]
        yield SubVolume(
            arrays["features"][rows], arrays["region"][rows], bool(has_lesion), float(detection), float(dice)
        )
