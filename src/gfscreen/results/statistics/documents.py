"""What is written about the lesions of a run: one JSON file and, beside it, one CSV file with the same numbers.

JSON holds everything; the fields are those of `MeasuredCase` and `lesions.MeasuredLesion`. CSV has one row per scan
(`row` = `scan`, the totals) followed by one per lesion (`row` = `lesion`). An empty cell or null means: not measured.
Bytes of a name that are no UTF-8 are escapes in both, as in `gfscreen.text`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfscreen.errors import OutputError, UsageError
from gfscreen.files import write_atomically
from gfscreen.results.statistics.lesions import MeasuredLesion, axial_tilt_deg, measure_lesions
from gfscreen.scan.volume import Volume
from gfscreen.screening.network_outputs import NetworkOutputs
from gfscreen.text import encodable
from gfscreen.version import __version__

SCHEMA = "gfscreen-statistics"
# Raised whenever a field changes its name, its unit or its meaning; new fields alone do not raise it. 2: axes are those
# of one outline, not of all that a lesion has in a slice.
SCHEMA_VERSION = 2
_LESION_COLUMNS = (
    "lesion_id",
    "voxels",
    "volume_mm3",
    "long_axis_mm",
    "short_axis_mm",
    "axes_slice",
    "axes_slice_pieces",
    "centroid_l_mm",
    "centroid_p_mm",
    "centroid_s_mm",
    "centroid_i",
    "centroid_j",
    "centroid_k",
    "first_slice",
    "last_slice",
    "hu_mean",
    "hu_sd",
    "touches_border",
    "glance_probability",
    "focus_probability",
    "lesion_likelihood",
)
_SCAN_COLUMNS = ("lesion_count", "lesion_volume_mm3", "longest_axis_mm", "lesions_touching_border", "suspicion")
COLUMNS = ("schema_version", "case", "status", "row", *_LESION_COLUMNS, *_SCAN_COLUMNS)


@dataclass
class MeasuredCase:
    """One scan: its totals and its lesions. None where nothing was measured, as for a scan that failed.

    status: `ok`, `degraded` (time did not allow everything to be read) or `failed`. slice_axis: the file axis (0, 1, 2)
    along which slices are counted. lesion_volume_mm3: of all lesions; longest_axis_mm: of the lesion that is longest.
    suspicion: how likely the scan is to hold a lesion, 0 to 1; None where no Glance has judged its cells.
    """

    name: str
    status: str = "failed"
    error: str | None = None
    shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    slice_axis: int | None = None
    axial_tilt_deg: float | None = None
    lesion_count: int | None = None
    lesion_volume_mm3: float | None = None
    longest_axis_mm: float | None = None
    lesions_touching_border: int | None = None
    suspicion: float | None = None
    lesions: list[MeasuredLesion] = field(default_factory=list)

    def fill(self, volume: Volume, lesions: list[MeasuredLesion]) -> None:
        """Take over what was measured in a scan."""
        i, j, k = (round(mm, 6) for mm in volume.geometry.spacing_mm)
        self.shape, self.spacing_mm = volume.geometry.shape, (i, j, k)
        self.slice_axis = volume.geometry.ras_axes[0][2]
        self.axial_tilt_deg = round(axial_tilt_deg(volume), 3)
        self.lesions = lesions
        self.lesion_count = len(lesions)
        self.lesion_volume_mm3 = round(sum(lesion.volume_mm3 for lesion in lesions), 3)
        self.longest_axis_mm = max((lesion.long_axis_mm for lesion in lesions), default=None)
        self.lesions_touching_border = sum(lesion.touches_border for lesion in lesions)


def measure_case(
    name: str,
    status: str,
    volume: Volume,
    mask: NDArray[np.generic],
    outputs: NetworkOutputs | None = None,
    suspicion: float | None = None,
) -> MeasuredCase:
    """Measure all lesions of a mask (i, j, k) on the scan's grid.

    suspicion: of the scan as a whole, where there is one. Raises ValueError for what no document could hold, a number
    that is none: here it concerns this case alone.
    """
    case = MeasuredCase(name, status, suspicion=suspicion)
    case.fill(volume, measure_lesions(volume, mask, outputs))
    to_json([case])
    to_csv([case])
    return case


def to_json(cases: Sequence[MeasuredCase], notice: str | None = None, operating_point: str | None = None) -> str:
    """The JSON document. notice: what the weights are of use for, where networks made the masks. operating_point: that
    was asked for, None: the plan's own values, or no networks.
    """
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "gfscreen": __version__,
        "notice": notice,
        "operating_point": operating_point,
        "cases": [asdict(case) for case in cases],
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def to_csv(cases: Iterable[MeasuredCase]) -> str:
    """The same numbers as a table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for case in cases:
        head = {"schema_version": SCHEMA_VERSION, "case": case.name, "status": case.status}
        for row in _rows(case):
            writer.writerow(head | row)
    return text.getvalue()


def _rows(case: MeasuredCase) -> Iterator[dict[str, Any]]:
    yield {"row": "scan", **{column: getattr(case, column) for column in _SCAN_COLUMNS}}
    for lesion in case.lesions:
        fields = asdict(lesion)
        fields["lesion_id"] = lesion.id
        fields["touches_border"] = str(lesion.touches_border).lower()
        fields.update(zip(("centroid_l_mm", "centroid_p_mm", "centroid_s_mm"), lesion.centroid_mm, strict=True))
        fields.update(zip(("centroid_i", "centroid_j", "centroid_k"), lesion.centroid_voxel, strict=True))
        fields["first_slice"], fields["last_slice"] = lesion.slices
        yield {"row": "lesion", **{column: fields[column] for column in _LESION_COLUMNS}}


def csv_path(json_path: Path) -> Path:
    """Where the table goes: beside the JSON file, under the same name. Raises UsageError unless it ends in .json."""
    if json_path.suffix.lower() != ".json":
        raise UsageError(
            f"{json_path}: statistics need a name that ends in .json; the table is written beside it as .csv"
        )
    return json_path.with_suffix(".csv")


def write_statistics(
    json_path: Path, cases: Sequence[MeasuredCase], notice: str | None = None, operating_point: str | None = None
) -> None:
    """Write both files, each whole or not at all, the second also where the first cannot be written.

    Raises OutputError, and UsageError for a wrong name.
    """
    problems = []
    for path, text in ((json_path, to_json(cases, notice, operating_point)), (csv_path(json_path), to_csv(cases))):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, encodable(text).encode("utf-8"))
        except OSError as error:
            problems.append(f"{path}: cannot be written ({error.strerror or error})")
    if problems:
        raise OutputError(f"{'; '.join(problems)}; check the folder and the disk")
