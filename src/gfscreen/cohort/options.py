"""What a cohort may be asked for: one frozen record that goes to every worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gfscreen.pacs.address import ArchiveAddress
from gfscreen.screening.settings import ScreeningSettings
from gfscreen.version import __version__


@dataclass(frozen=True)
class CohortOptions:
    """A cohort as the user asked for it; see `gfscreen cohort run --help`.

    workers: at most so many; None: as many as the cluster holds. cpus: of each worker on a CPU. shard: K and N, every
    N-th item from the K-th on. archive: the DICOMweb service that series are fetched from; None for files.
    """

    source: str
    output: Path
    weights: Path
    ray: str = "local"
    workers: int | None = None
    cpus: int = 2
    device: str = "auto"
    engine: str = "auto"
    precision: str = "auto"
    settings: ScreeningSettings = field(default_factory=ScreeningSettings)
    time_limit_s: float | None = None
    retry_set_aside: bool = False
    shard: tuple[int, int] | None = None
    archive: ArchiveAddress | None = None

    def facts(self, weights_sha256: str) -> dict[str, Any]:
        """What must be the same for all items of a cohort."""
        return {
            "gfscreen": __version__,
            "weights_sha256": weights_sha256,
            "region": self.settings.region,
            "operating_point": self.settings.operating_point,
            "precision": self.precision,
        }
