"""Fill the challenge's efficiency table: eight scan sizes, time and GPU memory against the limits."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
from tqdm import tqdm

from eval.efficiency.measure import add_launch_arguments, exit_code, measure_cases
from eval.efficiency.results import DETAIL_FOLDER
from eval.efficiency.runner import IMAGE_SUFFIX, find_cases
from eval.tables import Table, number, to_markdown, write_table
from gfscreen.errors import UsageError

TIME_LIMIT_S = 45.0
GPU_LIMIT_MB = 4096.0
HELD, BROKEN, NOT_MEASURED = "held", "broken", "not measured"


@dataclass(frozen=True)
class Size:
    """A row of the table: fixed case ID, number of slices, and what the method's authors published.

    `spacing_mm`: of the phantom that stands in for the case, chosen so that its length is that of a real scan.
    """

    case: str
    slices: int
    spacing_mm: tuple[float, float, float]
    kind: str = "both"
    published_s: float | None = None
    published_mb: float | None = None
    in_plane: int = 512

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels (x, y, z)."""
        return (self.in_plane, self.in_plane, self.slices)


SIZES = (
    Size("0001", 55, (0.8, 0.8, 5.0), "chest", 31, 14044),
    Size("0051", 100, (0.8, 0.8, 5.0), "both", 23, 14724),
    Size("0017", 150, (0.8, 0.8, 3.0)),
    Size("0019", 215, (0.8, 0.8, 2.5)),
    Size("0099", 334, (0.8, 0.8, 1.5)),
    Size("0063", 448, (0.8, 0.8, 1.25)),
    Size("0048", 499, (0.8, 0.8, 1.0)),
    Size("0029", 554, (0.8, 0.8, 1.0)),
)


def choose_sizes(text: str | None) -> list[Size]:
    """The rows named by case ID or by number of slices, in the table's order; all of them without a choice.

    Raises:
        UsageError: a word names no row.

    """
    if text is None:
        return list(SIZES)
    words = {word.strip() for word in text.split(",") if word.strip()}
    unknown = words - {s.case for s in SIZES} - {str(s.slices) for s in SIZES}
    if unknown or not words:
        known = ", ".join(f"{s.case} ({s.slices} slices)" for s in SIZES)
        raise UsageError(f"--sizes: unknown {sorted(unknown)}; choose case IDs or slices from {known}")
    return [s for s in SIZES if s.case in words or str(s.slices) in words]


def find_real(folder: Path, sizes: Sequence[Size]) -> dict[str, Path]:
    """Case ID to the scan of `folder` whose name holds it as a number of its own; IDs without a scan are left out.

    Raises:
        UsageError: the folder holds no scan, or two for one ID.

    """
    scans = find_cases(folder)
    if not scans:
        raise UsageError(f"{folder}: no scan X{IMAGE_SUFFIX}")
    found = {}
    for size in sizes:
        pattern = re.compile(rf"(?<!\d){size.case}(?!\d)")
        matches = [scan for scan in scans if pattern.search(scan.name.removesuffix(IMAGE_SUFFIX))]
        if len(matches) > 1:
            raise UsageError(f"{folder}: {len(matches)} scans for case {size.case}: {[m.name for m in matches]}")
        if matches:
            found[size.case] = matches[0]
    return found


def make_phantoms(folder: Path, sizes: Sequence[Size]) -> dict[str, Path]:
    """Case ID to a phantom of its size in `folder/images`, made by `python -m eval cases`; existing ones are kept."""
    found = {}
    for size in tqdm(sizes, desc="phantoms", unit="scan", disable=None):
        name = f"phantom_{size.case}"
        target = folder / "images" / f"{name}{IMAGE_SUFFIX}"
        if not target.is_file():
            _make_phantom(folder, name, size)
        found[size.case] = target
    return found


