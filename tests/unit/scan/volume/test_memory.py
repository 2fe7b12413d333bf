"""Memory that a scan may take: the machine's, or what the control groups leave if that is less."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from gfscreen.errors import ScanTooLargeError
from gfscreen.scan.volume import memory

GIB = 1 << 30


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GiB available; the process is in a group that a container sees as its root."""
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=8 * GIB))
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "mountinfo").write_text("31 23 0:28 / /groups rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "groups").mkdir()
    return tmp_path


def group(place: Path, limit: object, used: int, cached: int = 0) -> None:
    (place / "groups" / "memory.max").write_text(f"{limit}\n")
    (place / "groups" / "memory.current").write_text(f"{used}\n")
    (place / "groups" / "memory.stat").write_text(f"anon {used - cached}\ninactive_file {cached}\nactive_file 0\n")


@pytest.mark.parametrize(
    ("limit", "used", "cached", "available"),
    [
        pytest.param("max", 7 * GIB, 0, 8 * GIB, id="no limit"),
        pytest.param(3 * GIB, 1 * GIB, 0, 2 * GIB, id="what is left of the limit"),
        pytest.param(3 * GIB, 3 * GIB, 2 * GIB, 2 * GIB, id="cache is given back"),
        pytest.param(20 * GIB, 1 * GIB, 0, 8 * GIB, id="the machine has less"),
        pytest.param(3 * GIB, 4 * GIB, 0, 0, id="nothing is left"),
    ],
)
def test_available(place, limit, used, cached, available):
    group(place, limit, used, cached)
    assert memory.available_bytes(place, place) == available


def test_without_groups(place, tmp_path):
    assert memory.available_bytes(tmp_path / "none", tmp_path / "none") == 8 * GIB


def test_a_scan_that_the_group_has_no_room_for_is_refused_with_both_figures(place, monkeypatch):
    group(place, 3 * GIB, 3 * GIB, 2 * GIB)
    available = memory.available_bytes(place, place)
    monkeypatch.setattr(memory, "available_bytes", lambda: available)
    # 1000 x 1000 x 400 voxels of 1 mm3: 7 bytes each are 2.6 GiB, 16 for each of 133 million model voxels 2 GiB.
    with pytest.raises(ScanTooLargeError, match=r"need about 4.6 GiB, 2.0 GiB are available"):
        memory.check_memory("a", (1000, 1000, 400), (1.0, 1.0, 1.0), 2)
    memory.check_memory("a", (512, 512, 100), (1.0, 1.0, 1.0), 2)
