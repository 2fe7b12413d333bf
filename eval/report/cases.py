"""The cases to show: which ones, and their scan and masks in RAS order, one case in memory at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.accuracy.masks import SUFFIX, Mask, MaskError, geometry_problem, list_masks, read_mask
from eval.efficiency.runner import find_cases
from eval.report.inputs import case_name
from gfscreen.errors import UsageError
from gfscreen.network_plan import HUWindow, HUWindows, RegionName
from gfscreen.results.preview.case import FileAxis, file_axes
from gfscreen.results.preview.volumes import Box, body_box
from gfscreen.scan.anatomy import Anatomy, find_anatomy
from gfscreen.scan.region import RegionSplit, split
from gfscreen.scan.volume import Volume, read_volume
from gfscreen.scan.volume.ras import ras_affine, ras_spacing, ras_view
from gfscreen.text import encodable


@dataclass(frozen=True)
class CaseFiles:
    """Files of a case; a mask that was not given is None."""

    name: str
    image: Path
    prediction: Path | None
    truth: Path | None


@dataclass(frozen=True)
class LoadedCase:
    """A case in memory. Arrays are RAS views (x, y, z); masks are bool on the scan's grid, None if not to be had.

    `affine_ras_mm`: 4x4, index of these arrays to RAS mm. `problems`: what could not be used, one line each.
    `file_axes`: the file's axes along x, y, z.
    """

    name: str
    hu: NDArray[np.int16]
    prediction: NDArray[np.bool_] | None
    truth: NDArray[np.bool_] | None
    spacing_mm: tuple[float, float, float]
    affine_ras_mm: NDArray[np.float64]
    anatomy: Anatomy
    region: RegionSplit
    problems: tuple[str, ...]
    file_axes: tuple[FileAxis, FileAxis, FileAxis]

    @property
    def of_interest(self) -> NDArray[np.bool_]:
        """The truth if it holds anything, else the prediction, else an empty mask."""
        for mask in (self.truth, self.prediction):
            if mask is not None and mask.any():
                return mask
        return np.zeros(self.hu.shape, bool)

    @cached_property
    def body_box(self) -> Box:
        """Box around body and masks."""
        masks = [mask for mask in (self.prediction, self.truth) if mask is not None]
        return body_box(self.hu.shape, self.spacing_mm, self.anatomy, masks)

    def window(self, z: int) -> tuple[RegionName, HUWindow]:
        """`chest` or `abdomen` and the HU window of axial slice `z`."""
        coarse = min(z // self.anatomy.step_voxels[2], self.anatomy.body.shape[2] - 1)
        region: RegionName = "chest" if self.region.chest[coarse] else "abdomen"
        return region, HUWindows().of(region)


def list_cases(images: Path | None, pred: Path | None, gt: Path | None) -> list[CaseFiles]:
    """All cases that have a scan, by name; empty without a folder of scans. Raises UsageError."""
    for folder in (images, pred, gt):
        if folder is not None and not folder.is_dir():
            raise UsageError(f"{folder}: not a folder; name an existing one or leave the option out")
    if images is None:
        return []
    scans = find_cases(images)
    if not scans:
        raise UsageError(f"{images}: no scan X_0000{SUFFIX}; --images must name a folder of scans")
    predictions = {} if pred is None else list_masks(pred)
    truths = {} if gt is None else list_masks(gt)
    names = [case_name(scan.name) for scan in scans]
    masks = [(predictions.get(f"{name}{SUFFIX}"), truths.get(f"{name}{SUFFIX}")) for name in names]
    return [CaseFiles(name, scan, *found) for name, scan, found in zip(names, scans, masks, strict=True)]


def choose_cases(
    cases: Sequence[CaseFiles], wanted: str | None, count: int, rows: Mapping[str, Mapping[str, str]]
) -> tuple[list[CaseFiles], str]:
    """The cases to show and how they were chosen, in words.

    Named ones in the order given; else `count` evenly spaced over all, from the lowest DSC to the highest, or by name
    where there are no scores. Raises UsageError for an unknown name.
    """
    if wanted is not None:
        by_name = {case.name: case for case in cases}
        names = [case_name(word.strip()) for word in wanted.split(",") if word.strip()]
        unknown = [name for name in names if name not in by_name]
        if unknown or not names:
            raise UsageError(f"--cases: no scan for {unknown or wanted!r}; there are {', '.join(by_name) or 'none'}")
        return [by_name[name] for name in names], "as named by the user"
    scored = [case for case in cases if encodable(case.name) in rows]
    pool = sorted(scored, key=lambda c: float(rows[encodable(c.name)]["Lesion_DSC"])) if scored else list(cases)
    order = "DSC, lowest to highest" if scored else "name"
    if len(pool) <= count:
        return pool, f"all {len(pool)} with a scan, by {order}"
    places = sorted({round(float(place)) for place in np.linspace(0, len(pool) - 1, count)})
    return [pool[i] for i in places], f"{len(places)} of {len(pool)}, evenly spaced by {order}"


def load_case(files: CaseFiles) -> LoadedCase:
    """Read a case. A mask that cannot be used becomes a problem; a scan that cannot be read raises InputError."""
    volume = read_volume(files.image)
    problems: list[str] = []
    masks: list[NDArray[np.bool_] | None] = []
    for kind, path in (("prediction", files.prediction), ("truth", files.truth)):
        mask, problem = (None, None) if path is None else _read_mask(path, volume)
        if problem is not None:
            problems.append(f"{kind} {problem}")
        masks.append(None if mask is None else ras_view(mask, volume).astype(bool))
    anatomy = find_anatomy(volume)
    hu: Any = ras_view(volume.hu, volume)
    affine = ras_affine(volume)
    return LoadedCase(
        files.name,
        hu,
        masks[0],
        masks[1],
        ras_spacing(volume),
        affine,
        anatomy,
        split(anatomy),
        tuple(problems),
        file_axes(volume.geometry),
    )


def _read_mask(path: Path, volume: Volume) -> tuple[NDArray[np.uint8] | None, str | None]:
    try:
        mask = read_mask(path)
    except MaskError as error:
        return None, str(error)
    grid = Mask(
        np.broadcast_to(np.uint8(0), volume.geometry.shape), volume.geometry.spacing_mm, volume.geometry.affine_ras_mm
    )
    problem = geometry_problem(grid, mask, path.name)
    return (mask.voxels, None) if problem is None else (None, problem.replace("the ground truth", "the scan"))
