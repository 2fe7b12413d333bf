"""The score of every reference pair, as the organisers' own script gave it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from eval.__main__ import main

pytestmark = pytest.mark.shared


def test_scores_equal_the_organisers_to_four_decimals(shared_dir: Path, tmp_path: Path) -> None:
    folder = shared_dir / "reference" / "metrics"
    code = main(
        ["score", "--pred", str(folder / "pred"), "--gt", str(folder / "gt"), "-o", str(tmp_path), "--jobs", "2"]
    )
    with (folder / "expected.csv").open(newline="") as stream:
        expected = list(csv.DictReader(stream))
    with (tmp_path / "per_case.csv").open(newline="") as stream:
        found = list(csv.DictReader(stream))
    assert code == 0
    assert len(expected) == 25
    # Text for text: the same names in the same order, the same decimals.
    assert [{key: row[key] for key in expected[0]} for row in found] == expected