def _make_phantom(folder: Path, name: str, size: Size) -> None:
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".phantom-", dir=folder) as scratch:
        command = [sys.executable, "-m", "eval", "cases", "-o", scratch, "--kind", size.kind]
        command += ["--shape", ",".join(map(str, size.shape)), "--spacing", ",".join(map(str, size.spacing_mm))]
        command += ["--seed", str(int(size.case))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        images, labels = (sorted((Path(scratch) / kind).glob("*.nii.gz")) for kind in ("images", "labels"))
        if done.returncode != 0 or len(images) != 1:
            raise UsageError(f"phantom {name}: `eval cases` gave exit code {done.returncode}: {done.stderr.strip()}")
        for label in labels:
            label.replace(folder / "labels" / f"{name}.nii.gz")
        images[0].replace(folder / "images" / f"{name}{IMAGE_SUFFIX}")  # last: it marks the case as made


def verdict(value: float | None, limit: float) -> str:
    """`held` up to and including the limit, `broken` above, `not measured` without a value."""
    if value is None:
        return NOT_MEASURED
    return HELD if value <= limit else BROKEN


def table_row(size: Size, scan: Path | None, detail: Mapping[str, Any] | None) -> dict[str, Any]:
    """One row as a JSON object; figures are null where the case did not end well, except the time of a timeout."""
    row: dict[str, Any] = {
        "case": size.case,
        "size": "x".join(map(str, size.shape)),
        "shape": None if scan is None else list(nib.load(scan).shape),
        "scan": None if scan is None else scan.name,
        "status": "no scan" if detail is None else detail["status"],
        "error": "" if detail is None else detail["error"],
        "published_time_s": size.published_s,
        "published_max_gpu_mb": size.published_mb,
    }
    usable = detail if detail is not None and detail["status"] == "ok" else None
    gpu, own = (usable or {}).get("gpu") or {}, (usable or {}).get("own") or {}
    time_s = detail["time_s"] if detail is not None and detail["status"] in ("ok", "timeout") else None
    row |= {
        "product_status": ((usable or {}).get("report") or {}).get("status"),
        "time_s": time_s,
        "time_limit": verdict(time_s, TIME_LIMIT_S),
        "max_gpu_mb": gpu.get("max_mb"),
        "gpu_limit": verdict(gpu.get("max_mb"), GPU_LIMIT_MB),
        "gpu_area_organisers_mb_s": gpu.get("organisers_area_mb_s"),
        "gpu_area_mb_s": gpu.get("area_mb_s"),
        "own_max_ram_mb": own.get("max_ram_mb"),
        "stages_s": (usable or {}).get("stages_s"),
    }
    return row


def build_table(rows: Sequence[Mapping[str, Any]], source: str, environment: Mapping[str, Any]) -> Table:
    """The printable table, each measured figure with its verdict."""
    gpu = environment.get("gpu") or "no GPU"
    notes = [
        f"Limits: {TIME_LIMIT_S:.0f} s and {GPU_LIMIT_MB:.0f} MB of GPU memory (whole card).",
        f"Measured on {environment.get('cpus')} CPU cores, {environment.get('ram_mb')} MB RAM, {gpu}; {source}.",
        "Time is the wall time of the whole run, start and loading included.",
    ]
    notes += [f"{row['case']}: scan has {row['shape']} voxels." for row in rows if _other_size(row)]
    notes += [f"{row['case']}: {row['status']}. {row['error']}".strip() for row in rows if row["status"] != "ok"]
    said = [(row["case"], row["product_status"]) for row in rows if row["product_status"] not in (None, "ok")]
    notes += [f"{case}: the product reports the status {status}." for case, status in said]
    return Table(
        caption="Table 4. Efficiency by scan size",
        columns=(
            "Case",
            "Size",
            "Time (s)",
            "45 s",
            "Max GPU (MB)",
            "4 GB",
            "GPU area (MB s)",
            "Own RAM (MB)",
            "Published time (s)",
            "Published max GPU (MB)",
        ),
        rows=tuple(
            (
                row["case"],
                row["size"],
                number(row["time_s"], 1),
                row["time_limit"],
                number(row["max_gpu_mb"], 0),
                row["gpu_limit"],
                number(row["gpu_area_organisers_mb_s"], 0),
                number(row["own_max_ram_mb"], 0),
                number(row["published_time_s"], 0),
                number(row["published_max_gpu_mb"], 0),
            )
            for row in rows
        ),
        label="tab:efficiency",
        align="llrlrlrrrr",
        notes=tuple(notes),
    )


def _other_size(row: Mapping[str, Any]) -> bool:
    return row["shape"] is not None and "x".join(map(str, row["shape"])) != row["size"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval table4`."""
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the table, cases and measurements")
    parser.add_argument("--cases", type=Path, help="real scans, case ID in the name (default: phantoms of these sizes)")
    parser.add_argument("--sizes", help="rows to measure, by case ID or number of slices: 0001,100 (default: all)")
    parser.add_argument("--resume", action="store_true", help="keep measurements of an earlier run that ended well")
    add_launch_arguments(parser, required=False)
    parser.add_argument("--json", action="store_true", help="print table4.json on stdout")


def run(args: argparse.Namespace) -> int:
    """Measure and write table4.md, .tex, .json. Exit 0: all rows measured; 1: some not; 2: wrong usage."""
    if args.image is None and args.local_command is None:
        product = [sys.executable, "-m", "gfscreen", "predict"]
        args.local_command = shlex.join(product) + " -i {input} -o {output} --report {report}"
    sizes = choose_sizes(args.sizes)
    scans = find_real(args.cases, sizes) if args.cases else make_phantoms(args.output / "cases", sizes)
    measured = args.output / "efficiency"
    done = _earlier(measured, scans, args) if args.resume else {}
    todo = [scan for case, scan in scans.items() if case not in done]
    summary = measure_cases(todo, measured, args, list(done.values()))
    by_name = {detail["name"]: detail for detail in summary["cases"]}
    rows = []
    for size in sizes:
        scan = scans.get(size.case)
        rows.append(table_row(size, scan, None if scan is None else by_name.get(_name(scan))))
    source = "real scans" if args.cases else "phantoms of these sizes"
    table = build_table(rows, source, summary["environment"])
    result = {
        "limits": {"time_s": TIME_LIMIT_S, "gpu_mb": GPU_LIMIT_MB},
        "source": source,
        "image": args.image,
        "command": args.local_command,
        "environment": summary["environment"],
        "rows": rows,
    }
    write_table(table, args.output, "table4")
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    (args.output / "table4.json").write_text(text, encoding="utf-8")
    sys.stdout.write(text if args.json else to_markdown(table))
    return exit_code(summary) or int(any(row["status"] != "ok" for row in rows))


def _name(scan: Path) -> str:
    return scan.name.removesuffix(".nii.gz")


def _earlier(folder: Path, scans: Mapping[str, Path], args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Details of an earlier run with the same image or command, by case ID, of those that ended well."""
    found = {}
    for case, scan in scans.items():
        path = folder / DETAIL_FOLDER / f"{_name(scan)}.json"
        if path.is_file():
            detail = json.loads(path.read_text(encoding="utf-8"))
            same = (detail["image"], detail["command"]) == (args.image, args.local_command)
            if detail["status"] == "ok" and same:
                found[case] = detail
    return found
