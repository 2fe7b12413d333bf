"""A short soak, and the slope it is judged by."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.reliability.soak import slope_mb_per_case, soak


def test_slope():
    # 100, 102, 104, ...: 2 MB per case, whatever the first ones were.
    assert slope_mb_per_case([900.0] * 5 + [100.0 + 2 * n for n in range(10)], skip=5) == pytest.approx(2.0)
    assert slope_mb_per_case([100.0] * 30) == pytest.approx(0.0)
    assert slope_mb_per_case([100.0] * 22) is None, "too few to say"


def test_a_short_soak(tmp_path: Path):
    pytest.importorskip("openvino")
    result = soak(tmp_path, 12, None, "openvino")
    assert (result["cases"], result["ended"], result["exit_code"]) == (12, 12, 1)
    assert result["masks"] == 11, "one is damaged"
    assert len(result["rss_mb"]) == 12
    assert min(result["rss_mb"]) > 10
    assert result["slope_mb_per_case"] is None
