"""The machine and the software a result was measured with; no host names, no paths.

``python -m benchmarks.machine`` prints it.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

LIBRARIES = (
    "torch", "numpy", "pillow", "fastapi", "starlette", "uvicorn", "pydantic", "onnxruntime",
    "openvino",
)  # fmt: skip
# What decides which kernels the mathematics libraries choose.
FLAGS = re.compile(r"avx\w*|amx_\w+|f16c|fma|asimd\w*|sve\w*|bf16|i8mm")


def describe() -> dict[str, Any]:
    """Everything that a reader needs to judge a figure, as plain JSON data."""
    return {
        "cpu": _cpu(),
        "memory_gb": _memory_gb(),
        "os": f"{platform.system()} {_kernel()}, {_distribution()}",
        "gpu": _gpu(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": versions(LIBRARIES),
        "threads": {
            "available_cores": len(os.sched_getaffinity(0)),
            "cpu_quota_cores": _cpu_quota(),
            **{name: value for name, value in os.environ.items() if name.endswith("_NUM_THREADS")},
        },
        "load_average_1_min": round(os.getloadavg()[0], 2),
    }


def versions(names: tuple[str, ...]) -> dict[str, str]:
    """Versions of those distributions that are installed here."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def summary(description: dict[str, Any]) -> str:
    """One line for the head of a table."""
    cpu = description["cpu"]
    libraries = ", ".join(f"{name} {version}" for name, version in description["libraries"].items())
    return (
        f"{cpu['model']}, {description['threads']['available_cores']} cores, "
        f"{description['memory_gb']} GB, {description['os']}, {description['python']}, {libraries}"
    )


def _cpu() -> dict[str, Any]:
    fields: dict[str, str] = {}
    for line in _read("/proc/cpuinfo").split("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    flags = fields.get("flags", fields.get("Features", "")).split()
    return {
        "model": fields.get("model name", platform.processor() or platform.machine()),
        "family_model_stepping": [
            fields.get(key, "") for key in ("cpu family", "model", "stepping")
        ],
        "logical_cores": os.cpu_count(),
        "threads_per_core": _threads_per_core(),
        "mhz_now": fields.get("cpu MHz"),
        "caches": _caches(),
        "flags": sorted(flag for flag in flags if FLAGS.fullmatch(flag)),
        "virtualised": "hypervisor" in flags,
    }


def _caches() -> dict[str, str]:
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind = _read(index / "level"), _read(index / "type")
        found[f"L{level} {kind.lower()}"] = _read(index / "size")
    return found


def _threads_per_core() -> int | None:
    siblings = _read("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
    return len(re.split("[,-]", siblings)) if siblings else None


def _memory_gb() -> float:
    found = re.search(r"MemTotal:\s+(\d+) kB", _read("/proc/meminfo"))
    return round(int(found[1]) / 2**20, 1) if found else 0.0


def _kernel() -> str:
    """The series only; local suffixes say nothing to a reader."""
    return ".".join(platform.release().split("-")[0].split(".")[:2])


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return "unknown"


def _cpu_quota() -> float | None:
    """Cores that the cgroup allows; None: no limit."""
    words = _read("/sys/fs/cgroup/cpu.max").split()
    if not words:
        words = [_read(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us") for name in ("quota", "period")]
    if not all(words) or words[0] in ("max", "-1"):
        return None
    return int(words[0]) / int(words[1])


def _gpu() -> str | None:
    """Asked of torch only where it is loaded already: loading it would cost a second."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name(0))


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


if __name__ == "__main__":
    print(json.dumps(describe(), indent=2))
