"""What a run may be asked for: one frozen record, the same for the command line and for Python."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass, field
from pathlib import Path

from gfscreen.screening.settings import ScreeningSettings

# The wheel of data that `make wheels` builds.
WEIGHTS_PACKAGE = "gfscreen_weights"


@dataclass(frozen=True)
class Options:
    """A run as the user asked for it; see `gfscreen predict --help`."""

    source: Path
    output: Path
    weights: Path
    device: str = "auto"
    engine: str = "auto"
    precision: str = "auto"
    settings: ScreeningSettings = field(default_factory=ScreeningSettings)
    time_limit_s: float | None = None
    gpu_memory_limit_mb: float | None = None
    report: Path | None = None
    statistics: Path | None = None
    preview: Path | None = None
    resume: bool = False
    empty_mask_on_failure: bool = False
    overwrite: bool = False
    series: str | None = None
    dicom_seg: Path | None = None
    instances: Path | None = None
    probabilities: Path | None = None


def default_weights() -> Path:
    """GFSCREEN_WEIGHTS; else the first that is there: `weights` in the current folder, that of the checkout the package
    lies in, the installed wheel of weights. `weights` if none is.
    """
    if named := os.environ.get("GFSCREEN_WEIGHTS"):
        return Path(named)
    here = Path("weights")
    beside = Path(__file__).resolve().parents[3] / "weights"
    installed = importlib.util.find_spec(WEIGHTS_PACKAGE)
    places = [here, beside, *map(Path, (installed.submodule_search_locations or []) if installed else [])]
    return next((place for place in places if place.is_dir()), here)
