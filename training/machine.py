"""The machine that a result was measured on, for the head of its page; no host names, no paths."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

_LIBRARIES = ("torch", "numpy", "torchmetrics", "torchvision")


def describe_machine(device: str) -> dict[str, Any]:
    """Plain JSON: processor, memory, system, libraries, and the GPU where ``device`` is one."""
    import torch

    return {
        "cpu": _field("/proc/cpuinfo", r"model name\s*:\s*(.+)") or platform.machine(),
        "cores": _cores(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(int(_field("/proc/meminfo", r"MemTotal:\s+(\d+) kB") or 0) / 2**20, 1),
        "gpu": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "libraries": _versions(),
    }


def machine_line(machine: dict[str, Any]) -> str:
    """The description on one line."""
    parts = [
        machine["gpu"],
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads in use",
        f"{machine['memory_gb']} GB",
        f"{machine['system']}, Python {machine['python']}",
        *(f"{name} {version}" for name, version in machine["libraries"].items()),
    ]
    return ", ".join(part for part in parts if part)


def _cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _field(path: str, pattern: str) -> str | None:
    try:
        found = re.search(pattern, Path(path).read_text(encoding="utf-8"))
    except OSError:
        return None
    return found[1].strip() if found else None
