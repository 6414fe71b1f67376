"""Saliency is what its formula says, with and without routes, and finds a planted unit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.config import RoutingConfig
from model.network import RoutedNetwork, build
from model.tasks import Task
from tests.training.conftest import TASKS, tiny, tiny_images, tiny_network
from training.decoding import ImageSet
from training.saliency import evidence, unit_scores
from training.sources import MISSING

IMAGES = tiny_images(10)


def dense(**changes: object) -> RoutedNetwork:
    return warmed(tiny_network(tiny(routed_layers="none", **changes)))


def warmed(network: RoutedNetwork) -> RoutedNetwork:
    """With statistics that fit its weights, so that activations live in every layer."""
    network.train()
    with torch.no_grad():
        for _ in range(20):
            network.forward_tasks(torch.from_numpy(IMAGES.pixels), range(len(network.tasks)))
    return network.eval()


def scores(
    network: RoutedNetwork, layers: list[int], images: ImageSet = IMAGES
) -> dict[int, Tensor]:
    return unit_scores(network, images, layers, count=100, batch_size=4, seed=0)


def by_hand(network: RoutedNetwork, layers: list[int]) -> dict[int, Tensor]:
    """The formula with every unit computed, one image and one task at a time, before the pools."""
    found = {layer: torch.zeros(len(TASKS), network.layers[layer].shape.units) for layer in layers}
    for image, labels in zip(IMAGES.pixels, IMAGES.labels, strict=True):
        for task in range(len(TASKS)):
            activations: list[Tensor] = []
            x = network.normalise(torch.from_numpy(image[None]))
            for layer in network.layers:
                x = layer.conv(x)
                x = x if layer.norm is None else layer.norm(x, task)
                x = x if layer.route is None else layer.route(x, task)
                x = F.relu(x)
                activations.append(x)
                x = F.max_pool2d(x, 2) if layer.shape.pool else x
            logits = network.heads(x.mean(dim=(2, 3)), task)
            target = evidence(logits, torch.tensor([int(labels[task])]))
            gradients = torch.autograd.grad(target[0], [activations[index] for index in layers])
            for index, gradient in zip(layers, gradients, strict=True):
                found[index][task] += (activations[index] * gradient).sum(dim=(0, 2, 3)).abs()
    return found


@pytest.mark.parametrize("arch", ["vgg11_bn", "vgg11"])
@pytest.mark.parametrize("layers", [[0, 1, 3, 7], [6, 7], [4]])
def test_scores_are_the_formula_without_routes(arch: str, layers: list[int]) -> None:
    network = dense(arch=arch)
    found, expected = scores(network, layers), by_hand(network, layers)
    assert list(found) == layers
    for layer in layers:
        torch.testing.assert_close(found[layer].float(), expected[layer], rtol=1e-3, atol=1e-5)
        assert (expected[layer] > 0).any(dim=1).all()


@pytest.mark.parametrize("norm", ["batch", "batch_per_task"])
def test_scores_are_the_formula_within_routes_and_nothing_off_them(norm: str) -> None:
    network = warmed(tiny_network(tiny(routed_layers="last:3", norm=norm)))
    layers = [5, 6, 7]
    found, expected = scores(network, layers), by_hand(network, layers)
    for layer in layers:
        torch.testing.assert_close(found[layer].float(), expected[layer], rtol=1e-3, atol=1e-5)
        mask = network.routes[layer]
        assert mask is not None
        assert (found[layer][~mask] == 0).all()


def residual_by_hand(network: RoutedNetwork, layers: list[int]) -> dict[int, Tensor]:
    """The formula for a residual network, every unit computed, one image and task at a time."""
    found = {layer: torch.zeros(len(TASKS), network.layers[layer].shape.units) for layer in layers}
    for image, labels in zip(IMAGES.pixels, IMAGES.labels, strict=True):
        for task in range(len(TASKS)):
            x = block_input = network.normalise(torch.from_numpy(image[None])).requires_grad_()
            activations: list[Tensor] = []
            for layer in network.layers:
                block_input = x if layer.shape.begins_block else block_input
                x = layer(x, task, block_input)
                activations.append(x)
            logits = network.heads(x.mean(dim=(2, 3)), task)
            target = evidence(logits, torch.tensor([int(labels[task])]))
            gradients = torch.autograd.grad(target[0], [activations[index] for index in layers])
            for index, gradient in zip(layers, gradients, strict=True):
                found[index][task] += (activations[index] * gradient).sum(dim=(0, 2, 3)).abs()
    return found


@pytest.mark.parametrize("routed_layers", ["none", "last:3"])
@pytest.mark.parametrize("norm", ["batch_per_task", "batch_per_domain"])
def test_scores_of_a_residual_network_begin_within_a_block(routed_layers: str, norm: str) -> None:
    settings = tiny(arch="resnet18", routed_layers=routed_layers, norm=norm, modulation="scale")
    network = warmed(tiny_network(settings))
    layers = [14, 15, 16]
    found, expected = scores(network, layers), residual_by_hand(network, layers)
    for layer in layers:
        torch.testing.assert_close(found[layer].float(), expected[layer], rtol=1e-3, atol=1e-5)
        assert (expected[layer] > 0).any()


def test_behind_a_linear_head_it_is_what_switching_the_unit_off_changes() -> None:
    network = dense(embedding=0)
    with torch.no_grad():
        x = network.normalise(torch.from_numpy(IMAGES.pixels))
        for layer in network.layers:
            x = layer(x, 0)
        moved = (x.mean(dim=(2, 3)) * network.heads.weight[0]).abs().sum(dim=0)
    torch.testing.assert_close(scores(network, [7])[7][0].float(), moved, rtol=1e-4, atol=1e-6)


def test_a_planted_unit_is_found_in_every_layer() -> None:
    """Task "left" listens to unit 5 of the last layer only, which listens to unit 3 only."""
    network = dense(embedding=0)
    heads, last = network.heads, network.layers[7]
    with torch.no_grad():
        row = heads.starts[2]
        heads.weight[row] = 0.0
        heads.weight[row, 5] = 1.0
        last.conv.weight[5] = 0.0
        last.conv.weight[5, 3] = 0.5
        assert last.norm is not None
        last.norm.bias[5] = 4.0  # alive for every image
    found = scores(network, [6, 7])
    for layer, planted in ((7, 5), (6, 3)):
        assert found[layer][2].nonzero().flatten().tolist() == [planted]
        assert found[layer][0].count_nonzero() > 1


def test_the_network_is_left_as_it_was() -> None:
    network = dense().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    scores(network, [6, 7])
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_seed_draws_the_images_and_progress_is_told() -> None:
    network, told = dense(), []

    def some(count: int, seed: int) -> Tensor:
        return unit_scores(network, IMAGES, [7], count, 4, seed, lambda *done: told.append(done))[7]

    assert torch.equal(some(6, 1), some(6, 1))
    assert told == [(4, 6), (6, 6)] * 2
    assert not torch.equal(some(6, 1), some(6, 2))
    assert torch.equal(some(10, 1), some(99, 1))


def test_missing_labels_of_a_multi_class_task_count_as_what_the_network_says() -> None:
    network = dense()
    with torch.no_grad():
        logits = network.forward_tasks(torch.from_numpy(IMAGES.pixels), [1])[0]
    said = IMAGES.labels.copy()
    said[:, 1] = logits.argmax(dim=1).numpy()
    unknown = IMAGES.labels.copy()
    unknown[:] = MISSING
    one = scores(network, [7], ImageSet(IMAGES.pixels, said))[7]
    other = scores(network, [7], ImageSet(IMAGES.pixels, unknown))[7]
    assert torch.equal(one[1], other[1])
    assert torch.equal(one[0], other[0])  # a binary task needs no label


def test_evidence_is_log_odds() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0], [0.0, 3.0, 1.0]])
    labels = torch.tensor([0, 2, MISSING])
    p = logits.softmax(dim=1)
    expected = torch.stack([p[0, 0], p[1, 2], p[2, 1]]).logit()
    torch.testing.assert_close(evidence(logits, labels), expected)
    torch.testing.assert_close(evidence(logits + 7.0, labels), expected)
    binary = torch.tensor([[0.3], [-2.0]])
    assert torch.equal(evidence(binary, labels[:2]), binary[:, 0])


def test_one_task_alone() -> None:
    network = build(
        tiny(routed_layers="last:1").network((Task(name="only"),), tiny().preprocess())
    ).eval()
    images = ImageSet(IMAGES.pixels, IMAGES.labels[:, :1])
    assert scores(network, [7], images)[7].shape == (1, network.layers[7].shape.units)
    network.set_routes(RoutingConfig(routed_layers="none"), [None] * 8)
    assert np.isfinite(scores(network, [7], images)[7].numpy()).all()
