"""NiiVue inside a page: its controls, its data, and the bundle itself."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gfscreen.errors import OutputError
from gfscreen.results.preview.case import FileAxis
from gfscreen.results.preview.markup import asset, code_script, data_script, escape, product
from gfscreen.results.preview.reading_windows import PRESETS
from gfscreen.results.preview.volumes import FILL_ALPHA, FILLED_ALPHA, HU_STEP, Factors, SmallVolumes
from gfscreen.text import visible

VENDOR = Path(__file__).parent / "vendor"
NIIVUE = VENDOR / "niivue.umd.js"
NIIVUE_VERSION = "0.69.0"
NIIVUE_SHA256 = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"
_VIEWS = (("multi", "All"), ("axial", "Axial"), ("coronal", "Coronal"), ("sagittal", "Sagittal"))


# In the order in which they are needed: each uses what those before it define.
_SCRIPTS = ("finding_labels.js", "viewer_axes.js", "viewer.js")
_LENGTH_AXES = ("long", "short")


@dataclass(frozen=True)
class Finding:
    """A place worth looking at: what it is, its voxel on the embedded grid, and the key of its reading window.

    axes_lps_mm: both ends of the long and of the short axis, LPS mm; axes_mm: their lengths. Empty if not measured.
    """

    label: str
    voxel: tuple[int, int, int]
    preset: str = "soft"
    axes_lps_mm: tuple[tuple[tuple[float, float, float], tuple[float, float, float]], ...] = ()
    axes_mm: tuple[float, ...] = ()


class Layer(NamedTuple):
    """A layer over the scan that can be switched: its key in `EmbeddedCase.layers`, name, colour, and key to press.

    opacity: at first, percent. outlined: it is a mask, whose inside can be filled.
    """

    key: str
    name: str
    colour: str
    letter: str
    shown: bool = True
    opacity: int = 100
    outlined: bool = True


@dataclass(frozen=True)
class EmbeddedCase:
    """A case for the viewer.

    preset: key of the reading window that it opens in. file_axes: the file's axes along x, y, z.
    extra_layers: layers that do not lie on the grid of `volumes`. details: for other scripts of the page.
    """

    name: str
    volumes: SmallVolumes
    native_shape: tuple[int, ...]
    native_spacing_mm: tuple[float, ...]
    preset: str
    file_axes: tuple[FileAxis, FileAxis, FileAxis]
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


def viewer_html(cases: Sequence[EmbeddedCase], layers: Sequence[Layer], note: str) -> str:
    """Controls and canvas; `note` is put before what holds for every viewer."""
    options = "".join(f'<option value="{i}">{escape(case.name)}</option>' for i, case in enumerate(cases))
    views = "".join(_button("view", key, name) for key, name in _VIEWS)
    presets = _button("window", "auto", "Auto", "the window of the finding that is chosen") + "".join(
        _button("window", key, preset.name, f"W {preset.width_hu:.0f}, L {preset.level_hu:.0f} HU")
        for key, preset in PRESETS.items()
    )
    fill = '<label class="layer"><input type="checkbox" id="fill">Fill</label>'
    return (
        '<div id="view" class="view" tabindex="-1"><div class="bar">'
        f'<label>Case <select id="case">{options}</select></label>'
        f'<div class="group" role="group" aria-label="plane">{views}</div>'
        f'<div class="group" role="group" aria-label="reading window">{presets}</div>'
        f'<div class="layers">{"".join(map(_switch, layers))}{fill}</div>'
        '</div><div class="stage" id="stage"><canvas id="canvas" tabindex="0" aria-label="CT with its layers"></canvas>'
        '<svg id="axes" aria-hidden="true"></svg><p id="message" role="status">loading</p></div>'
        '<div class="bar low"><label class="grow"><span id="slice-name">Axial</span> '
        '<input type="range" id="slice" min="0" max="0" value="0"><output id="slice-number"></output></label>'
        '<span class="steps"><span class="group" role="group" aria-label="findings">'
        '<button type="button" id="previous">Prev</button><button type="button" id="next">Next</button></span>'
        '<span id="finding" role="status"></span></span></div>'
        '<div class="bar low dim"><span id="place"></span><span id="facts"></span></div></div>'
        f'<p class="keys">{_keys(layers)}</p>'
        f'<p class="note">{escape(note)} Indices i, j, k are those of the file, counted from 0, as in the '
        "statistics and the stills; positions are LPS mm, as in DICOM (L left, P back, S head; negative: the other "
        "side). Reading windows (width and level in HU) are those in common use: "
        f"{', '.join(preset.text for preset in PRESETS.values())}. Each finding opens in the one that suits its HU and "
        "those around it, until you choose one. "
        "Volumes inside this page are cropped to the body, averaged over "
        f"blocks of voxels as stated under the picture, and kept in steps of {HU_STEP} HU to stay small; masks are "
        "marked where half a block is, and no part of one vanishes. "
        "Radiological view: the patient's right (R) is on the left; A front, P back, "
        "S head, I feet. For review of the method, not for diagnosis.</p>"
    )


def _button(kind: str, key: str, name: str, title: str = "") -> str:
    told = f' title="{escape(title)}"' if title else ""
    return f'<button type="button" data-{kind}="{key}" aria-pressed="false"{told}>{escape(name)}</button>'


def _switch(layer: Layer) -> str:
    """A layer's switch and its opacity."""
    name = escape(layer.name)
    return (
        f'<span class="layer"><label class="layer"><input type="checkbox" id="show-{layer.key}"'
        f'{" checked" if layer.shown else ""}><span class="key" style="--c:{layer.colour}">{name}</span></label>'
        f'<input type="range" class="opacity" id="opacity-{layer.key}" min="0" max="100" value="{layer.opacity}" '
        f'aria-label="opacity of {name}" title="opacity of {name}"></span>'
    )


