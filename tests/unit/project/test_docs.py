"""The documents against the code: every option, key and name is there, and every link leads somewhere."""

from __future__ import annotations

import argparse
import dataclasses
import re
from typing import Any

import pytest

import gfscreen.run.api
from gfscreen.cohort.worklist.table import COLUMNS
from gfscreen.command.arguments import leaves
from gfscreen.command.cli import build_parser
from gfscreen.config import OperatingPoint, Plan
from gfscreen.errors import GFScreenError
from gfscreen.network_plan import CellGlanceConfig, FocusConfig, GlanceConfig, HUWindow
from gfscreen.nnunet_plan import InputChannel, NnunetConfig, Resampling, UNetConfig
from gfscreen.run.report import CaseReport, run_report
from gfscreen.version import __version__
from tests.helpers.places import DOCS, ROOT

PAGES = sorted([*DOCS.rglob("*.md"), *(ROOT / name for name in ("README.md", "DATA.md", "CONTRIBUTING.md"))])


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def named(text: str) -> set[str]:
    """What stands in backquotes."""
    return {word for span in re.findall(r"`([^`\n]+)`", text) for word in re.split(r"[ ,]+", span)}


def anchor_of(heading: str) -> str:
    """GitHub's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} does not exist"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {anchor_of(heading) for heading in headings}, f"{target}: no such heading"


def test_every_page_is_in_the_index():
    index = text_of("README.md")
    for kind in ("tutorial", "how-to", "reference", "explanation"):
        for page in (DOCS / kind).glob("*.md"):
            assert f"({page.relative_to(DOCS)})" in index, page.name


def test_the_command_line_reference_has_every_command_and_option():
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", text_of("reference/cli.md"), re.MULTILINE | re.DOTALL))
    parser = build_parser()
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    common = {"-h", "--help", "-q", "--quiet", "-v", "--verbose"}
    for name, command in commands.choices.items():
        assert name in sections, f"no section on {name}"
        options = {option for leaf in leaves(command) for action in leaf._actions for option in action.option_strings}
        described = {word for word in named(sections[name]) if re.fullmatch(r"--?[a-z][a-z-]*", word)}
        assert options - common == described, name


def test_the_command_line_reference_has_every_variable_of_predict_sh():
    table = text_of("reference/cli.md").partition("## predict.sh")[2].partition("\n## ")[0]
    described = {name for name in named(table) if name.startswith("GFSCREEN_")}
    used = set(re.findall(r"\bGFSCREEN_[A-Z_]+", (ROOT / "predict.sh").read_text(encoding="utf-8")))
    assert described - {"GFSCREEN_CACHE"} == used  # the cache is the program's own variable


def test_the_harness_table_has_every_command():
    from eval.__main__ import COMMANDS

    assert set(COMMANDS) <= named(text_of("reference/cli.md").partition("## The harness")[2])


def test_the_report_reference_has_every_key():
    words = named(text_of("reference/report.md"))
    keys = set(run_report([], None, None, {})) | {field.name for field in dataclasses.fields(CaseReport)}
    assert keys <= words, keys - words


def test_the_cohort_guide_has_every_column():
    words = named(text_of("how-to/cohort.md"))
    assert {name for name, _ in COLUMNS} <= words


def test_the_plan_reference_has_every_key():
    words = named(text_of("reference/plan.md"))
    kinds: tuple[Any, ...] = (Plan, GlanceConfig, CellGlanceConfig, OperatingPoint, FocusConfig, HUWindow)
    kinds += (NnunetConfig, UNetConfig, InputChannel, Resampling)
    keys = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    assert keys <= words, keys - words


def test_the_settings_reference_has_every_key():
    pytest.importorskip("torch")
    from gfscreen.training.settings import Mix, TrainingSettings

    words = named(text_of("reference/settings.md"))
    keys = {field.name for kind in (TrainingSettings, Mix) for field in dataclasses.fields(kind)}
    assert keys <= words, keys - words


def test_the_python_reference_has_every_name():
    text = text_of("reference/python-api.md")
    for kind in (gfscreen.run.api.Screener, gfscreen.run.api.Result):
        for name in vars(kind):
            if not name.startswith("_"):
                assert re.search(rf"\b{name}\b", text), f"{kind.__name__}.{name}"
    for error in GFScreenError.__subclasses__():
        assert f"`{error.__name__}`" in text


def test_the_method_page_names_functions_that_exist():
    pytest.importorskip("torch")
    from gfscreen.training import objectives

    table = text_of("explanation/method.md").partition("| symbol | function |")[2].partition("## Constants")[0]
    names = re.findall(r"`(\w+)`", table)
    assert len(names) >= 5
    for name in names:
        assert hasattr(objectives, name), name


def test_the_citation_names_this_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {__version__}\n" in text
    for key in ("cff-version:", "message:", "title:", "authors:", "license: Apache-2.0"):
        assert key in text
