"""The viewer's part of the page: its controls, its data, and NiiVue itself."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from eval.report.embed import EmbeddedCase
from eval.report.inputs import UsageError
from eval.report.markup import code_script, data_script, pill, product
from eval.report.montage import PREDICTION, TRUTH
from eval.table4 import NOT_MEASURED
from gfscreen.config import HUWindows

VENDOR = Path(__file__).parent / "vendor"
NIIVUE = VENDOR / "niivue.umd.js"
NIIVUE_VERSION = "0.69.0"
NIIVUE_SHA256 = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"
VIEWER_JS = Path(__file__).parent / "assets" / "viewer.js"
_VIEWS = (("multi", "All"), ("axial", "Axial"), ("coronal", "Coronal"), ("sagittal", "Sagittal"))
_HELP = (
    ("scroll, ↑ ↓", "slice"),
    ("click", "move the cross"),
    ("right drag", "window"),
    ("1 2 3 4", "plane"),
    ("P, T", "prediction, truth"),
    ("N", "next finding"),
)


def windows() -> dict[str, tuple[float, float]]:
    """HU windows that the viewer offers, by name: those of the method."""
    both = HUWindows()
    return {
        "chest": (both.chest.low_hu, both.chest.high_hu),
        "abdomen": (both.abdomen.low_hu, both.abdomen.high_hu),
    }


def viewer_html(cases: Sequence[EmbeddedCase], chosen: str) -> str:
    """Controls and canvas, or a line that says why there is no viewer."""
    if not cases:
        return (
            f'<p class="absent">{pill(NOT_MEASURED, "none")} No case is inside this page (--images, --viewer-mb).</p>'
        )
    options = "".join(f'<option value="{i}">{escape(case.name)}</option>' for i, case in enumerate(cases))
    views = "".join(
        f'<button type="button" data-view="{key}" aria-pressed="false">{name}</button>' for key, name in _VIEWS
    )
    presets = "".join(
        f'<button type="button" data-window="{key}" aria-pressed="false" title="HU {low:.0f} to {high:.0f}">'
        f"{key.capitalize()}</button>"
        for key, (low, high) in windows().items()
    )
    layers = "".join(
        f'<label class="layer"><input type="checkbox" id="show-{key}" checked>'
        f'<span class="key" style="--c:{colour}">{key.capitalize()}</span></label>'
        for key, colour in (("prediction", PREDICTION), ("truth", TRUTH))
    )
    keys = "".join(f"<span><kbd>{escape(key)}</kbd> {escape(text)}</span>" for key, text in _HELP)
    return (
        '<div id="view" class="view" tabindex="-1"><div class="bar">'
        f'<label>Case <select id="case">{options}</select></label>'
        f'<div class="group" role="group" aria-label="plane">{views}</div>'
        f'<div class="group" role="group" aria-label="HU window">{presets}</div>'
        f'<div class="layers">{layers}<label class="layer">Opacity '
        '<input type="range" id="opacity" min="0" max="100" value="85" aria-label="opacity of the masks"></label></div>'
        '</div><div class="stage"><canvas id="canvas" tabindex="0" aria-label="CT with masks"></canvas>'
        '<p id="message" role="status">loading</p></div>'
        '<div class="bar low"><label class="grow"><span id="slice-name">Axial</span> '
        '<input type="range" id="slice" min="1" max="1" value="1"><output id="slice-number"></output></label>'
        '<button type="button" id="next">Next finding</button><span id="finding"></span></div>'
        '<div class="bar low dim"><span id="place"></span><span id="facts"></span></div></div>'
        f'<p class="keys">{keys}</p>'
        f'<p class="note">Cases: {escape(chosen)}. Volumes inside this page are cropped to the body, averaged over '
        "blocks of voxels as stated under the picture, and kept in steps of 4 HU to stay small; masks are marked "
        "where half a block is, and a lesion never vanishes. Scores were computed on the full scans. "
        "Radiological view: the patient's right (R) is on the left; A front, P back, "
        "S head, I feet. For review of the method, not for diagnosis.</p>"
    )


def viewer_scripts(cases: Sequence[EmbeddedCase]) -> str:
    """Data and code of the viewer, nothing without cases."""
    if not cases:
        return ""
    entries = [_entry(case) for case in cases]
    data: dict[str, Any] = {
        "cases": entries,
        "windows": windows(),
    }
    layers = "".join(
        f'<script type="text/plain" id="volume-{index}-{name}">{text}</script>'
        for index, case in enumerate(cases)
        for name, text in case.layers.items()
    )
    return (
        data_script("viewer-data", data)
        + layers
        + f"<!-- NiiVue {NIIVUE_VERSION}, BSD-2-Clause, Copyright (c) 2021, Niivue -->"
        + code_script(niivue_code(), NIIVUE.name)
        + code_script(VIEWER_JS.read_text(encoding="utf-8"), VIEWER_JS.name)
    )


def niivue_code() -> str:
    """NiiVue's bundle as published.

    Raises:
        UsageError: the file in the repository is not the one whose checksum is known.

    """
    data = NIIVUE.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != NIIVUE_SHA256:
        raise UsageError(
            f"{NIIVUE.name}: expected sha256 {NIIVUE_SHA256}, got {found}; restore it as vendor/README.md says"
        )
    return data.decode("utf-8")


def _entry(case: EmbeddedCase) -> dict[str, Any]:
    spacing = product(f"{mm:.3g}" for mm in case.native_spacing_mm)
    shape = product(case.native_shape)
    blocks = product(case.factors)
    shown = product(f"{mm:.3g}" for mm in case.spacing_mm)
    whole = "full resolution" if max(case.factors) == 1 else f"shown at {shown} mm (blocks of {blocks} voxels)"
    return {
        "name": case.name,
        "layers": sorted(case.layers),
        "shape": list(case.shape),
        "region": case.region,
        "start": list(case.start),
        "findings": [{"label": f.label, "voxel": list(f.voxel)} for f in case.findings],
        "facts": f"scan {shape} voxels of {spacing} mm; {whole}",
    }
