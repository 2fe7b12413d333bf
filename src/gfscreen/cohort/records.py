"""What is known of each item, in a file of its own that appears by rename: the state of a cohort, and all it is.

DIR/masks/NAME.nii.gz      the mask
DIR/cases/NAME.json        its record, written after the mask: what has one is finished
DIR/thumbnails/NAME.png    a small picture for the worklist
DIR/cohort.json            what the cohort is screened with, written first
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gfscreen.cohort.sources.items import Item
from gfscreen.errors import OutputError, UsageError
from gfscreen.files import write_atomically
from gfscreen.scan.volume.inputs import MASK_SUFFIX
from gfscreen.version import __version__

RECORD_FORMAT = 1
MASKS, CASES, THUMBNAILS, FACTS = "masks", "cases", "thumbnails", "cohort.json"


@dataclass
class Record:
    """One item as it ended. Keys are stable; None where something was not measured or is not known.

    status: `ok`, `degraded` (a valid mask, but time did not allow everything to be read), `failed`. set_aside: it ended
    its worker twice, and is left alone until it is asked for. tries: workers that it was given to in the run that ended
    it. source: its path as the source names it, or its Series Instance UID. suspicion: how likely the scan is to hold a
    lesion, 0 to 1. kept_share: sub-volumes above the gate of all, 0 to 1. highest_probability: of Focus over the scan,
    0 to 1. finished_unix_s: seconds since 1970. worker: name of the node. weights_sha256: digest of the weights.
    """

    name: str
    status: str = "failed"
    error: str | None = None
    set_aside: bool = False
    tries: int = 1
    source: str | None = None
    series_uid: str | None = None
    region: str | None = None
    suspicion: float | None = None
    lesion_count: int | None = None
    lesion_volume_ml: float | None = None
    longest_axis_mm: float | None = None
    highest_probability: float | None = None
    windows_total: int | None = None
    windows_kept: int | None = None
    windows_done: int | None = None
    kept_share: float | None = None
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float | None] = field(default_factory=dict)
    peak_rss_mb: float | None = None
    finished_unix_s: float | None = None
    worker: str | None = None
    engine: str | None = None
    weights_sha256: str | None = None
    gfscreen: str = __version__

    @property
    def done(self) -> bool:
        """Whether there is a mask."""
        return self.status in ("ok", "degraded")


@dataclass(frozen=True)
class Layout:
    """Where things lie below the folder of a cohort."""

    root: Path

    def mask(self, name: str) -> Path:
        """The mask of an item."""
        return self.root / MASKS / (name + MASK_SUFFIX)

    def record(self, name: str) -> Path:
        """The record of an item."""
        return self.root / CASES / (name + ".json")

    def thumbnail(self, name: str) -> Path:
        """The small picture of an item, which need not be there."""
        return self.root / THUMBNAILS / (name + ".png")

    @property
    def facts(self) -> Path:
        """What the cohort is screened with."""
        return self.root / FACTS

    def make(self) -> None:
        """Make the folders. Raises OutputError."""
        try:
            for folder in (MASKS, CASES, THUMBNAILS):
                (self.root / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.root}: the folder of results cannot be written ({error.strerror or error}); "
                "check its permissions and the disk"
            ) from error


def write_record(layout: Layout, record: Record) -> None:
    """Write a record, whole or not at all. Raises OutputError."""
    text = json.dumps({"format": RECORD_FORMAT, **asdict(record)}, indent=1, allow_nan=False) + "\n"
    path = layout.record(record.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); check the folder and the disk"
        ) from error


def read_record(layout: Layout, name: str) -> Record | None:
    """The record of an item; None if there is none, or what lies there is none (its item is screened again)."""
    return _read(layout.record(name))


def _read(path: Path) -> Record | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("format") != RECORD_FORMAT:
            return None
        return Record(**data)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def read_records(layout: Layout) -> Iterator[Record]:
    """All records, by name, one at a time."""
    folder = layout.root / CASES
    names = sorted(path.name for path in folder.glob("*.json")) if folder.is_dir() else []
    for name in names:
        if (record := _read(folder / name)) is not None:
            yield record


def finished(layout: Layout, item: Item, *, retry_set_aside: bool = False) -> Record | None:
    """The record of an item that need not be screened again: one with its mask, or one set aside. None otherwise.

    A failed one is tried again.
    """
    record = read_record(layout, item.name)
    if record is None or item.problem is not None:
        return None
    if record.set_aside:
        return None if retry_set_aside else record
    return record if record.done and layout.mask(item.name).is_file() else None


def agree_on_facts(layout: Layout, facts: dict[str, Any]) -> None:
    """Keep what the cohort is screened with, or see that it is what an earlier run began with.

    Masks of different weights or settings in one worklist could not be compared. Raises UsageError, OutputError.
    """
    try:
        before = json.loads(layout.facts.read_text(encoding="utf-8"))
    except FileNotFoundError:
        before = None
    except (OSError, ValueError) as error:
        raise UsageError(f"{layout.facts}: cannot be read ({error}); name another output folder") from error
    if before is None:
        try:
            write_atomically(layout.facts, (json.dumps(facts, indent=2) + "\n").encode())
        except OSError as error:
            raise OutputError(
                f"{layout.facts}: cannot be written ({error.strerror or error}); check the disk"
            ) from error
        return
    changed = [key for key, value in facts.items() if before.get(key) != value]
    if changed:
        told = ", ".join(f"{key} {before.get(key)!r}, now {facts[key]!r}" for key in changed)
        raise UsageError(f"{layout.root}: was begun with {told}; name another output folder, or ask for the same")
