"""Limits of control groups, v1 and v2: the smallest of the process's own group and of every group above it.

A limit may lie anywhere on that path (SLURM, Apptainer, systemd scopes, containers), and holds for all that is below.
Which group is ours is in /proc/self/cgroup, where groups can be seen is in /proc/self/mountinfo. Files that are
missing, unreadable or odd say nothing: no fault of theirs is raised.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

PROC = Path("/proc/self")
ROOT = Path("/")

# v1 writes "no limit" as the largest number of whole pages, which depends on the page: 9223372036854771712 for 4 KiB.
_NO_LIMIT = 1 << 62
_DEFAULT_PERIOD_US = 100_000
# Where the groups lie by custom, for machines whose mountinfo does not tell (LXCFS, some sandboxes).
_BY_CUSTOM = {None: "/sys/fs/cgroup", "memory": "/sys/fs/cgroup/memory", "cpu": "/sys/fs/cgroup/cpu"}
# So many groups are looked through for our own where its path cannot be told: more than hosts have on one level.
_MOST_GROUPS = 4096


def memory_left_bytes(proc: Path = PROC, root: Path = ROOT) -> int | None:
    """Bytes that may still be used, by the group that has least left; None without a limit.

    What files only cache counts as free: the kernel gives it back before it denies anybody memory. `memory.high` (v2)
    is a limit like `memory.max`: nobody is killed beyond it, but the kernel slows the group down until it hardly moves.

    proc: the folder with the files `cgroup` and `mountinfo` of this process. root: what mount points are below.
    """
    left = [_memory_left_v2(folder) for folder in _own_groups(None, proc, root)]
    left += [_memory_left_v1(folder) for folder in _accounted_groups(_own_groups("memory", proc, root))]
    return min((size for size in left if size is not None), default=None)


def cpu_quota(proc: Path = PROC, root: Path = ROOT) -> float | None:
    """CPUs that may be busy at once, on average, by the group that has fewest; None without a limit.

    proc, root: as for `memory_left_bytes`.
    """
    quotas = [_cpu_quota_v2(folder) for folder in _own_groups(None, proc, root)]
    quotas += [_cpu_quota_v1(folder) for folder in _own_groups("cpu", proc, root)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _memory_left_v2(folder: Path) -> int | None:
    statistics = _statistics(folder / "memory.stat")
    cached = sum(statistics.get(name, 0) for name in ("inactive_file", "active_file"))
    return _left([_number(folder / "memory.max"), _number(folder / "memory.high")], folder / "memory.current", cached)


def _memory_left_v1(folder: Path) -> int | None:
    statistics = _statistics(folder / "memory.stat")
    # Without `total_` the groups below are left out, which the usage holds. Only kernels without hierarchy lack it.
    cached = sum(statistics.get(f"total_{name}", statistics.get(name, 0)) for name in ("inactive_file", "active_file"))
    # The latter knows of groups above that a container does not see.
    limits = [_number(folder / "memory.limit_in_bytes"), statistics.get("hierarchical_memory_limit")]
    return _left(limits, folder / "memory.usage_in_bytes", cached)


def _left(limits: list[int | None], used_file: Path, cached: int) -> int | None:
    """The smallest limit less what is used and not merely cached; None without a limit."""
    limit = min((size for size in limits if size is not None and size < _NO_LIMIT), default=None)
    if limit is None:
        return None
    return max(0, limit - max(0, (_number(used_file) or 0) - cached))


def _cpu_quota_v2(folder: Path) -> float | None:
    with suppress(OSError, ValueError):
        quota, *period = (folder / "cpu.max").read_bytes().split()
        return _share(int(quota), int(period[0]) if period else _DEFAULT_PERIOD_US)
    return None


def _cpu_quota_v1(folder: Path) -> float | None:
    # -1 for no limit is no number here.
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return None if quota is None else _share(quota, _DEFAULT_PERIOD_US if period is None else period)


def _share(quota_us: int, period_us: int) -> float | None:
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None


def _number(path: Path) -> int | None:
    """The number in a file, at least 0; None for anything else, `max` among it."""
    with suppress(OSError, ValueError):
        number = int(path.read_bytes())
        return number if number >= 0 else None
    return None


def _lines(path: Path) -> list[str]:
    with suppress(OSError, ValueError):
        return os.fsdecode(path.read_bytes()).split("\n")
    return []


def _statistics(path: Path) -> dict[str, int]:
    """The numbers of `memory.stat` by name; lines that are none are left out."""
    pairs = (line.split() for line in _lines(path))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isascii() and pair[1].isdigit()}


def _own_groups(controller: str | None, proc: Path, root: Path) -> Iterator[Path]:
    """Folders of the own group and of all above it, as far as they are mounted, from the own group upwards.

    controller: of a v1 hierarchy; None for v2. A group that is not to be seen leaves those above it.
    """
    own = _own_path(proc / "cgroup", controller)
    mounts = _mounts(proc / "mountinfo", controller) or [("/", _BY_CUSTOM[controller])]
    placed = [(root / point.lstrip("/"), _path_below(own, top), top) for top, point in mounts]
    # A mount of other groups than ours says nothing, unless it is all there is: then a container sees itself there,
    # under a path that only the host knows.
    for point, below, top in [place for place in placed if place[1] is not None] or placed:
        if below is None:
            below = _searched(point, top, own)
        parts = [part for part in below.split("/") if part]
        path_up = (point.joinpath(*parts[:length]) for length in range(len(parts), -1, -1))
        yield from (folder for folder in path_up if os.path.isdir(folder))  # noqa: PTH112 - Path's raises on EACCES


def _own_path(cgroup: Path, controller: str | None) -> str:
    """Path of the own group in its hierarchy, as /proc/self/cgroup tells it; the root where it does not."""
    for line in _lines(cgroup):
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        found = number == "0" and not names if controller is None else controller in names.split(",")
        if found and path.startswith("/"):
            return path
    return "/"


def _mounts(mountinfo: Path, controller: str | None) -> list[tuple[str, str]]:
    """Where the hierarchy is mounted: the group at the top of the mount, and the mount point. See man proc."""
    mounts = {}
    for line in _lines(mountinfo):
        place, _, kind = line.partition(" - ")
        places, kinds = place.split(" "), kind.split(" ")
        if len(places) >= 5 and len(kinds) >= 3:
            # A later mount on the same point covers the earlier one.
            mounts[_unescaped(places[4])] = _unescaped(places[3]), kinds[0], kinds[2].split(",")
    return [
        (top, point)
        for point, (top, kind, options) in mounts.items()
        if (kind == "cgroup2" if controller is None else kind == "cgroup" and controller in options)
    ]


def _unescaped(text: str) -> str:
    r"""Blanks and the like are written there as \ and three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _path_below(own: str, top: str) -> str | None:
    """Path of the own group below the group at the top of a mount, "" if it is that; None if it is not below it."""
    top = top.rstrip("/")
    if own != top and not own.startswith(f"{top}/"):
        return None
    below = own[len(top) :]
    return None if ".." in below.split("/") else below


def _searched(point: Path, top: str, own: str) -> str:
    """Path of the own group below a mount whose top lies above the root of our cgroup namespace; "" if not found.

    The mount then shows the host's groups, and no file tells the names on the way down, only how many: "/../..".
    """
    names = top.strip("/").split("/")
    if set(names) != {".."} or ".." in own.split("/"):
        return ""
    with suppress(OSError, ValueError):
        for folder in islice(point.glob("/".join("*" * len(names))), _MOST_GROUPS):
            if str(os.getpid()) in _lines(folder.joinpath(own.lstrip("/"), "cgroup.procs")):
                return f"{folder.relative_to(point)}{own}"
    return ""


def _accounted_groups(groups: Iterator[Path]) -> Iterator[Path]:
    """v1 groups that count what the own one uses: up to one without `memory.use_hierarchy`, known before Linux 5.11."""
    below: Path | None = None
    counts = True
    for folder in groups:
        is_above = below is not None and below.parent == folder
        counts = not is_above or (counts and _number(folder / "memory.use_hierarchy") != 0)
        below = folder
        if counts:
            yield folder
