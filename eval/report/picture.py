"""A still of a CT with its mask: axial, coronal and sagittal through the largest lesion.

`python -m eval picture --image IMAGE --mask MASK [--truth LABEL] -o FILE.png`
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gfscreen.errors import InputError
from gfscreen.network_plan import HUWindows
from gfscreen.results.preview.planes import (
    PLANES,
    boxes_for_missing_glyphs,
    centre_of_interest,
    draw_plane,
    drawable,
    plane_of,
)
from gfscreen.scan.anatomy import find_anatomy
from gfscreen.scan.region import split
from gfscreen.scan.volume import Volume, read_volume
from gfscreen.scan.volume.ras import ras_spacing, ras_view

_FACE = "#111111"
_LONGEST_TITLE = 90
_PREDICTION, _TRUTH = "#ff3b30", "#34c759"


def render(volume: Volume, prediction: NDArray[Any], truth: NDArray[Any] | None, title: str, path: Path) -> None:
    """Write the still as PNG. prediction, truth: masks (i, j, k) on the scan's grid; red and green outlines."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    anatomy = find_anatomy(volume)
    hu = ras_view(volume.hu, volume)
    masks = {_PREDICTION: ras_view(prediction > 0, volume)}
    if truth is not None:
        masks[_TRUTH] = ras_view(truth > 0, volume)
    centre = centre_of_interest(next((m for m in masks.values() if m.any()), masks[_PREDICTION]).astype(bool))
    coarse_z = min(centre[2] // anatomy.step_voxels[2], anatomy.body.shape[2] - 1)
    window = HUWindows().of("chest" if split(anatomy).chest[coarse_z] else "abdomen")
    mm = ras_spacing(volume)
    figure, panels = plt.subplots(1, 3, figsize=(13, 4.8), facecolor=_FACE)
    for axes, plane in zip(panels, PLANES, strict=True):
        sections = {colour: plane_of(mask, plane, centre) for colour, mask in masks.items()}
        draw_plane(axes, plane_of(hu, plane, centre), sections, plane, mm, window)
        axes.set_title(plane.name, color="white", fontsize=10)
    legend = "red: found" + (", green: truth" if truth is not None else "")
    named = drawable(title, _LONGEST_TITLE)
    figure.suptitle(f"{named}   HU [{window.low_hu:.0f}, {window.high_hu:.0f}]   {legend}", color="white", fontsize=11)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    with boxes_for_missing_glyphs():
        figure.savefig(path, dpi=110, facecolor=_FACE)
    plt.close(figure)


def _mask_of(path: Path, volume: Volume) -> NDArray[Any]:
    mask = read_volume(path)
    if mask.geometry.shape != volume.geometry.shape:
        raise InputError(
            f"{path.name}: shape {mask.geometry.shape} differs from the scan's {volume.geometry.shape}; "
            "name the mask of this scan"
        )
    return mask.hu


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    parser.add_argument("--image", type=Path, required=True, help="the scan")
    parser.add_argument("--mask", type=Path, required=True, help="its mask, outlined in red")
    parser.add_argument("--truth", type=Path, help="the true label, outlined in green")
    parser.add_argument("--title", help="default: the scan's file name")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.png")


def run(args: argparse.Namespace) -> int:
    """Write the picture. Raises InputError if a file cannot be read or the shapes differ."""
    volume = read_volume(args.image)
    truth = _mask_of(args.truth, volume) if args.truth else None
    render(volume, _mask_of(args.mask, volume), truth, args.title or args.image.name, args.output)
    return 0
