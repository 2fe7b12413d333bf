"""NiiVue inside a page: its controls, its data, and the bundle itself."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gfscreen.config import HUWindows
from gfscreen.errors import OutputError
from gfscreen.results.preview.markup import asset, code_script, data_script, escape, product
from gfscreen.results.preview.volumes import HU_STEP, Factors, SmallVolumes
from gfscreen.text import visible

VENDOR = Path(__file__).parent / "vendor"
NIIVUE = VENDOR / "niivue.umd.js"
NIIVUE_VERSION = "0.69.0"
NIIVUE_SHA256 = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"
_VIEWS = (("multi", "All"), ("axial", "Axial"), ("coronal", "Coronal"), ("sagittal", "Sagittal"))


@dataclass(frozen=True)
class Finding:
    """A place worth looking at: what it is, and its voxel on the embedded grid."""

    label: str
    voxel: tuple[int, int, int]


class Layer(NamedTuple):
    """A layer over the scan that can be switched: its key in `EmbeddedCase.layers`, name, colour, and key to press."""

    key: str
    name: str
    colour: str
    letter: str
    shown: bool = True


@dataclass(frozen=True)
class EmbeddedCase:
    """A case for the viewer.

    extra_layers: layers that do not lie on the grid of `volumes`. details: for other scripts of the page.
    """

    name: str
    volumes: SmallVolumes
    native_shape: tuple[int, ...]
    native_spacing_mm: tuple[float, ...]
    region: str
    findings: tuple[Finding, ...]
    extra_layers: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def layers(self) -> dict[str, str]:
        """Base64 of gzipped NIfTI by `image` and the keys of the layers, as far as they are there."""
        return {**self.volumes.layers, **self.extra_layers}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of the embedded scan."""
        return self.volumes.shape

    @property
    def factors(self) -> Factors:
        """Voxels of the scan per embedded voxel."""
        return self.volumes.factors

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Spacing of the embedded scan."""
        return tuple(mm * f for mm, f in zip(self.native_spacing_mm, self.factors, strict=True))

    @property
    def start(self) -> tuple[int, int, int]:
        """Where the viewer begins: the first finding, else the middle."""
        x, y, z = self.shape
        return self.findings[0].voxel if self.findings else (x // 2, y // 2, z // 2)

    @property
    def size(self) -> int:
        """Characters of base64."""
        return sum(len(text) for text in self.layers.values())


def windows() -> dict[str, tuple[float, float]]:
    """HU windows that the viewer offers, by name: those of the method."""
    both = HUWindows()
    return {
        "chest": (both.chest.low_hu, both.chest.high_hu),
        "abdomen": (both.abdomen.low_hu, both.abdomen.high_hu),
    }


def viewer_html(cases: Sequence[EmbeddedCase], layers: Sequence[Layer], note: str) -> str:
    """Controls and canvas; `note` is put before what holds for every viewer."""
    options = "".join(f'<option value="{i}">{escape(case.name)}</option>' for i, case in enumerate(cases))
    views = "".join(
        f'<button type="button" data-view="{key}" aria-pressed="false">{name}</button>' for key, name in _VIEWS
    )
    presets = "".join(
        f'<button type="button" data-window="{key}" aria-pressed="false" title="HU {low:.0f} to {high:.0f}">'
        f"{key.capitalize()}</button>"
        for key, (low, high) in windows().items()
    )
    switches = "".join(
        f'<label class="layer"><input type="checkbox" id="show-{layer.key}"{" checked" if layer.shown else ""}>'
        f'<span class="key" style="--c:{layer.colour}">{escape(layer.name)}</span></label>'
        for layer in layers
    )
    helps = (
        ("scroll, ↑ ↓", "slice"),
        ("click", "move the cross"),
        ("right drag", "window"),
        ("1 2 3 4", "plane"),
        (", ".join(layer.letter for layer in layers), ", ".join(layer.name.lower() for layer in layers)),
        ("N", "next finding"),
    )
    keys = "".join(f"<span><kbd>{escape(key)}</kbd> {escape(text)}</span>" for key, text in helps)
    return (
        '<div id="view" class="view" tabindex="-1"><div class="bar">'
        f'<label>Case <select id="case">{options}</select></label>'
        f'<div class="group" role="group" aria-label="plane">{views}</div>'
        f'<div class="group" role="group" aria-label="HU window">{presets}</div>'
        f'<div class="layers">{switches}<label class="layer">Opacity '
        '<input type="range" id="opacity" min="0" max="100" value="85" aria-label="opacity of the layers"></label>'
        '</div></div><div class="stage"><canvas id="canvas" tabindex="0" aria-label="CT with its layers"></canvas>'
        '<p id="message" role="status">loading</p></div>'
        '<div class="bar low"><label class="grow"><span id="slice-name">Axial</span> '
        '<input type="range" id="slice" min="1" max="1" value="1"><output id="slice-number"></output></label>'
        '<button type="button" id="next">Next finding</button><span id="finding"></span></div>'
        '<div class="bar low dim"><span id="place"></span><span id="facts"></span></div></div>'
        f'<p class="keys">{keys}</p>'
        f'<p class="note">{escape(note)} Volumes inside this page are cropped to the body, averaged over '
        f"blocks of voxels as stated under the picture, and kept in steps of {HU_STEP} HU to stay small; masks are "
        "marked where half a block is, and a lesion never vanishes. "
        "Radiological view: the patient's right (R) is on the left; A front, P back, "
        "S head, I feet. For review of the method, not for diagnosis.</p>"
    )


def viewer_scripts(cases: Sequence[EmbeddedCase], layers: Sequence[Layer]) -> str:
    """Data and code of the viewer, nothing without cases. Raises OutputError if the bundle is not the known one."""
    if not cases:
        return ""
    volumes = "".join(
        f'<script type="text/plain" id="volume-{index}-{name}">{text}</script>'
        for index, case in enumerate(cases)
        for name, text in case.layers.items()
    )
    return (
        viewer_data(cases, layers)
        + volumes
        + f"<!-- NiiVue {NIIVUE_VERSION}, BSD-2-Clause, Copyright (c) 2021, Niivue -->"
        + code_script(niivue_code(), NIIVUE.name)
        + code_script(asset("viewer.js"), "viewer.js")
    )


def viewer_data(cases: Sequence[EmbeddedCase], layers: Sequence[Layer]) -> str:
    """What the viewer's code knows of the cases. Raises ValueError for a number that is none."""
    data: dict[str, Any] = {
        "cases": [_entry(case) for case in cases],
        "windows": windows(),
        "layers": [{"key": layer.key, "letter": layer.letter.lower()} for layer in layers],
    }
    return data_script("viewer-data", data)


def niivue_code() -> str:
    """NiiVue's bundle as published. Raises OutputError if it is missing or not the file whose checksum is known."""
    try:
        data = NIIVUE.read_bytes()
    except OSError as error:
        raise OutputError(f"{NIIVUE.name}: not readable ({error.strerror or error}); install gfscreen again") from error
    found = hashlib.sha256(data).hexdigest()
    if found != NIIVUE_SHA256:
        raise OutputError(
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
        "name": visible(case.name),
        "layers": sorted(case.layers),
        "shape": list(case.shape),
        "region": case.region,
        "start": list(case.start),
        "findings": [{"label": f.label, "voxel": list(f.voxel)} for f in case.findings],
        "facts": f"scan {shape} voxels of {spacing} mm; {whole}",
        **case.details,
    }
