"""Memory of cross-stitch networks against the number of tasks, up to where it is refused.

    python -m benchmarks.cross_stitch_memory

The formula for every number of tasks (:mod:`model.baselines.memory`); beside it the bytes of a real
network's tensors where one is made, and, where a training step still fits into ``--step-gb``, what
that step really takes. Hard sharing stands beside it: one trunk, whatever the number of tasks.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.number_list import integers
from benchmarks.report import RESULTS, Report
from model.baselines.memory import check_fits, footprint
from model.config import Family, ModelConfig
from model.errors import ConfigError
from model.families import build, unfilled
from model.tasks import Task
from training.losses import masked_loss

COUNTS = "1,2,5,10,20,40,312"
_BATCH = 2  # images of the measured step: weights, not activations, are what it is about


def main(
    tasks: Annotated[str, typer.Option(help="Numbers of tasks.")] = COUNTS,
    limit_gb: Annotated[float, typer.Option(help="Beyond it training is refused.")] = 8.0,
    make_gb: Annotated[float, typer.Option(help="Beyond it no real network is made.")] = 2.0,
    step_gb: Annotated[float, typer.Option(help="Beyond it no step is measured.")] = 2.0,
    step_of: Annotated[int, typer.Option(hidden=True, help="Take one step and print MB.")] = 0,
    out: Annotated[Path, typer.Option(help="Where results go.")] = (
        RESULTS / "methods/cross-stitch-memory"
    ),
) -> None:
    """Write the table of memory against the number of tasks."""
    if step_of:
        print(_step_mb(step_of))
        return
    rows = [_row(count, limit_gb, make_gb, step_gb) for count in integers(tasks)]
    _write(out, rows, limit_gb)


def config_of(tasks: int, family: Family = "cross_stitch") -> ModelConfig:
    """The default backbone at full width, 64 px, linear heads."""
    return ModelConfig.model_validate(
        {
            "family": family,
            "routing": {"routed_layers": "none", "keep": 1.0},
            "head": {"embedding": 0},
            "tasks": [Task(name=f"task_{index}").model_dump() for index in range(tasks)],
        }
    )


def _row(count: int, limit_gb: float, make_gb: float, step_gb: float) -> dict[str, Any]:
    config = config_of(count)
    said = footprint(config)
    found: dict[str, Any] = {
        "tasks": count,
        "parameters": said.parameters,
        "weight_bytes": said.weight_bytes,
        "training_bytes": said.training_bytes,
        "tensor_bytes": None,
        "step_mb": None,
        "refused": None,
        "shared_parameters": sum(
            one.numel() for one in unfilled(config_of(count, "routed")).parameters()
        ),
    }
    if said.weight_bytes <= make_gb * 1e9:
        state = unfilled(config).state_dict().values()
        found["tensor_bytes"] = sum(one.numel() * one.element_size() for one in state)
        assert found["tensor_bytes"] == said.weight_bytes, found
    if said.training_bytes <= step_gb * 1e9:
        command = [sys.executable, "-m", __spec__.name, "--step-of", str(count)]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        found["step_mb"] = float(ran.stdout)
    try:
        check_fits(config, limit_gb * 1e9, "the limit")
    except ConfigError as error:
        found["refused"] = error.message
    return found


def _step_mb(count: int) -> float:
    """Megabytes that a network and one step with AdamW add to the process."""
    torch.set_num_threads(1)
    before = _peak_mb()
    network = build(config_of(count)).train()
    optimiser = torch.optim.AdamW(network.parameters())
    images = torch.zeros(_BATCH, 64, 64, 3, dtype=torch.uint8)
    labels = torch.zeros(_BATCH, count, dtype=torch.int64)
    masked_loss(network.forward_tasks(images, range(count)), labels).backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return round(_peak_mb() - before, 1)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 * 1.048576


def _write(out: Path, rows: list[dict[str, Any]], limit_gb: float) -> None:
    report = Report(out, "Memory of cross-stitch networks against the number of tasks")
    report.text(
        "VGG-11 with batch norm at full width, 64 px, binary tasks, float32. `weights` is what a "
        "bundle stores and a service holds; `training` adds gradients and AdamW's two moments; "
        "both by the formula of `model.baselines.memory`, which the tests hold against real "
        "networks. `tensors` are those of a network that was really made, `step` is what it and "
        f"one step on {_BATCH} images added to a process, activations included."
    )
    report.table(
        ["tasks", "parameters, M", "weights, GB", "tensors, GB", "training, GB", "step, GB",
         "hard sharing, M", f"within {limit_gb:g} GB"],
        [
            [
                str(row["tasks"]),
                row["parameters"] / 1e6,
                row["weight_bytes"] / 1e9,
                _scaled(row["tensor_bytes"], 1e9),
                row["training_bytes"] / 1e9,
                _scaled(row["step_mb"], 1e3),
                row["shared_parameters"] / 1e6,
                "refused" if row["refused"] else "yes",
            ]
            for row in rows
        ],
    )  # fmt: skip
    for row in rows:
        if row["refused"]:
            report.text(f"{row['tasks']} tasks are refused: {row['refused']}")
    report.lines(
        "memory",
        "Memory to train cross-stitch networks",
        ("tasks", "GB"),
        {
            "weights, gradients, two moments": (
                [row["tasks"] for row in rows],
                [row["training_bytes"] / 1e9 for row in rows],
            ),
            f"limit, {limit_gb:g} GB": (
                [rows[0]["tasks"], rows[-1]["tasks"]],
                [limit_gb, limit_gb],
            ),
        },
        log=True,
    )
    report.write({"limit_gb": limit_gb, "rows": rows})


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


if __name__ == "__main__":
    typer.run(main)