def _keys(layers: Sequence[Layer]) -> str:
    helps = (
        ("scroll, ↑ ↓", "slice"),
        ("click", "move the cross, choose a finding"),
        ("right drag", "window"),
        ("W", "next window"),
        ("1 2 3 4", "plane"),
        (", ".join(layer.letter for layer in layers), ", ".join(layer.name.lower() for layer in layers)),
        ("N, B", "next, previous finding"),
    )
    return "".join(f"<span><kbd>{escape(key)}</kbd> {escape(text)}</span>" for key, text in helps)


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
        + "".join(code_script(asset(name), name) for name in _SCRIPTS)
    )


def viewer_data(cases: Sequence[EmbeddedCase], layers: Sequence[Layer]) -> str:
    """What the viewer's code knows of the cases. Raises ValueError for a number that is none."""
    data: dict[str, Any] = {
        "cases": [_entry(case) for case in cases],
        "presets": {
            key: {"name": preset.name, "low": preset.hu.low_hu, "high": preset.hu.high_hu}
            for key, preset in PRESETS.items()
        },
        "layers": [{"key": layer.key, "letter": layer.letter.lower(), "outlined": layer.outlined} for layer in layers],
        "fill": {"off": FILL_ALPHA, "on": FILLED_ALPHA},
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
        "preset": case.preset,
        "start": list(case.start),
        "first": list(case.volumes.start),
        "factors": list(case.factors),
        "spacing": [float(mm) for mm in case.spacing_mm],
        "axes": [axis._asdict() for axis in case.file_axes],
        "findings": [_finding_entry(finding) for finding in case.findings],
        "facts": f"scan {shape} voxels of {spacing} mm; {whole}",
        **case.details,
    }


def _finding_entry(finding: Finding) -> dict[str, Any]:
    lines = [
        {"name": name, "ends": [[-x, -y, z] for x, y, z in ends], "mm": length_mm}
        for name, ends, length_mm in zip(_LENGTH_AXES, finding.axes_lps_mm, finding.axes_mm, strict=False)
    ]
    return {"label": finding.label, "voxel": list(finding.voxel), "preset": finding.preset, "lines": lines}
