from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.backbones import layer_shapes
from model.config import BackboneConfig
from model.repository import Repository
from model.rows import RowBatch
from model.strategies import STRATEGIES, make_forward
from tests.model.networks import make_network, random_images
from tests.training.test_trainer import Quiet, trainer, weights


def test_two_convolutions_each_with_a_pool() -> None:
    shapes = layer_shapes(BackboneConfig(arch="small_cnn_bn"), (28, 28))
    assert [(one.in_units, one.units) for one in shapes] == [(3, 32), (32, 64)]
    assert all(one.pool and one.batch_norm for one in shapes)
    half = layer_shapes(BackboneConfig(arch="small_cnn", width=0.5), (28, 28))
    assert [(one.in_units, one.units) for one in half] == [(3, 16), (16, 32)]
    assert not any(one.batch_norm for one in half)


@pytest.mark.parametrize("arch", ["small_cnn", "small_cnn_bn"])
@pytest.mark.parametrize("modulation", ["none", "scale", "scale_shift"])
def test_published_it_serves_the_masked_answers(tmp_path: Path, arch: str, modulation: str) -> None:
    network = make_network(
        backbone={"arch": arch, "width": 0.5, "norm": "batch_per_task"},
        routing={"modulation": modulation},
    )
    Repository(tmp_path).publish("m", network, {"tasks": {}, "macro": {}}, "card")
    served = Repository(tmp_path).read("m").network()
    batch = RowBatch.all_pairs(random_images(network, 3), range(5))
    expected = make_forward(network, "masked")(batch).softmax(dim=1)
    for strategy in STRATEGIES:
        found = make_forward(served, strategy)(batch).softmax(dim=1)
        assert torch.allclose(found, expected, atol=1e-5), strategy


def test_it_trains(tmp_path: Path) -> None:
    one = trainer(tmp_path, arch="small_cnn_bn", width=0.5, sampler="all")
    before = weights(one)
    one.fit(Quiet())
    assert one.step == 6
    moved = [name for name, value in weights(one).items() if not torch.equal(value, before[name])]
    assert {"layers.0.conv.weight", "layers.1.conv.weight", "heads.weight"} <= set(moved)
