"""Warm starts: what is copied, what is left and why, and what is refused."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network import RoutedNetwork
from model.repository import Repository
from model.task_network import TaskNetwork
from model.tasks import Task
from tests.training.conftest import TASKS, tiny, tiny_images, tiny_network
from tests.training.towers import ALONE, STITCHED, tiny_towers
from training.errors import SettingsError
from training.warm_start import read_warm_start


def publish(root: Path, network: TaskNetwork) -> str:
    Repository(root).publish("m", network.eval(), {"tasks": {}, "macro": {}}, "card")
    return str(root / "m")


def source(root: Path, **changes: Any) -> tuple[str, RoutedNetwork]:
    """A published network whose statistics and biases differ from a new one's."""
    network = tiny_network(tiny(**changes))
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point() and "conv" not in name and "weight" not in name:
                value.copy_(torch.rand_like(value))
    return publish(root, network), network


def test_a_bundle_of_the_same_network_is_copied_whole(tmp_path: Path) -> None:
    location, there = source(tmp_path)
    here = tiny_network(tiny(seed=5))
    text = read_warm_start(location).apply(here)
    assert text == f"warm start from {location}: 8 of 8 convolutions and 3 of 3 heads copied"
    expected = there.state_dict()
    for name, value in here.state_dict().items():
        if "running" not in name and not name.endswith("batches_seen"):
            assert torch.equal(value, expected[name]), name
    images = torch.from_numpy(tiny_images(4).pixels)
    with torch.no_grad():
        found = here.eval().forward_tasks(images, range(3))
        wanted = there.eval().forward_tasks(images, range(3))
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_a_version_can_be_named(tmp_path: Path) -> None:
    location, first = source(tmp_path)
    publish(tmp_path, tiny_network(tiny(seed=9)))
    here = tiny_network(tiny(seed=5))
    read_warm_start(f"{location}/1").apply(here)
    assert torch.equal(here.layers[0].conv.weight, first.layers[0].conv.weight)


def test_heads_and_statistics_follow_their_tasks_by_name(tmp_path: Path) -> None:
    location, there = source(tmp_path)
    tasks = (TASKS[2], Task(name="new"), Task(name="bright", classes=("a", "b")), TASKS[1])
    here = tiny_network(tiny(seed=5), tasks)
    fresh = tiny_network(tiny(seed=5), tasks)
    assert "2 of 4 heads" in read_warm_start(location).apply(here)
    images = torch.randn(2, 8 * 8)
    heads = here.heads, there.heads, fresh.heads
    mine, theirs, untouched = (one.requires_grad_(False) for one in heads)
    for position, other in ((0, 2), (3, 1)):
        assert torch.equal(mine(images, position), theirs(images, other))
    for position in (1, 2):
        assert torch.equal(mine(images, position), untouched(images, position))
    norm, old = here.layers[4].norm, there.layers[4].norm
    assert norm is not None
    assert old is not None
    mask = there.routes[4]
    assert mask is not None
    # "bright" has other classes, but it is the same question about the same units.
    for position, other in ((0, 2), (2, 0), (3, 1)):
        used = mask[other]
        assert torch.equal(norm.running_mean[position, used], old.running_mean[other, used])
    # The new task, and units that a task did not use, begin with what the others had.
    for unit in range(len(mask[0])):
        means, variances = (one[mask[:, unit], unit] for one in (old.running_mean, old.running_var))
        if len(means):
            torch.testing.assert_close(norm.running_mean[1, unit], means.mean())
            spread = variances.mean() + means.var(correction=0)
            torch.testing.assert_close(norm.running_var[1, unit], spread)
        else:
            assert norm.running_mean[1, unit] == 0
            assert norm.running_var[1, unit] == 1


def test_modulation_follows_its_tasks_by_name(tmp_path: Path) -> None:
    location, there = source(tmp_path, modulation="scale_shift")
    tasks = (TASKS[2], Task(name="new"))
    here = tiny_network(tiny(modulation="scale_shift"), tasks)
    read_warm_start(location).apply(here)
    mine, old = here.layers[3].modulation, there.layers[3].modulation
    assert mine is not None
    assert old is not None
    for table, other, start in zip(mine.parameters(), old.parameters(), (1.0, 0.0), strict=True):
        assert torch.equal(table[0], other[2])
        assert (table[1] == start).all()


