from __future__ import annotations

import pytest
import torch

from model.strategies import make_forward, sample_batch
from model.subnet_module import SubnetModule, SubnetsModule
from tests.model.networks import make_network


@pytest.mark.parametrize("norm", ["batch", "batch_per_task"])
@pytest.mark.parametrize("embedding", [0, 4])
def test_it_answers_as_the_network_does_for_the_task(norm: str, embedding: int) -> None:
    network = make_network(backbone={"norm": norm}, head={"embedding": embedding})
    batch = sample_batch(network, images=3, tasks=len(network.tasks))
    reference = make_forward(network, "masked")(batch)
    for task in range(len(network.tasks)):
        with torch.inference_mode():
            found = SubnetModule(network, task)(batch.images)
        rows = reference[batch.task_index == task, : network.tasks[task].outputs]
        assert torch.allclose(found, rows, atol=1e-5)


def test_it_holds_the_tasks_own_weights_only() -> None:
    network = make_network(routing={"keep": 0.5})
    modules = SubnetModule(network, 0).trunk.modules()
    convolutions = [m for m in modules if isinstance(m, torch.nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [4] * 8
    assert [c.in_channels for c in convolutions] == [3] + [4] * 7


@pytest.mark.parametrize("routed_layers", ["all", "last:3", "none"])
@pytest.mark.parametrize("tasks", [[3], [4, 0, 1]])
def test_several_tasks_answer_as_the_network_does(routed_layers: str, tasks: list[int]) -> None:
    network = make_network(routing={"routed_layers": routed_layers})
    images = sample_batch(network, images=3).images
    with torch.inference_mode():
        found = SubnetsModule(network, tasks)(images)
        for task, logits in zip(tasks, found, strict=True):
            assert torch.allclose(logits, network(images, task), atol=1e-5)


def test_what_several_tasks_share_is_there_once() -> None:
    network = make_network(routing={"routed_layers": "last:2"})
    modules = SubnetsModule(network, [0, 1, 2]).modules()
    convolutions = [m for m in modules if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 7 + 3
