"""`eval score-benchmark`: both methods give the same scores on what it lays out, and it says when they do not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

from eval.__main__ import main
from eval.accuracy import score_benchmark

SHAPE, SPACING_MM = (90, 80, 60), (1.0, 1.0, 2.0)


@pytest.mark.parametrize(("layout", "balls"), [("single", 1), ("scattered", 9)])
def test_pair(layout, balls):
    pair = score_benchmark.make_pair((200, 200, 120), SPACING_MM, layout)
    expected_ml = 4 / 3 * np.pi * 12.0**3 / 1000
    for mask in pair:
        labels, count = ndimage.label(mask)
        assert count == balls
        volumes = np.bincount(labels.ravel())[1:] * np.prod(SPACING_MM) / 1000
        np.testing.assert_allclose(volumes, expected_ml, rtol=0.03)
    truth, prediction = (np.argwhere(mask).mean(axis=0) for mask in pair)
    np.testing.assert_allclose(prediction - truth, (4, 0, 0), atol=1e-6)


def arguments(*more: str) -> list[str]:
    shape, spacing = (",".join(str(v) for v in values) for values in (SHAPE, SPACING_MM))
    return ["score-benchmark", "--shape", shape, "--spacing", spacing, "--layout", "single", *more]


def test_both_methods_agree(capsys):
    assert main(arguments("--json")) == 0
    rows = json.loads(capsys.readouterr().out)["layouts"]["single"]
    assert rows["ours"]["dsc"] == pytest.approx(rows["organisers"]["dsc"], abs=5e-5)
    assert rows["ours"]["nsd"] == pytest.approx(rows["organisers"]["nsd"], abs=5e-5)
    # Two balls of radius r whose centres are d apart share 1 - 1.5 x + 0.5 x^3 of one, x = d / 2r.
    assert rows["ours"]["dsc"] == pytest.approx(1 - 1.5 * (4 / 24) + 0.5 * (4 / 24) ** 3, abs=0.01)
    assert rows["ratio"] == pytest.approx(rows["organisers"]["seconds"] / rows["ours"]["seconds"])
    assert rows["ours"]["peak_rss_mb"] > 10


@pytest.mark.parametrize("other", [{"nsd": 0.8}, {"dsc": None, "nsd": None, "seconds": None, "peak_rss_mb": None}])
def test_another_score_or_a_dead_process_is_exit_1(other, monkeypatch, capsys):
    row = {"dsc": 0.75, "nsd": 0.5, "seconds": 1.0, "peak_rss_mb": 100.0, "exit_code": 0}
    rows = {"ours": row, "organisers": {**row, **other}}
    monkeypatch.setattr(score_benchmark, "measure", lambda method, *_: rows[method])
    assert main(arguments()) == 1
    assert ("organisers" in capsys.readouterr().out) == (other["nsd"] is not None)


@pytest.mark.parametrize(
    ("option", "value"), [("--shape", "64,64"), ("--shape", "1,2,3,4"), ("--shape", "64,64,0"), ("--spacing", "1,1,x")]
)
def test_wrong_usage(option, value, capsys):
    assert main(["score-benchmark", option, value]) == 2
    assert capsys.readouterr().err.startswith(f"score-benchmark: {option} {value}: expected ")