def test_statistics_of_tasks_become_one_row_where_there_is_one(tmp_path: Path) -> None:
    location, there = source(tmp_path, norm="batch_per_task")
    here = tiny_network(tiny(norm="batch", routed_layers="none"))
    read_warm_start(location).apply(here)
    norm, old, mask = here.layers[-1].norm, there.layers[-1].norm, there.routes[-1]
    assert norm is not None
    assert old is not None
    assert mask is not None
    all_tasks = mask.all(dim=0)
    assert all_tasks.any()
    torch.testing.assert_close(
        norm.running_mean[0, all_tasks], old.running_mean[:, all_tasks].mean(dim=0)
    )


def test_shared_statistics_become_those_of_every_task(tmp_path: Path) -> None:
    location, there = source(tmp_path, norm="batch")
    here = tiny_network(tiny(norm="batch_per_task"))
    read_warm_start(location).apply(here)
    norm, old = here.layers[-1].norm, there.layers[-1].norm
    assert norm is not None
    assert old is not None
    assert torch.equal(norm.running_var, old.running_var.expand(3, -1))


@pytest.mark.parametrize("changes", [{"embedding": 0}, {"embedding": 8}])
def test_heads_of_another_shape_are_left(tmp_path: Path, changes: dict[str, Any]) -> None:
    location, _ = source(tmp_path)
    here = tiny_network(tiny(**changes))
    before = here.heads.weight.clone()
    assert "8 of 8 convolutions and 0 of 3 heads" in read_warm_start(location).apply(here)
    assert torch.equal(here.heads.weight, before)


def test_layers_that_do_not_fit_are_named_with_both_shapes(tmp_path: Path) -> None:
    location, _ = source(tmp_path)
    text = read_warm_start(location).apply(tiny_network(tiny(arch="vgg13_bn")))
    assert "not copied: layer 1 ([16, 8, 3, 3] there, [8, 8, 3, 3] here)" in text
    assert "layer 9 (the source has 8)" in text


def test_nothing_that_fits_is_an_error(tmp_path: Path) -> None:
    location, _ = source(tmp_path)
    with pytest.raises(SettingsError, match=r"nothing in it fits .* the same arch and width"):
        read_warm_start(location).apply(tiny_network(tiny(width=0.25)))


