from __future__ import annotations

import pytest
import torch

from model.strategies import make_forward, sample_batch
from model.subnet_module import SubnetModule
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
    convolutions = [m for m in SubnetModule(network, 0).trunk if isinstance(m, torch.nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [4] * 8
    assert [c.in_channels for c in convolutions] == [3] + [4] * 7
