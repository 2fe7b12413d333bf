"""The whole benchmark in one run: Table 4 sizes through the container, the dense peer, nnU-Net, throughput, the page.

Each product is an image (or a local command) with a name, measured cold, one process per case, several times; repeats
of the products alternate, so that a machine that slows down slows down all of them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import platform
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.efficiency.benchmark_page import write_page
from eval.efficiency.measure import add_launch_arguments, describe_host, make_launch, measure_cases
from eval.efficiency.nnunet_rows import nnunet_rows, require_nnunet
from eval.efficiency.table4 import SIZES, TIME_LIMIT_S, Size, choose_sizes, find_real, make_phantoms
from eval.efficiency.throughput import measure_folder
from gfscreen.config import preset_plan
from gfscreen.errors import UsageError
from gfscreen.scan.grid import to_model
from gfscreen.scan.volume import read_volume

STAGES = ("read", "preprocess", "glance", "focus", "write", "total")
COUNTS = ("windows_total", "windows_kept", "windows_done", "windows_unglanced", "second_looks_done")
# A size beyond the table, for the peak memory of a whole body.
WHOLE_BODY = Size("9999", 1200, (0.8, 0.8, 1.0))


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval benchmark`."""
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for cases and measurements")
    parser.add_argument(
        "--product",
        action="append",
        default=[],
        metavar="NAME=IMAGE",
        help="an image, or a local command with {input}, {output} and {report}; may be repeated",
    )
    parser.add_argument(
        "--keep-share",
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help="let this product keep that share of the sub-volumes, for untrained weights (GFSCREEN_KEEP_SHARE)",
    )
    parser.add_argument("--cases", type=Path, help="real scans, case ID in the name (default: phantoms of these sizes)")
    parser.add_argument("--sizes", help="rows by case ID or number of slices (default: all eight)")
    parser.add_argument("--whole-body", action="store_true", help="also 512x512x1200, once")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each case (default: %(default)s)")
    parser.add_argument(
        "--before",
        action="append",
        default=[],
        metavar="NAME=EARLIER",
        help="compare this product with an earlier one, another --product",
    )
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=WEIGHTS", help="weights of the dense peer")
    parser.add_argument("--peer-sizes", default="215", help="sizes of the peers, as --sizes (default: %(default)s)")
    parser.add_argument("--nnunet", metavar="PYTHON", help="a Python that has nnU-Net: its predictor is another peer")
    parser.add_argument("--folder-sizes", default="55,100,150,215", help="sizes of the folder that is run as one")
    parser.add_argument("--page", type=Path, help="write the page here (docs/benchmarks.md)")
    parser.add_argument("--loaded", action="store_true", help="the machine was doing other work: say so on the page")
    add_launch_arguments(parser, required=False)


def run(args: argparse.Namespace) -> int:
    """Measure and write benchmark.json and the page. Exit 0: every case ended well; 1: some not; 2: wrong usage."""
    products, shares = pairs(args.product, "--product"), pairs(args.keep_share, "--keep-share")
    peers, compared = pairs(args.peer, "--peer"), pairs(args.before, "--before")
    if not products:
        raise UsageError("--product NAME=IMAGE: nothing to measure")
    if unknown := sorted(set(shares) - set(products)):
        raise UsageError(f"--keep-share {unknown[0]}: no such product")
    if unknown := sorted({*compared, *compared.values()} - set(products)):
        raise UsageError(f"--before {unknown[0]}: no such product")
    if args.nnunet is not None:
        require_nnunet(args.nnunet)
    sizes = choose_sizes(args.sizes)
    result = {**measure(args, products, shares, peers, sizes), "compared": compared}
    path = args.output / "benchmark.json"
    path.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if args.page is not None:
        write_page(result, args.page)
    rows = [row for product in result["products"] for row in product["rows"]]
    return int(any(row["failed"] for row in rows))


def pairs(items: Sequence[str], option: str) -> dict[str, str]:
    """NAME=VALUE arguments as a mapping. Raises UsageError."""
    found = dict(item.partition("=")[::2] for item in items)
    if len(found) != len(items) or not all(name and value for name, value in found.items()):
        raise UsageError(f"{option}: expected NAME=VALUE with different names, got {list(items)}")
    return found