def vgg(batch_norm: bool) -> nn.Sequential:
    """The trunk of tiny_network() in torchvision's layout."""
    layers: list[nn.Module] = []
    before = 3
    for units in (8, 16, 32, 32, 64, 64, 64, 64):
        layers.append(nn.Conv2d(before, units, 3, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(units))
        layers.append(nn.ReLU())
        before = units
    return nn.Sequential(*layers)


def saved(path: Path, network: nn.Sequential) -> str:
    state: dict[str, Tensor] = {f"features.{k}": v for k, v in network.state_dict().items()}
    state["classifier.0.weight"] = torch.zeros(4, 4)
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    return str(path)


@pytest.mark.parametrize("name", ["vgg.pth", "vgg.safetensors"])
def test_torchvision_weights_give_the_same_activations(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    there = vgg(batch_norm=True)
    there.train()(torch.randn(4, 3, 32, 32) * 3 + 1)  # statistics that are not 0 and 1
    there.eval()
    here = tiny_network(tiny(norm="batch", routed_layers="none")).eval()
    text = read_warm_start(saved(tmp_path / name, there)).apply(here)
    assert "8 of 8 convolutions and 0 of 3 heads copied" in text
    x8 = torch.randn(2, 8, 16, 16)  # behind the first layer
    with torch.no_grad():
        expected = there[6:9](F.max_pool2d(there[3:6](x8), 2))
        torch.testing.assert_close(here.layers[2](here.layers[1](x8, 0), 0), expected)


def test_weights_without_batch_norm_go_into_a_network_with_it_but_not_back(tmp_path: Path) -> None:
    plain, normed = vgg(batch_norm=False), vgg(batch_norm=True)
    here = tiny_network(tiny())
    read_warm_start(saved(tmp_path / "plain.pth", plain)).apply(here)
    assert torch.equal(here.layers[1].conv.weight, plain.get_parameter("2.weight"))
    bare = tiny_network(tiny(arch="vgg11"))
    read_warm_start(saved(tmp_path / "plain.pth", plain)).apply(bare)
    assert bare.layers[1].conv.bias is not None
    assert torch.equal(bare.layers[1].conv.bias, plain.get_parameter("2.bias"))
    with pytest.raises(SettingsError, match="its weights need the batch norm behind them"):
        read_warm_start(saved(tmp_path / "normed.pth", normed)).apply(bare)


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_torchvisions_resnets_give_the_same_features(tmp_path: Path, arch: str) -> None:
    there = importlib.import_module("torchvision.models").get_model(arch)
    with torch.no_grad():
        there.train()(torch.randn(4, 3, 32, 32) * 2 + 1)
    there.eval()
    torch.save(there.state_dict(), tmp_path / "weights.pth")
    here = tiny_network(tiny(arch=arch, width=1.0, norm="batch", routed_layers="none")).eval()
    text = read_warm_start(str(tmp_path / "weights.pth")).apply(here)
    count = len(here.layers)
    assert f"{count} of {count} convolutions and 0 of 3 heads copied" in text
    x = torch.randn(2, 3, 32, 32)
    there.fc = nn.Identity()
    with torch.no_grad():
        found, _ = here.run_to_end(x, range(count), 0)
        torch.testing.assert_close(found.mean(dim=(2, 3)), there(x), rtol=1e-4, atol=1e-5)


def test_a_small_stem_is_left_and_said(tmp_path: Path) -> None:
    location, _ = source(tmp_path, arch="resnet18")
    here = tiny_network(tiny(arch="resnet18", stem="small", seed=5))
    assert "16 of 17 convolutions and 3 of 3 heads copied; not copied: layer 0" in (
        read_warm_start(location).apply(here)
    )


@pytest.mark.parametrize("adapters", ["series", "parallel"])
def test_adapters_begin_around_what_was_trained_without_them(tmp_path: Path, adapters: str) -> None:
    """For tasks that were there and for one that was not: the paper's system after pretraining."""
    location, there = source(tmp_path, arch="resnet18", norm="batch", routed_layers="none")
    own = {"norm": "batch_per_domain", "adapters": adapters}
    here = tiny_network(tiny(arch="resnet18", routed_layers="none", seed=5, **own))
    read_warm_start(location).apply(here)
    images = torch.from_numpy(tiny_images(4).pixels)
    with torch.no_grad():
        for task in range(3):
            torch.testing.assert_close(here.eval()(images, task), there.eval()(images, task))
            (found,) = here.forward_tasks(images, [task])
            torch.testing.assert_close(found, there(images, task))
    for layer in here.layers:
        if layer.adapter is not None:
            torch.nn.init.normal_(layer.adapter.weight)
    again = tiny_network(tiny(arch="resnet18", routed_layers="none", seed=6, **own))
    location = publish(tmp_path / "second", here)
    read_warm_start(location).apply(again)
    with torch.no_grad():
        assert torch.equal(again.eval()(images, 1), here.eval()(images, 1))


class Anything:
    pass


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"features.0.weight": Anything()}, tmp_path / "pickle.pth")
    (tmp_path / "broken.safetensors").write_bytes(b"\0" * 20)
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    torch.save({"features.0.0.weight": torch.zeros(2, 3, 3, 3)}, tmp_path / "mobilenet.pth")
    torch.save({"layer1.0.conv1.weight": torch.zeros(2, 2, 3, 3)}, tmp_path / "headless.pth")
    for name, message in (
        ("pickle.pth", "cannot be read as tensors"),
        ("broken.safetensors", "cannot be read as tensors"),
        ("other.pth", "no convolutions of a torchvision VGG"),
        ("mobilenet.pth", "no convolutions of a torchvision VGG"),
        ("headless.pth", "a ResNet, but without 'bn1.weight'"),
        ("absent.pth", "no bundle .* and no weights file"),
    ):
        with pytest.raises(SettingsError, match=message):
            read_warm_start(str(tmp_path / name))


def test_towers_begin_as_the_single_task_networks_of_their_tasks(tmp_path: Path) -> None:
    there = tiny_towers(tiny(**ALONE))
    location = publish(tmp_path, there)
    here = tiny_towers(tiny(**STITCHED, seed=5), (TASKS[2], Task(name="new"), TASKS[0]))
    text = read_warm_start(location).apply(here)
    assert "16 of 24 convolutions and 2 of 3 heads copied" in text
    images = torch.from_numpy(tiny_images(4).pixels)
    here.eval()
    for position, other in ((0, 2), (2, 0)):
        assert torch.equal(here(images, position), there(images, other))


def test_all_towers_may_begin_as_one_shared_trunk(tmp_path: Path) -> None:
    location, there = source(tmp_path, routed_layers="none", keep=1.0)
    here = tiny_towers(tiny(**ALONE, seed=5))
    assert "24 of 24 convolutions and 3 of 3 heads" in read_warm_start(location).apply(here)
    images = torch.from_numpy(tiny_images(4).pixels)
    for task in range(3):
        assert torch.equal(here.eval()(images, task), there(images, task))


def test_a_trunk_per_task_is_no_start_for_one_trunk(tmp_path: Path) -> None:
    location = publish(tmp_path, tiny_towers(tiny(**ALONE)))
    with pytest.raises(SettingsError, match="begin with a bundle of family 'routed'"):
        read_warm_start(location).apply(tiny_network(tiny()))
