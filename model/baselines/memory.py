"""Memory of a trunk per task: it grows with the number of tasks, until it no longer fits.

A formula, tested against real networks, and a refusal before the memory is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model.baselines.towers import tower_shapes
from model.config import ModelConfig
from model.conv_layer import LayerShape
from model.errors import ModelTooLargeError
from model.tasks import Task

_FLOAT, _COUNTER = 4, 8  # bytes of a weight, and of a layer's count of batches
_COPIES_IN_TRAINING = 4
"""Of every parameter: itself, its gradient, and AdamW's two moments."""


@dataclass(frozen=True)
class Footprint:
    """Of a network with a trunk per task; activations come on top."""

    parameters: int
    weight_bytes: int
    """Parameters and batch-norm statistics: what a bundle stores and a service holds."""
    training_bytes: int
    """The same with gradients and AdamW's moments."""


def footprint(config: ModelConfig) -> Footprint:
    """Of the network that ``config`` describes, without making it.

    Raises:
        ConfigError: unknown architecture.
    """
    return _footprint(config, tower_shapes(config), config.tasks)


def check_fits(config: ModelConfig, limit_bytes: float, setting: str) -> None:
    """Refuse a network that cannot be trained within ``limit_bytes``; 0 for no limit.

    Args:
        setting: where the limit comes from, for the message.

    Raises:
        ModelTooLargeError: it takes more; says how many of its tasks would fit.
    """
    shapes, count = tower_shapes(config), len(config.tasks)
    needed = _footprint(config, shapes, config.tasks).training_bytes
    if not limit_bytes or needed <= limit_bytes:
        return
    fitting = count - 1
    while fitting and _too_large(config, shapes, fitting, limit_bytes):
        fitting -= 1
    raise ModelTooLargeError(
        f"family is {config.family!r}: {count} trunks of {config.backbone.arch} (width "
        f"{config.backbone.width:g}) take {_gb(needed)} to train (weights, gradients, two moments; "
        f"activations not counted), {setting} is {_gb(limit_bytes)}: {fitting} of the {count} tasks"
        f" would fit; train fewer tasks, a smaller width, or family 'routed', which has one trunk "
        "for all of them",
        needed_bytes=needed,
        limit_bytes=limit_bytes,
        fitting_tasks=fitting,
    )


def _too_large(
    config: ModelConfig, shapes: Sequence[LayerShape], tasks: int, limit_bytes: float
) -> bool:
    return _footprint(config, shapes, config.tasks[:tasks]).training_bytes > limit_bytes


def _footprint(
    config: ModelConfig, shapes: Sequence[LayerShape], tasks: Sequence[Task]
) -> Footprint:
    outputs, features, embedding = (
        sum(task.outputs for task in tasks), shapes[-1].units, config.head.embedding,
    )  # fmt: skip
    heads = outputs * ((embedding or features) + 1)
    heads += len(tasks) * embedding * (features + 1)
    # Units behind every convolution: a bias, or scale and shift of the batch norm.
    trunk = sum(
        (9 * shape.in_units + (2 if shape.batch_norm else 1)) * shape.units for shape in shapes
    )
    statistics = sum(2 * _FLOAT * shape.units + _COUNTER for shape in shapes if shape.batch_norm)
    stitches = 0
    if config.family == "cross_stitch":
        stitches = sum(shape.pool for shape in shapes) * len(tasks) ** 2
    parameters = len(tasks) * trunk + heads + stitches
    buffers = len(tasks) * statistics
    return Footprint(
        parameters,
        weight_bytes=_FLOAT * parameters + buffers,
        training_bytes=_COPIES_IN_TRAINING * _FLOAT * parameters + buffers,
    )


def _gb(amount: float) -> str:
    return f"{amount / 1e9:.3g} GB"
