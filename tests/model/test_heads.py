from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.heads import TaskHeads
from model.tasks import TaskSet
from tests.model.networks import TASKS

FEATURES = 10


def make(embedding: int) -> TaskHeads:
    torch.manual_seed(0)
    heads = TaskHeads(TaskSet(TASKS), FEATURES, embedding)
    heads.reset_parameters([FEATURES] * len(TASKS))
    with torch.no_grad():
        heads.bias.normal_()
        if heads.embed_bias is not None:
            heads.embed_bias.normal_()
    return heads


@pytest.mark.parametrize("embedding", [0, 1, 7])
def test_parameters_are_stacked_by_task(embedding: int) -> None:
    heads = make(embedding)
    outputs = sum(task.outputs for task in TASKS)
    assert outputs == 10  # 1 + 4 + 1 + 1 + 3
    expected = {"weight": (outputs, embedding or FEATURES), "bias": (outputs,)}
    if embedding:
        expected["embed_weight"] = (len(TASKS), embedding, FEATURES)
        expected["embed_bias"] = (len(TASKS), embedding)
    assert {name: tuple(p.shape) for name, p in heads.named_parameters()} == expected
    assert set(heads.state_dict()) == set(expected)  # what follows from the tasks is not stored


@pytest.mark.parametrize("embedding", [0, 7])
@pytest.mark.parametrize("task", range(len(TASKS)))
def test_a_head_is_its_own_small_network(embedding: int, task: int) -> None:
    heads = make(embedding)
    x = torch.randn(3, FEATURES)
    rows = slice(heads.starts[task], heads.starts[task] + TASKS[task].outputs)
    hidden = x
    if heads.embed_weight is not None and heads.embed_bias is not None:
        hidden = F.relu(x @ heads.embed_weight[task].T + heads.embed_bias[task])
    expected = hidden @ heads.weight[rows].T + heads.bias[rows]
    assert torch.allclose(heads(x, task), expected, atol=1e-6)
    assert heads(x, task).shape == (3, TASKS[task].outputs)


@pytest.mark.parametrize("embedding", [0, 7])
def test_rows_of_many_tasks_equal_each_alone_and_are_padded(embedding: int) -> None:
    heads = make(embedding)
    tasks = torch.tensor([4, 0, 1, 1, 3, 2, 4])
    x = torch.randn(len(tasks), FEATURES)
    logits = heads(x, tasks)
    assert logits.shape == (7, 4)
    for row, task in enumerate(tasks.tolist()):
        outputs = TASKS[task].outputs
        assert torch.allclose(logits[row, :outputs], heads(x[row : row + 1], task)[0], atol=1e-6)
        assert bool((logits[row, outputs:] == -math.inf).all())


@pytest.mark.parametrize("embedding", [0, 7])
def test_used_features_equal_zeros_elsewhere(embedding: int) -> None:
    heads = make(embedding)
    used = torch.tensor([1, 4, 9])
    full = torch.zeros(3, FEATURES)
    full[:, used] = torch.randn(3, 3)
    for task in range(len(TASKS)):
        cut = heads.forward_features(full[:, used], task, used)
        assert torch.allclose(cut, heads(full, task), atol=1e-6)


@pytest.mark.parametrize("embedding", [0, 7])
@pytest.mark.parametrize("ids", [2, torch.tensor([2, 2])])
def test_a_task_trains_its_own_head_only(embedding: int, ids: int | Tensor) -> None:
    heads = make(embedding)
    heads(torch.randn(2, FEATURES), ids)[:, 0].pow(2).sum().backward()
    own = heads.starts[2]
    for values, rows in ((heads.weight, own), (heads.bias, own), (heads.embed_weight, 2)):
        if values is None:
            continue
        assert values.grad is not None
        touched = values.grad.flatten(1).any(dim=1) if values.ndim > 1 else values.grad != 0
        assert touched.nonzero().flatten().tolist() == [rows]


def test_a_padded_row_gives_finite_gradients() -> None:
    heads = make(4)
    logits = heads(torch.randn(2, FEATURES), torch.tensor([0, 1]))
    torch.autograd.backward(F.cross_entropy(logits, torch.tensor([0, 3])))
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in heads.parameters())


@pytest.mark.parametrize("embedding", [0, 64])
def test_initial_logits_do_not_depend_on_how_many_features_a_task_has(embedding: int) -> None:
    torch.manual_seed(0)
    heads = TaskHeads(TaskSet(TASKS), 2000, embedding)
    heads.reset_parameters([20, 2000, 20, 2000, 200])
    for task, count in enumerate([20, 2000, 20, 2000, 200]):
        x = torch.zeros(4000, 2000)
        x[:, :count] = torch.randn(4000, count)
        assert 0.4 < float(heads(x, task).detach().std()) < 2.0


@pytest.mark.parametrize("embedding", [0, 7])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_heads_of_many_tasks_are_as_each_alone(
    embedding: int, shared: bool, training: bool
) -> None:
    """Some read all features, some their own; of one tensor for all, or of one each."""
    heads = make(embedding).double().train(training)
    common = torch.randn(3, FEATURES).double()
    used = [None, None, torch.tensor([1, 4, 9]), torch.tensor([0, 4, 5]), None]
    features: dict[int, tuple[Tensor, Tensor | None]] = {}
    for task, units in enumerate([None] * len(TASKS) if shared else used):
        own = torch.randn(3, FEATURES if units is None else len(units)).double()
        features[task] = (common if shared else own, units)
    found = heads.forward_tasks(features)
    for task, (x, units) in features.items():
        assert found[task].shape == (3, TASKS[task].outputs)
        assert torch.allclose(found[task], heads.forward_features(x, task, units), atol=1e-12)
