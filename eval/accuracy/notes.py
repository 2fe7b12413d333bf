"""A word about mask files that are scored, where the organisers' rules do not go by what the file seems to say."""

from __future__ import annotations

from eval.accuracy.masks import Mask
from gfscreen.scan.volume.geometry import same_spacing, spacing_text


def truth_notes(mask: Mask, name: str) -> list[str]:
    """One line per oddity of a ground truth, each with kind and name of the file; no oddity, no line."""
    notes = file_notes(mask, f"ground truth {name}")
    # Of a prediction neither the organisers nor this harness use pixdim.
    if not same_spacing(mask.spacing_mm, mask.grid_spacing_mm):
        notes.append(
            f"ground truth {name}: pixdim says a spacing of {spacing_text(mask.spacing_mm)} mm, the affine "
            f"{spacing_text(mask.grid_spacing_mm)} mm: NSD goes by pixdim, as the organisers' does, and volumes by the "
            "affine"
        )
    return notes


def prediction_notes(mask: Mask, name: str) -> list[str]:
    """One line per oddity of a prediction."""
    return file_notes(mask, f"prediction {name}")


def file_notes(mask: Mask, file: str) -> list[str]:
    """What the cast to uint8 did to the voxels, and what lies behind them in the file."""
    notes = []
    if mask.change is not None:
        change = mask.change
        value = repr(change.value).removesuffix(".0")
        empty = ", none is left" if change.lost and not mask.voxels.any() else ""
        notes.append(
            f"{file}: the organisers' cast np.uint8(get_fdata()) changes {change.changed} voxels ({value} "
            f"becomes {change.became}){empty}: scored as they would be; store whole numbers, uint8 with slope 1"
        )
    if mask.ignored_bytes:
        notes.append(f"{file}: {mask.ignored_bytes} bytes behind the gzip stream were ignored")
    return notes
