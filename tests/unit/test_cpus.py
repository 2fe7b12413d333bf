"""CPUs that may be used: by affinity, cut to the quota of the control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from gfscreen import cpus


def quotas(folder: Path, own: str, upper: str = "max 100000") -> tuple[Path, Path]:
    """A fake /proc/self, in group /job/step, and the root of its mounts, with `cpu.max` of both groups."""
    (folder / "cgroup").write_text("0::/job/step\n")
    (folder / "mountinfo").write_text("31 23 0:28 / /groups rw - cgroup2 cgroup2 rw\n")
    step = folder / "groups" / "job" / "step"
    step.mkdir(parents=True)
    (step / "cpu.max").write_text(f"{own}\n")
    (step.parent / "cpu.max").write_text(f"{upper}\n")
    return folder, folder


@pytest.mark.parametrize(
    ("affinity", "own", "upper", "expected"),
    [
        (8, "max 100000", "max 100000", 8),
        (8, "200000 100000", "max 100000", 2),
        # 1.5 CPUs: a second thread gains a half.
        (8, "150000 100000", "max 100000", 2),
        (2, "400000 100000", "max 100000", 2),
        (8, "25000 100000", "max 100000", 1),
        (8, "600000 100000", "300000 100000", 3),
        (8, "300000 100000", "600000 100000", 3),
        (8, "300000 0", "x", 8),
    ],
)
def test_affinity_cut_to_the_smallest_quota(monkeypatch, tmp_path, affinity, own, upper, expected):
    monkeypatch.setattr(cpus.os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    assert cpus.usable_cpus(*quotas(tmp_path, own, upper)) == expected


def test_where_affinity_cannot_be_asked(monkeypatch, tmp_path):
    def refused(_: int) -> set[int]:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(cpus.os, "sched_getaffinity", refused, raising=False)
    monkeypatch.setattr(cpus.os, "cpu_count", lambda: 4)
    assert cpus.usable_cpus(*quotas(tmp_path, "max 100000")) == 4
