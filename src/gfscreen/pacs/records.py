"""What is known of each series of an archive: a file of its own, by rename, and the results that wait to be stored.

DIR/cases/NAME.json      what became of the series
DIR/masks/NAME.nii.gz    its mask
DIR/seg/NAME.seg.dcm     its DICOM SEG
DIR/sr/NAME.sr.dcm       its structured report; written last: with it the series is screened
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gfscreen.errors import OutputError
from gfscreen.files import remove_leftovers, write_atomically
from gfscreen.version import __version__

RECORD_FORMAT = 1
_FOLDERS = ("cases", "masks", "seg", "sr")


@dataclass
class SeriesRecord:
    """One series. status: `stored` (QIDO tells of both objects), `waiting` (screened, not stored yet), `refused` (it
    cannot be screened, or the archive does not take its results), `failed` (tried again by the next run).

    identity: digest of what the results are made of. suspicion: 0 to 1. stored_unix_s: seconds since 1970.
    """

    name: str
    series_uid: str
    study_uid: str
    status: str = "failed"
    error: str | None = None
    identity: str | None = None
    instances: int | None = None
    seg_uid: str | None = None
    sr_uid: str | None = None
    region: str | None = None
    suspicion: float | None = None
    lesion_count: int | None = None
    lesion_volume_ml: float | None = None
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float | None] = field(default_factory=dict)
    stored_unix_s: float | None = None
    weights_sha256: str | None = None
    gfscreen: str = __version__


class Records:
    """The records below a folder. Raises OutputError if it cannot be written."""

    def __init__(self, root: Path) -> None:
        self._root = root
        try:
            for name in _FOLDERS:
                (root / name).mkdir(parents=True, exist_ok=True)
                remove_leftovers(root / name)
        except OSError as error:
            raise OutputError(
                f"{root}: cannot be written ({error.strerror or error}); check its permissions and the disk"
            ) from error

    @property
    def masks(self) -> Path:
        """The folder of the masks."""
        return self._root / "masks"

    def seg(self, name: str) -> Path:
        """The SEG of a series."""
        return self._root / "seg" / f"{name}.seg.dcm"

    def sr(self, name: str) -> Path:
        """The structured report of a series."""
        return self._root / "sr" / f"{name}.sr.dcm"

    def read(self, name: str) -> SeriesRecord | None:
        """The record of a series; None if there is none that can be read."""
        try:
            data: dict[str, Any] = json.loads((self._root / "cases" / f"{name}.json").read_text(encoding="utf-8"))
            return SeriesRecord(**data) if data.pop("format") == RECORD_FORMAT else None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def write(self, record: SeriesRecord) -> None:
        """Write a record, whole or not at all. Raises OutputError."""
        text = json.dumps({"format": RECORD_FORMAT, **asdict(record)}, indent=1, allow_nan=False) + "\n"
        self.write_file(self._root / "cases" / f"{record.name}.json", text.encode())

    @staticmethod
    def write_file(path: Path, content: bytes) -> None:
        """Write a file, whole or not at all. Raises OutputError."""
        try:
            write_atomically(path, content)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror or error}); check the disk") from error


def told(statuses: Counter[str]) -> str:
    """`12 stored, 1 refused`, every status that there is."""
    return ", ".join(
        f"{statuses[name]} {name}" for name in ("stored", "waiting", "refused", "failed") if statuses[name]
    )
