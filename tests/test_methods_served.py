"""Every method that is compared: trained for a few steps on built-in images, published, served."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from model.repository import Repository
from model.rows import RowBatch
from service.core.holder import ModelHolder
from service.core.loader import RepositorySources
from service.core.run_options import RunOptions
from training.decoding import Decoder
from training.methods import METHODS
from training.pixel_cache import PixelCache
from training.run import TrainRequest, train

TASKS = ("bag", "worn_on", "sneaker")
FEW_STEPS = {
    "width": 0.125, "unit_multiple": 2, "image_size": 28, "batch_size": 64, "epochs": 0.05,
    "saliency_images": 32, "recalibration_batches": 1, "tasks": TASKS, "bootstrap_resamples": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    """The same images for all of them."""
    return Decoder(PixelCache(tmp_path_factory.mktemp("pixels")), in_memory_bytes=0)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_is_published_and_served(
    name: str, decoder: Decoder, tmp_path: Path
) -> None:
    settings = METHODS[name].settings(FEW_STEPS)
    train(
        TrainRequest("builtin:fashion", tmp_path, name, settings, decoder=decoder),
        Console(file=io.StringIO()),
    )
    bundle = Repository(tmp_path).read(name)
    assert bundle.config.family == settings.family
    assert bundle.metrics["training"]["steps"] > 1
    card = (bundle.path / "README.md").read_text(encoding="utf-8")
    assert ("one routed network" in card) == ("- Routes: " in card) == (settings.family == "routed")
    source = RepositorySources(tmp_path, RunOptions()).of(name)
    holder = ModelHolder(name)
    holder.serve(source.load(source.published()))
    served = holder.current()
    assert served.precision_error < 1e-5
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 28, 28, 3), dtype=torch.uint8, generator=generator)
    logits = served.forward(RowBatch.all_pairs(images, range(len(TASKS))))
    network = bundle.any_network()
    with torch.inference_mode():
        for task, described in enumerate(served.tasks):
            found = logits[task :: len(TASKS), : described.outputs]
            assert torch.allclose(found, network(images, task), atol=1e-4)
