"""A still of a CT with its mask: axial, coronal and sagittal through the largest lesion.

`python -m eval picture --image IMAGE --mask MASK [--truth LABEL] -o FILE.png`
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.config import HUWindow, HUWindows
from gfscreen.errors import GFScreenError, InputError
from gfscreen.overview import look, ras_spacing, ras_view
from gfscreen.region import split
from gfscreen.volume import Volume, read_volume

logger = logging.getLogger(__name__)

SCALE_BAR_MM = 50.0
_FACE = "#111111"
_PREDICTION, _TRUTH = "#ff3b30", "#34c759"


class Plane(NamedTuple):
    """One plane through a RAS volume: its name, the fixed axis, the axes shown to the right and upwards.

    letters: what lies left, right, below and above on the screen. flip: radiological view, patient's right on the left.
    """

    name: str
    fixed: int
    across: int
    up: int
    letters: tuple[str, str, str, str]
    flip: bool


PLANES = (
    Plane("axial", 2, 0, 1, ("R", "L", "P", "A"), True),
    Plane("coronal", 1, 0, 2, ("R", "L", "F", "H"), True),
    Plane("sagittal", 0, 1, 2, ("A", "P", "F", "H"), True),
)


def centre_of_interest(mask: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Voxel in the middle of the largest 26-connected component, in its largest axial slice; the centre if empty."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3), bool))
    if count == 0:
        x, y, z = (n // 2 for n in mask.shape)
        return x, y, z
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    z = int(largest.sum(axis=(0, 1)).argmax())
    inside = np.argwhere(largest[:, :, z])
    x, y = inside[np.abs(inside - inside.mean(axis=0)).sum(axis=1).argmin()]
    return int(x), int(y), z


def plane_of(array: NDArray[Any], plane: Plane, centre: tuple[int, int, int]) -> NDArray[Any]:
    """The plane through `centre` of a RAS array (x, y, z) as an image, row 0 at the bottom."""
    section = np.take(array, centre[plane.fixed], axis=plane.fixed)
    # The remaining axes keep their order, so the first one runs across and the second one up.
    image: NDArray[Any] = section.T[:, ::-1] if plane.flip else section.T
    return image


def draw_plane(
    axes: Any, image: NDArray[Any], masks: dict[str, NDArray[Any]], plane: Plane, mm: tuple[float, ...], w: HUWindow
) -> None:
    aspect = mm[plane.up] / mm[plane.across]
    axes.imshow(
        image, cmap="gray", vmin=w.low_hu, vmax=w.high_hu, origin="lower", aspect=aspect, interpolation="bilinear"
    )
    for colour, mask in masks.items():
        if mask.any():
            axes.contour(mask.astype(float), [0.5], colors=[colour], linewidths=1.2)
    left, right, low, high = plane.letters
    for x, y, letter in ((0.02, 0.5, left), (0.98, 0.5, right), (0.5, 0.02, low), (0.5, 0.97, high)):
        axes.text(x, y, letter, transform=axes.transAxes, color="#ffd60a", ha="center", va="center", fontsize=9)
    bar = SCALE_BAR_MM / mm[plane.across]
    rows, columns = image.shape
    if bar < columns:
        axes.plot([columns * 0.04, columns * 0.04 + bar], [rows * 0.05] * 2, color="white", linewidth=2)
        axes.text(columns * 0.04, rows * 0.075, f"{SCALE_BAR_MM:.0f} mm", color="white", fontsize=7)
    axes.set_axis_off()


def render(volume: Volume, prediction: NDArray[Any], truth: NDArray[Any] | None, title: str, path: Path) -> None:
    """Write the still as PNG. prediction, truth: masks (i, j, k) on the scan's grid; red and green outlines."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    overview = look(volume)
    hu = ras_view(volume.hu, volume)
    masks = {_PREDICTION: ras_view(prediction > 0, volume)}
    if truth is not None:
        masks[_TRUTH] = ras_view(truth > 0, volume)
    centre = centre_of_interest(next((m for m in masks.values() if m.any()), masks[_PREDICTION]).astype(bool))
    coarse_z = min(centre[2] // overview.step_voxels[2], overview.body.shape[2] - 1)
    window = HUWindows().of("chest" if split(overview).chest[coarse_z] else "abdomen")
    mm = ras_spacing(volume)
    figure, panels = plt.subplots(1, 3, figsize=(13, 4.8), facecolor=_FACE)
    for axes, plane in zip(panels, PLANES, strict=True):
        sections = {colour: plane_of(mask, plane, centre) for colour, mask in masks.items()}
        draw_plane(axes, plane_of(hu, plane, centre), sections, plane, mm, window)
        axes.set_title(plane.name, color="white", fontsize=10)
    legend = "red: found" + (", green: truth" if truth is not None else "")
    figure.suptitle(f"{title}   HU [{window.low_hu:.0f}, {window.high_hu:.0f}]   {legend}", color="white", fontsize=11)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
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
    """Write the picture. Exit code 1 if a file cannot be read or the shapes differ."""
    try:
        volume = read_volume(args.image)
        truth = _mask_of(args.truth, volume) if args.truth else None
        render(volume, _mask_of(args.mask, volume), truth, args.title or args.image.name, args.output)
    except GFScreenError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0
