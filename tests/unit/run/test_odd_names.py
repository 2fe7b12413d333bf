"""File names that are no UTF-8, or would break a line, a page, a formula: every output names them, none is lost."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gfscreen.command.cli import main
from gfscreen.results.statistics.lesions import measure_lesions
from gfscreen.text import encodable, visible
from tests.helpers.engines import bright_engine
from tests.helpers.nifti_files import write_nifti
from tests.helpers.runs import write_plan

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
ODD = [
    os.fsdecode(b"caf\xe9"),
    os.fsdecode(b"\xff\xfe\xed\xa0\x80"),
    "two\nlines\r\t",
    "red\x1b[31m",
    "gpj\u202efdp",
    "<script>alert(1)</script>".replace("/", "\u2215"),
    "\"a\" & 'b' -->",
    "$x^{$ \\frac{1}{0} $",
    "=1+1,2;3",
    "_begins",
    "山田\u3000太郎",
    "😀👩\u200d⚕\ufe0f",
    "index",
    "n" * 240,
]


def body() -> np.ndarray:
    hu = np.full((20, 20, 12), -1000, np.int16)
    hu[3:17, 3:17] = 0
    hu[8:12, 8:12, 4:8] = 300
    return hu


def write_scans(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        for kind, suffix, array in (("in", "_0000", body()), ("masks", "", (body() == 300).astype(np.uint8))):
            (folder / kind).mkdir(exist_ok=True)
            write_nifti(folder / kind / f"{name}{suffix}.nii.gz", array, AFFINE)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_plan(tmp_path / "weights")
    monkeypatch.setattr("gfscreen.run.predict.load_engine", lambda *_, **__: bright_engine())
    monkeypatch.setattr("gfscreen.run.predict.process_age_s", lambda: 0.0)
    return tmp_path


class _Page(HTMLParser):
    """Options of the case list and row heads of the table of cases, and the viewer's data."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.options: list[str] = []
        self.heads: list[str] = []
        self.data: Any = None
        self._into: list[str] | None = None
        self._script = False
        self.scripts = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self._script = tag == "script" and ("id", "viewer-data") in attrs
        if tag == "option":
            self.options.append("")
            self._into = self.options
        elif tag == "th" and ("scope", "row") in attrs:
            self.heads.append("")
            self._into = self.heads

    def handle_endtag(self, tag: str) -> None:
        self._into, self._script = None, False

    def handle_data(self, data: str) -> None:
        if self._into is not None:
            self._into[-1] += data
        elif self._script:
            self.data = json.loads(data)


