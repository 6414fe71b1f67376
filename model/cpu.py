"""How many processors this process may use: the container's quota, not the host's cores.

A process that starts a thread per core of a large host under a small quota is throttled most of the
time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")


@dataclass(frozen=True)
class CpuBudget:
    """Processors to use, and where the number comes from."""

    cpus: int  # at least 1, rounded down
    source: str  # "cgroup v2", "cgroup v1" or "affinity"
    quota: float | None  # processors' worth of time allowed by the cgroup, None if unlimited


def cpu_budget(root: Path = ROOT, affinity: int | None = None) -> CpuBudget:
    """The smaller of the cgroup quota and the processors this process may run on.

    Args:
        root: where ``proc`` and ``sys`` are.
        affinity: number of processors allowed; by default asked from the system.
    """
    allowed = affinity if affinity is not None else len(os.sched_getaffinity(0))
    best, source = float(allowed), "affinity"
    quota: float | None = None
    for found, kind in _quotas(root):
        quota = found if quota is None else min(quota, found)
        if found < best:
            best, source = found, kind
    return CpuBudget(max(1, math.floor(best)), source, quota)


def _quotas(root: Path) -> Iterator[tuple[float, str]]:
    """Every quota that binds this process: its own group's and those of the groups around it."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from ((quota, "cgroup v2") for quota in map(_v2, _upwards(mount, path)) if quota)
        elif "cpu" in controllers.split(","):
            for name in (controllers, "cpu"):
                folders = _upwards(mount / name, path)
                yield from ((quota, "cgroup v1") for quota in map(_v1, folders) if quota)


def _upwards(mount: Path, path: str) -> list[Path]:
    """The group's folder and its parents, up to the mount point.

    Inside a container the path may name folders of the host that are not visible; its own limits
    are then at the mount point.
    """
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [mount.joinpath(*parts[:length]) for length in range(len(parts), -1, -1)]


def _v2(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
    return _share(quota, period)


def _v1(folder: Path) -> float | None:
    return _share(
        _read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()
    )


def _share(quota: str, period: str) -> float | None:
    """``quota / period``; None for "max", -1 or a missing file."""
    if quota.isdigit() and period.isdigit() and int(quota) > 0 and int(period) > 0:
        return int(quota) / int(period)
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
