"""Residual adapters: their formulas, their start, and that they fold into the convolution."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.assembly import assemble, own_names, task_parts
from model.config import AdapterKind, BackboneConfig
from model.conv_layer import LayerShape, RoutedConv
from model.errors import ConfigError
from model.extraction import cut_out
from model.network import build
from model.plan import make_plan
from tests.model.networks import TASKS, make_config, make_network, random_images

MASK = torch.tensor([[1, 1, 0, 1, 0, 0], [0, 0, 1, 1, 1, 0]], dtype=torch.bool)
KINDS: tuple[AdapterKind, ...] = ("series", "parallel")


def layer(kind: AdapterKind, mask: Tensor | None = MASK, stride: int = 1) -> RoutedConv:
    """In double precision, nothing left at its start."""
    torch.manual_seed(0)
    shape = LayerShape(4, 6, batch_norm=True, stride=stride, adapter=kind, own_norm=True)
    made = RoutedConv(shape, mask, 2, tasks=2).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn_like(parameter))
        for name, value in made.named_buffers():
            if name.endswith("running_mean"):
                value.normal_()
            elif name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
    return made.eval()


def norm(module: Any, x: Tensor, task: int) -> Tensor:
    return F.batch_norm(
        x, module.running_mean[task], module.running_var[task], module.weight[task],
        module.bias[task], eps=module.eps,
    )  # fmt: skip


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("task", [0, 1])
def test_parallel_adds_a_1x1_convolution_of_the_input(stride: int, task: int) -> None:
    one, x = layer("parallel", stride=stride), torch.randn(2, 4, 7, 6, dtype=torch.float64)
    assert one.adapter is not None
    own = one.adapter.weight[task][:, :, None, None]
    z = F.conv2d(x, one.conv.weight, padding=1, stride=stride) + F.conv2d(x, own, stride=stride)
    expected = F.relu(norm(one.norm, z, task) * MASK[task][:, None, None])
    assert torch.allclose(one(x, task), expected)


@pytest.mark.parametrize("task", [0, 1])
def test_series_adds_a_1x1_convolution_of_the_normed_result_within_the_route(task: int) -> None:
    one, x = layer("series"), torch.randn(2, 4, 7, 6, dtype=torch.float64)
    mask = MASK[task][:, None, None]
    assert one.adapter is not None
    z = F.conv2d(x, one.conv.weight, padding=1)
    own = one.adapter.weight[task][:, :, None, None]
    z = z + F.conv2d(norm(one.adapter.norm, z, task) * mask, own)
    expected = F.relu(norm(one.norm, z, task) * mask)
    assert torch.allclose(one(x, task), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("mask", [MASK, None])
@pytest.mark.parametrize("task", [0, 1])
def test_it_folds_into_the_convolution(
    kind: AdapterKind, stride: int, mask: Tensor | None, task: int
) -> None:
    one, x = layer(kind, mask, stride), torch.randn(2, 4, 7, 6, dtype=torch.float64)
    units = None if mask is None else mask[task].nonzero().flatten()
    weight, bias = one.folded(task, units)
    found = F.relu(F.conv2d(x, weight, bias, padding=1, stride=stride))
    expected = one(x, task) if units is None else one(x, task)[:, units]
    assert torch.allclose(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_several_tasks_get_their_own(kind: AdapterKind) -> None:
    one, x = layer(kind), torch.randn(3, 4, 6, 6, dtype=torch.float64)
    for training in (False, True):
        one.train(training)
        if training:  # each task's rows normalise together
            assert one(x, torch.tensor([1, 0, 1])).shape == (3, 6, 6, 6)
            continue
        together = one(x, torch.tensor([1, 0, 1]))
        for row, task in enumerate((1, 0, 1)):
            assert torch.allclose(together[row], one(x[row : row + 1], task)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_it_begins_as_nothing(kind: AdapterKind) -> None:
    parts = {"arch": "resnet26", "width": 0.25, "norm": "batch_per_domain"}
    plain = build(make_config(backbone=parts)).eval()
    adapted = build(make_config(backbone=parts | {"adapters": kind})).eval()
    images = random_images(plain, 2)
    with torch.no_grad():
        for task in range(len(TASKS)):
            assert torch.equal(plain(images, task), adapted(images, task))


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_share_the_convolutions_and_nothing_that_is_computed(kind: AdapterKind) -> None:
    network = make_network(
        backbone={
            "arch": "resnet26", "width": 0.25, "norm": "batch_per_domain", "adapters": kind,
        },
        routing={"routed_layers": "none"},
    )  # fmt: skip
    assert network.first_own == 0
    assert len(make_plan(network, range(5))) == 5
    own = set(own_names(network))
    shared = {name for name, _ in network.named_parameters()} - own
    assert shared == {name for name in shared if name.endswith("conv.weight")}
    convolutions = sum(name.endswith("conv.weight") for name, _ in network.named_parameters())
    assert len(shared) == convolutions
    again = assemble(network, task_parts(network))
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_out_task_is_a_network_without_adapters(kind: AdapterKind) -> None:
    network = make_network(
        backbone={
            "arch": "resnet26", "width": 0.25, "norm": "batch_per_domain", "adapters": kind,
        },
        routing={"modulation": "scale_shift"},
    )  # fmt: skip
    small, both = cut_out(network, [1]), cut_out(network, [3, 1])
    assert small.config.backbone.adapters == "none"
    assert small.config.backbone.norm == "batch"
    assert both.config.backbone.adapters == kind
    images = random_images(network, 2)
    with torch.no_grad():
        expected = network(images, 1)
        scale = float(expected.abs().max())
        assert torch.allclose(small(images, 0), expected, rtol=0, atol=1e-5 * scale)
        assert torch.allclose(both(images, 1), expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("norm_kind", ["batch", "batch_per_task"])
def test_it_needs_a_batch_norm_of_its_own(norm_kind: str) -> None:
    with pytest.raises(ValueError, match=r"adapters is 'series'.*norm to 'batch_per_domain'"):
        BackboneConfig.model_validate({"arch": "resnet26", "norm": norm_kind, "adapters": "series"})


def test_a_chain_may_have_a_batch_norm_per_domain_too() -> None:
    network = make_network(backbone={"norm": "batch_per_domain"})
    assert {tuple(layer.norm.weight.shape) for layer in network.layers if layer.norm} == {(5, 8)}
    images = random_images(network, 2)
    with torch.no_grad():
        assert torch.allclose(cut_out(network, [2])(images, 0), network(images, 2), atol=1e-5)
    with pytest.raises(ConfigError, match="take vgg11_bn"):
        make_network(backbone={"arch": "vgg11", "norm": "batch_per_domain"})