def check_outputs(place: Path) -> None:
    names = ["plain", *ODD]
    cases = json.loads((place / "s.json").read_text(encoding="utf-8"))["cases"]
    assert sorted(case["name"] for case in cases) == sorted(names)
    assert all(case["lesion_count"] == 1 for case in cases)
    with (place / "s.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert sorted(row["case"] for row in rows if row["row"] == "scan") == sorted(map(encodable, names))
    stills = {os.fsencode(path.name) for path in (place / "see").iterdir()} - {b"index.html"}
    assert stills == {os.fsencode(f"{name}.png") for name in names}
    page = _Page((place / "see" / "index.html").read_text(encoding="utf-8"))
    seen = sorted(map(visible, names))
    assert sorted(page.options) == sorted(one["name"] for one in page.data["cases"]) == seen
    assert sorted(page.heads[: len(names)]) == seen


def test_predict(place, capsys):
    write_scans(place, ["plain", *ODD])
    arguments = ["--weights", "weights", "--report", "r.json", "--statistics", "s.json", "--preview", "see"]
    assert main(["predict", "-i", "in", "-o", "out", *arguments]) == 0
    assert {path.name for path in (place / "out").iterdir()} == {f"{name}.nii.gz" for name in ("plain", *ODD)}
    assert {case["name"] for case in json.loads((place / "r.json").read_text())["cases"]} == {"plain", *ODD}
    check_outputs(place)
    log = capsys.readouterr().err
    assert "Traceback" not in log
    assert "Glyph" not in log
    assert all(line.startswith(("INFO", "WARNING")) for line in log.splitlines())


def test_stats(place, capsys):
    write_scans(place, ["plain", *ODD])
    assert main(["stats", "--image", "in", "--mask", "masks", "-o", "s.json", "--preview", "see"]) == 0
    check_outputs(place)
    assert "Traceback" not in capsys.readouterr().err


def no_number(volume: Any, mask: Any, outputs: Any = None) -> list[Any]:
    """Lesions of which one has a mean that is no number, of the scan `café` alone."""
    from dataclasses import replace

    lesions = measure_lesions(volume, mask, outputs)
    odd = b"caf" in os.fsencode(volume.source.name)
    return [replace(lesion, hu_mean=float("nan")) if odd else lesion for lesion in lesions]


class TestOneCaseThatGoesWrong:
    """What no document can hold, or a fault of ours: of that case alone."""

    @pytest.fixture
    def two(self, place: Path) -> Path:
        write_scans(place, ["plain", ODD[0]])
        return place

    def run(self, command: str) -> int:
        if command == "stats":
            return main(["stats", "--image", "in", "--mask", "masks", "-o", "s.json", "--preview", "see"])
        arguments = ["--weights", "weights", "--statistics", "s.json", "--preview", "see"]
        return main(["predict", "-i", "in", "-o", "out", *arguments])

    @pytest.mark.parametrize("command", ["predict", "stats"])
    def test_a_number_that_is_none(self, two, monkeypatch, command):
        monkeypatch.setattr("gfscreen.results.statistics.documents.measure_lesions", no_number)
        assert self.run(command) == 1
        cases = {case["name"]: case for case in json.loads((two / "s.json").read_text())["cases"]}
        assert (cases["plain"]["lesion_count"], cases[ODD[0]]["lesion_count"]) == (1, None)
        assert cases[ODD[0]]["error"]
        page = _Page((two / "see" / "index.html").read_text(encoding="utf-8"))
        assert page.options == ["plain"]
        assert visible(ODD[0]) in page.heads

    @pytest.mark.parametrize(
        ("command", "part"),
        [
            ("predict", "run.draw_montage"),
            ("predict", "page.make_small"),
            ("predict", "page.heat_layer"),
            ("stats", "run.draw_montage"),
            ("stats", "page.make_small"),
        ],
    )
    def test_a_fault_in_a_preview(self, two, monkeypatch, command, part):
        from importlib import import_module

        module, name = part.split(".")
        real = getattr(import_module(f"gfscreen.results.preview.{module}"), name)
        calls = []

        def fault(*arguments: Any) -> Any:
            calls.append(arguments)
            if len(calls) == 1:
                raise RuntimeError("no ink")
            return real(*arguments)

        monkeypatch.setattr(f"gfscreen.results.preview.{part}", fault)
        assert self.run(command) == 1
        cases = json.loads((two / "s.json").read_text())["cases"]
        assert [case["lesion_count"] for case in cases] == [1, 1]
        html = (two / "see" / "index.html").read_text(encoding="utf-8")
        assert len(_Page(html).options) == 1
        assert "its preview could not be made" in html

    @pytest.mark.parametrize("command", ["predict", "stats"])
    def test_statistics_that_cannot_be_written_cost_no_preview(self, two, command, capsys):
        (two / "s.json").mkdir()
        assert self.run(command) == 1
        assert "s.json: cannot be written" in capsys.readouterr().err
        assert (two / "s.csv").is_file()
        assert (two / "see" / "index.html").is_file()

    @pytest.mark.parametrize("command", ["predict", "stats"])
    def test_a_page_that_cannot_be_written_costs_no_statistics(self, two, command, caplog):
        (two / "see" / "index.html").mkdir(parents=True)
        with caplog.at_level(logging.ERROR):
            assert self.run(command) == 1
        assert len(json.loads((two / "s.json").read_text())["cases"]) == 2
