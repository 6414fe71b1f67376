"""The CPU quota is found in fake /proc and /sys trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.cpu import CpuBudget, cpu_budget


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = "0::/\n"
V2_NESTED = "0::/kubepods/pod1/app\n"
V1 = "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, CpuBudget(64, "affinity", None)),
        ({"proc/self/cgroup": V2}, CpuBudget(64, "affinity", None)),
        (
            {"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "max 100000\n"},
            CpuBudget(64, "affinity", None),
        ),
        (
            {"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "250000 100000\n"},
            CpuBudget(2, "cgroup v2", 2.5),
        ),
        (
            {"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "50000 100000\n"},
            CpuBudget(1, "cgroup v2", 0.5),
        ),
        (
            {"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "12800000 100000\n"},
            CpuBudget(64, "affinity", 128.0),
        ),
        (
            {
                "proc/self/cgroup": V2_NESTED,
                "sys/fs/cgroup/kubepods/pod1/app/cpu.max": "max 100000\n",
                "sys/fs/cgroup/kubepods/pod1/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/kubepods/cpu.max": "800000 100000\n",
            },
            CpuBudget(3, "cgroup v2", 3.0),
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            CpuBudget(4, "cgroup v1", 4.0),
        ),
        (  # in a container: the host's path is not visible, the limits are at the mount point
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "50000\n",
            },
            CpuBudget(3, "cgroup v1", 3.0),
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            CpuBudget(64, "affinity", None),
        ),
    ],
    ids=[
        *("no cgroup", "no limit file", "max", "2.5 CPUs", "half a CPU", "more than there are"),
        *("a parent's limit", "v1", "v1 in a container", "v1 unlimited"),
    ],
)
def test_the_quota_bounds_the_host(
    tmp_path: Path, files: dict[str, str], expected: CpuBudget
) -> None:
    assert cpu_budget(tree(tmp_path, files), affinity=64) == expected


def test_affinity_bounds_the_quota(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "800000 100000\n"}
    assert cpu_budget(tree(tmp_path, files), affinity=3) == CpuBudget(3, "affinity", 8.0)


def test_this_machine_has_at_least_one() -> None:
    assert cpu_budget().cpus >= 1
