from __future__ import annotations

import pytest
import torch

from model.extraction import cut_out
from model.plan import masked_cost
from model.rows import RowBatch
from model.strategies import STRATEGIES, make_forward, sample_batch
from tests.model.networks import TASKS, make_network


@pytest.mark.parametrize("norm", ["batch", "batch_per_task"])
@pytest.mark.parametrize("embedding", [0, 4])
@pytest.mark.parametrize("routed_layers", ["all", "last:2", (1, 4), "none"])
@pytest.mark.parametrize("tasks", [[1], [4, 0, 1]])
def test_cut_out_tasks_answer_as_in_the_network(
    norm: str, embedding: int, routed_layers: str | tuple[int, ...], tasks: list[int]
) -> None:
    network = make_network(
        backbone={"norm": norm},
        head={"embedding": embedding},
        routing={"routed_layers": routed_layers},
    )
    small = cut_out(network, tasks)
    assert small.tasks.names == tuple(TASKS[task].name for task in tasks)
    images = sample_batch(network, 3).images
    batch = RowBatch.all_pairs(images, range(len(tasks)))
    for strategy in STRATEGIES:
        found = make_forward(small, strategy)(batch)
        for index, task in enumerate(tasks):
            expected = network(images, task)
            rows = found[batch.task_index == index, : expected.shape[1]]
            assert torch.allclose(rows, expected, atol=1e-5), strategy


@pytest.mark.parametrize("arch", ["vgg11", "vgg11_bn"])
@pytest.mark.parametrize("modulation", ["scale", "scale_shift"])
@pytest.mark.parametrize("tasks", [[1], [4, 0, 1]])
def test_a_modulation_is_cut_out_too_and_folded_where_there_is_one_task(
    arch: str, modulation: str, tasks: list[int]
) -> None:
    network = make_network(backbone={"arch": arch}, routing={"modulation": modulation})
    small = cut_out(network, tasks)
    modulated = any("modulation" in name for name in small.state_dict())
    assert modulated == (len(tasks) > 1)
    images = sample_batch(network, 3).images
    for index, task in enumerate(tasks):
        assert torch.allclose(small(images, index), network(images, task), atol=1e-5)


def test_one_task_is_a_plain_network_of_keep_squared() -> None:
    network = make_network(backbone={"width": 0.5}, routing={"keep": 0.5, "unit_multiple": 8})
    small = cut_out(network, [0])
    assert small.routes == [None] * 8
    inner = sum(layer.conv.weight.numel() for layer in list(small.layers)[1:])
    whole = sum(layer.conv.weight.numel() for layer in list(network.layers)[1:])
    assert inner / whole == pytest.approx(0.25, abs=0.01)
    assert masked_cost(small).macs < 0.3 * masked_cost(network).macs


def test_several_tasks_keep_the_units_that_any_of_them_uses() -> None:
    network = make_network()
    small = cut_out(network, [0, 3])
    for layer, mask, found in zip(small.layers, network.routes, small.routes, strict=True):
        assert mask is not None
        assert found is not None
        assert layer.shape.units == int(mask[[0, 3]].any(dim=0).sum())
        assert torch.equal(found.sum(dim=1), mask[[0, 3]].sum(dim=1))
