"""Subnets for other runtimes: ONNX and torch.export, each checked against the module itself.

onnx, onnxscript and onnxruntime come with the extra ``export``; they are imported where needed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.config import ModelConfig
from model.errors import ConfigError
from model.subnet_module import SubnetsModule
from training.errors import SettingsError

TOLERANCE = 1e-4
"""Of a logit, relative to the largest one where that is above 1."""
INPUT = "pixels"
METADATA = "taskroute"
_IMAGES = 3
_MOST_IMAGES = 4096


def export_onnx(module: SubnetsModule, config: ModelConfig, path: Path) -> float:
    """Write ``module`` as ONNX, with any number of images; one output per task, named by it.

    The metadata entry ``taskroute`` holds preprocessing, classes, thresholds and calibration: the
    outputs are logits.

    Returns:
        The largest difference of a logit in ONNX Runtime.

    Raises:
        SettingsError: the extra ``export`` is not installed.
        ConfigError: ONNX Runtime answers differently.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  (what torch.onnx needs)
    except ImportError as error:
        raise SettingsError(
            f"--onnx needs the package {error.name}: pip install 'taskroute[export]'"
        ) from error
    images = _images(config, _IMAGES)
    program = torch.onnx.export(
        module, (images,), dynamo=True, verbose=False, input_names=[INPUT],
        output_names=[task.name for task in config.tasks],
        dynamic_shapes={INPUT: {0: torch.export.Dim("images", min=1, max=_MOST_IMAGES)}},
    )  # fmt: skip
    if program is None:
        raise ConfigError("torch.onnx.export gave no program")
    about = config.model_dump(mode="json", include={"preprocess", "tasks"})
    program.model.metadata_props[METADATA] = json.dumps(about)
    program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in (1, _IMAGES + 1):
        pixels = _images(config, count)
        found = [
            torch.from_numpy(np.asarray(one)) for one in session.run(None, {INPUT: pixels.numpy()})
        ]
        worst = max(worst, _check("ONNX Runtime", module, pixels, found))
    return worst


def export_program(module: SubnetsModule, config: ModelConfig, path: Path) -> float:
    """Write ``module`` as a torch.export program (``torch.export.load``), as :func:`export_onnx`.

    Raises:
        ConfigError: the stored program answers differently.
    """
    dim = torch.export.Dim("images", min=1, max=_MOST_IMAGES)
    exported = torch.export.export(
        module, (_images(config, _IMAGES),), dynamic_shapes={INPUT: {0: dim}}
    )
    torch.export.save(exported, path)
    loaded = torch.export.load(path).module()
    pixels = _images(config, 1)
    with torch.inference_mode():
        return _check("torch.export", module, pixels, loaded(pixels))


def _check(runtime: str, module: SubnetsModule, pixels: Tensor, found: Sequence[Tensor]) -> float:
    """The largest difference of a logit."""
    with torch.inference_mode():
        expected = module(pixels)
    worst = max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True))
    limit = TOLERANCE * max(1.0, *(float(one.abs().max()) for one in expected))
    if not worst <= limit:
        raise ConfigError(
            f"{runtime} differs from the network by {worst:g} in a logit; at most {limit:g} is "
            "right"
        )
    return worst


def _images(config: ModelConfig, count: int) -> Tensor:
    """Random pixels: uint8 [count, H, W, 3]."""
    shape = (count, config.preprocess.height, config.preprocess.width, 3)
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