def measure(
    args: argparse.Namespace,
    products: Mapping[str, str],
    shares: Mapping[str, str],
    peers: Mapping[str, str],
    sizes: Sequence[Size],
) -> dict[str, Any]:
    """All measurements as one JSON object."""
    out = args.output
    known = [*sizes, *(size for size in SIZES if size not in sizes)]
    scans = find_real(args.cases, known) if args.cases else make_phantoms(out / "cases", sizes)
    wanted = [size for size in sizes if size.case in scans]
    launches = {name: launch_arguments(args, what, shares.get(name)) for name, what in products.items()}
    details: dict[str, list[dict[str, Any]]] = {name: [] for name in products}
    for repeat in range(args.repeats):
        for name, launch in launches.items():
            paths = [scans[size.case] for size in wanted]
            details[name] += measure_cases(paths, out / name / f"run{repeat}", launch)["cases"]
    if args.whole_body:
        path = make_phantoms(out / "cases", [WHOLE_BODY])[WHOLE_BODY.case]
        wanted = [*wanted, WHOLE_BODY]
        scans = {**scans, WHOLE_BODY.case: path}
        for name, launch in launches.items():
            details[name] += measure_cases([path], out / name / "whole-body", launch)["cases"]
    litres = {size.case: body_litres(scans[size.case]) for size in wanted}
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "environment": {**describe_host(None), **processor(), "limit_cpus": args.cpus},
        "loaded": args.loaded,
        "source": "real scans" if args.cases else "phantoms of these sizes",
        "repeats": args.repeats,
        "products": [
            {
                "name": name,
                "what": what,
                "keep_share": None if name not in shares else float(shares[name]),
                "rows": [row(size, scans[size.case], details[name], litres[size.case]) for size in wanted],
            }
            for name, what in products.items()
        ],
        "peers": [],
        "nnunet": [],
        "folders": [],
    }
    peer_sizes = [size for size in choose_sizes(args.peer_sizes) if size.case in scans]
    for name, weights in peers.items():
        command = f"{shlex.quote(sys.executable)} -m eval dense-peer -i {{input}} -o {{output}} --report {{report}}"
        command += f" --weights {shlex.quote(weights)}" + (f" --cpus {args.cpus:.0f}" if args.cpus else "")
        launch = launch_arguments(args, command, None)
        measured = measure_cases([scans[s.case] for s in peer_sizes], out / f"peer-{name}", launch)["cases"]
        rows = [row(size, scans[size.case], measured, litres.get(size.case)) for size in peer_sizes]
        result["peers"].append({"name": name, "rows": rows})
    if args.nnunet is not None:
        result["nnunet"] = nnunet_rows(args.nnunet, peer_sizes, scans, out / "nnunet", args.cpus)
    folder = [scans[size.case] for size in choose_sizes(args.folder_sizes) if size.case in scans]
    for name, launch in launches.items() if folder else ():
        measured_folder = measure_folder(make_launch(launch, None), folder, out / f"folder-{name}")
        result["folders"].append({"name": name, **measured_folder})
    return result


def launch_arguments(args: argparse.Namespace, what: str, share: str | None) -> argparse.Namespace:
    """The arguments of `add_launch_arguments` for one product: an image, or a command if it names {input}."""
    values = dict(vars(args), image=None, local_command=None, name=None)
    if "{input}" in what:
        values["local_command"] = what if share is None else f"{what} --keep-share {share}"
    else:
        values["image"] = what
        if share is not None:
            values["docker_args"] = f"{args.docker_args} -e GFSCREEN_KEEP_SHARE={share}".strip()
    return argparse.Namespace(**values)


def body_litres(scan: Path) -> float:
    """Volume of the body in a scan, by the product's own mask of it, in litres."""
    plan = preset_plan("fast")
    body = to_model(read_volume(scan), plan).body
    return float(np.count_nonzero(body) * math.prod(plan.spacing_mm) / 1e6)


def row(size: Size, scan: Path, details: Sequence[Mapping[str, Any]], body_l: float | None = None) -> dict[str, Any]:
    """Medians of one case over its repeats; null where no run ended well. body_l: volume of the body, if known."""
    name = scan.name.removesuffix(".nii.gz")
    runs = [detail for detail in details if detail["name"] == name]
    good = [detail for detail in runs if detail["status"] == "ok"]
    times = [float(detail["time_s"]) for detail in good]
    reports = [detail["report"] or {} for detail in good]
    return {
        "case": size.case,
        "size": "x".join(map(str, size.shape)),
        "table4": size.case != WHOLE_BODY.case,
        "body_l": body_l,
        "runs": len(runs),
        "failed": [detail["error"] for detail in runs if detail["status"] != "ok"],
        "time_s": median(times),
        "time_range_s": [min(times), max(times)] if times else None,
        "over_limit": sum(time > TIME_LIMIT_S for time in times),
        "own_max_ram_mb": median([(detail["own"] or {}).get("max_ram_mb") for detail in good]),
        "peak_rss_mb": median([report.get("peak_rss_mb") for report in reports]),
        "degraded": sum(report.get("status") == "degraded" for report in reports),
        **{key: median([report.get(key) for report in reports]) for key in COUNTS},
        "stages_s": {
            stage: median([(report.get("seconds") or {}).get(stage) for report in reports]) for stage in STAGES
        },
    }


def median(values: Sequence[float | None]) -> float | None:
    """Median of what was measured; None if nothing was."""
    measured = [value for value in values if value is not None]
    return float(statistics.median(measured)) if measured else None


def processor() -> dict[str, Any]:
    """Model of the CPU and which of the instructions that matter here it has; null where it cannot be asked."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {"cpu": platform.processor() or None, "instructions": None}
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = set(fields.get("flags", "").split())
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
    return {"cpu": fields.get("model name"), "instructions": [name for name in wanted if name in flags]}
