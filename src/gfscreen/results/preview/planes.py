"""A plane through a scan as a picture: which way is up, orientation letters, scale bar, outlines of masks, names.

Arrays are RAS views (x, y, z). Pictures are radiological: the patient's right is on the left.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.network_plan import HUWindow
from gfscreen.text import visible

SCALE_BAR_MM = 50.0
# Vermilion and sky blue: told apart under all common forms of colour blindness, unlike red and green.
PREDICTION, TRUTH = "#ff6a3d", "#35c2ff"


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


def drawable(name: str, longest: int | None = None) -> str:
    """A name for matplotlib, which would take what is between two dollar signs for a formula."""
    return visible(name, longest).replace("$", r"\$")


@contextmanager
def boxes_for_missing_glyphs() -> Iterator[None]:
    """Names may have characters that the font has not: these are drawn as boxes, and nobody need be warned of each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from")
        yield


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
    axes: Any,
    image: NDArray[Any],
    masks: dict[str, NDArray[Any]],
    plane: Plane,
    mm: tuple[float, ...],
    w: HUWindow,
    bar_mm: float = SCALE_BAR_MM,
) -> None:
    """Draw a plane on matplotlib axes.

    image and masks are as `plane_of` gives them, masks by the colour of their outline; mm: spacing along x, y, z.
    The scale bar is left out where it is longer than the picture is wide.
    """
    aspect = mm[plane.up] / mm[plane.across]
    axes.imshow(
        image, cmap="gray", vmin=w.low_hu, vmax=w.high_hu, origin="lower", aspect=aspect, interpolation="bilinear"
    )
    for colour, mask in masks.items():
        if mask.any():
            axes.contour(mask.astype(float), [0.5], colors=[colour], linewidths=1.2)
    from matplotlib.patheffects import withStroke

    readable = [withStroke(linewidth=2, foreground="black")]  # on bone as on air
    left, right, low, high = plane.letters
    style = {"color": "#ffd60a", "ha": "center", "va": "center", "fontsize": 9, "path_effects": readable}
    for x, y, letter in ((0.025, 0.5, left), (0.975, 0.5, right), (0.5, 0.03, low), (0.5, 0.97, high)):
        axes.text(x, y, letter, transform=axes.transAxes, **style)
    bar = bar_mm / mm[plane.across]
    rows, columns = image.shape
    if bar < columns:
        edge = [withStroke(linewidth=3.5, foreground="black")]
        ends = [columns * 0.04, columns * 0.04 + bar]
        axes.plot(ends, [rows * 0.05] * 2, color="white", linewidth=2, path_effects=edge)
        axes.text(ends[0], rows * 0.075, f"{bar_mm:.0f} mm", color="white", fontsize=7, path_effects=readable)
    axes.set_axis_off()
