"""What `gfscreen pacs` may be asked for: one frozen record."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gfscreen.pacs.address import ArchiveAddress
from gfscreen.screening.settings import ScreeningSettings


@dataclass(frozen=True)
class PacsOptions:
    """A run as the user asked for it; see `gfscreen pacs --help`."""

    archive: ArchiveAddress
    output: Path
    weights: Path
    study: str | None = None
    study_date: str | None = None
    watch: bool = False
    poll_s: float = 30.0
    stable_s: float = 60.0
    device: str = "auto"
    engine: str = "auto"
    precision: str = "auto"
    settings: ScreeningSettings = field(default_factory=ScreeningSettings)
    time_limit_s: float | None = None
