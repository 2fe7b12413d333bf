"""The page of pitfalls: every row has a test, and every test that it names is there."""

from __future__ import annotations

import ast
import re

import pytest

from tests.helpers.places import DOCS, ROOT

PAGE = (DOCS / "reference" / "pitfalls.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| theirs")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:40])
def test_its_tests_are_there(row):
    theirs, ours, tests = row.strip("| ").split(" | ")
    assert re.search(r"\d\.\d", theirs), "names the version"
    assert ours
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", tests)
    assert named
    for file, name in named:
        tree = ast.parse((ROOT / "tests" / "unit" / file).read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert not name or name in defined, f"{file} has no {name}"


def test_every_test_of_a_pitfall_is_named():
    for path in sorted((ROOT / "tests" / "unit" / "pitfalls").glob("test_*.py")):
        if path.name == "test_page.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        tests = [node.name for node in tree.body if getattr(node, "name", "").lower().startswith("test")]
        assert tests
        missing = [name for name in tests if f"pitfalls/{path.name}::{name}" not in PAGE]
        assert not missing, f"{path.name}: {missing}"
