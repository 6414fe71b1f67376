"""``add-task``, ``rename-task``, ``remove-task`` and ``merge`` as typed, and what each may move."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.config import ModelConfig
from model.network import RoutedNetwork
from model.repository import Repository
from model.rows import RowBatch
from model.strategies import STRATEGIES, Strategy, make_forward
from model.tasks import Normalisation, Task
from tests.model.networks import make_network, random_images
from training.cli import main

NAME = "squares"
OLD = (Task(name="bright"), Task(name="size", classes=("s", "m", "l")), Task(name="old"))
FORWARDS: list[tuple[Strategy, bool]] = [*((one, True) for one in STRATEGIES), ("subnet", False)]
"""Strategies, and whether they may use the compiled kernels."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two attributes of noise: nothing here depends on how well they are learnt."""
    draw = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "noise.npz"
    np.savez(
        path,
        images=draw.integers(0, 256, (48, 28, 28, 3), dtype=np.uint8),
        attr=draw.integers(0, 2, (48, 2), dtype=np.uint8),
        attr_names=np.array(["left", "light"]),
        split=np.array(["train"] * 24 + ["val"] * 12 + ["test"] * 12),
    )
    return f"pack:{path}"


def publish(root: Path, **parts: Any) -> Repository:
    repository = Repository(root)
    repository.publish(NAME, make_network(OLD, **parts), {"tasks": {}}, "# squares\n")
    return repository


def run(command: str, root: Path, *flags: str) -> int:
    return main([command, "--repository", str(root), "--name", NAME, *flags])


def add(root: Path, source: str, task: str, *flags: str) -> int:
    fast = ("--epochs", "1", "--modulation-epochs", "1", "--work-dir", str(root / "work"))
    return run("add-task", root, "--data", source, "--task", task, *fast, *flags)


def logits(
    network: RoutedNetwork, tasks: tuple[str, ...], strategy: Strategy, native: bool
) -> torch.Tensor:
    """Of three images for ``tasks``; beside them, every other task is asked too."""
    asked = network.tasks.select(tasks)
    batch = RowBatch.all_pairs(random_images(network, 3, seed=5), range(len(network.tasks)))
    found = make_forward(network, strategy, native=native)(batch).view(3, len(network.tasks), -1)
    return found[:, asked, :3]


def moved(
    before: RoutedNetwork, after: RoutedNetwork, tasks: tuple[str, ...]
) -> dict[tuple[str, bool], bool]:
    """By strategy and kernels: whether any bit of any logit of ``tasks`` differs."""
    return {
        one: not torch.equal(logits(before, tasks, *one), logits(after, tasks, *one))
        for one in FORWARDS
    }


NOTHING = dict.fromkeys(FORWARDS, False)


@pytest.mark.parametrize(
    ("parts", "flags", "own"),
    [
        ({}, ("--route", "like:size"), False),  # a head only
        ({}, ("--route", "random"), True),
        ({"backbone": {"arch": "small_cnn"}}, ("--route", "saliency", "--keep", "0.25"), True),
        ({"backbone": {"arch": "small_cnn_bn", "norm": "batch_per_task"}},
         ("--route", "like:old", "--statistics", "own"), True),
        ({"routing": {"modulation": "scale_shift"}}, ("--route", "random"), True),
    ],
)  # fmt: skip
def test_whatever_a_new_task_has_of_its_own_no_bit_of_an_old_answer_moves(
    source: str, tmp_path: Path, parts: dict[str, Any], flags: tuple[str, ...],
    own: bool,
) -> None:  # fmt: skip
    repository = publish(tmp_path, **{"backbone": {"arch": "small_cnn_bn"}} | parts)
    assert add(tmp_path, source, "left", *flags) == 0
    assert add(tmp_path, source, "light", *flags) == 0
    before, after = (repository.read(NAME, version).network() for version in (1, 3))
    assert after.config.generations == (3, 1, 1)
    assert (after.computed_by[3] == 3) == own
    assert moved(before, after, ("bright", "size", "old")) == NOTHING


@pytest.mark.parametrize("layers", ["all", "last:1"])
def test_a_task_of_another_domain_has_its_own_normalisation(
    source: str, tmp_path: Path, layers: str
) -> None:
    repository = Repository(tmp_path)
    dark = Normalisation(mean=(0.1, 0.1, 0.1), std=(0.1, 0.1, 0.1))
    tasks = [task.model_copy(update={"normalisation": dark}) for task in OLD]
    routing = {"routed_layers": layers}
    parent = make_network(tasks, backbone={"arch": "small_cnn"}, routing=routing)
    repository.publish(NAME, parent, {"tasks": {}}, "# squares\n")
    assert add(tmp_path, source, "left", "--route", "random") == 0
    assert add(tmp_path, source, "light", "--route", "like:old") == 0
    after = repository.read(NAME, 3).network()
    measured = after.tasks[3].normalisation
    assert measured is not None
    assert measured.mean == pytest.approx((0.5, 0.5, 0.5), abs=0.02)  # of noise
    assert after.tasks[4].normalisation == dark
    assert after.computed_by == (0, 1, 2, 3, 2)
    assert moved(parent, after, ("bright", "size", "old")) == NOTHING
    found = repository.read(NAME, 3).metrics["tasks"]
    assert main(["evaluate", "--data", source, "--repository", str(tmp_path), "--name", NAME,
                 "--json", str(tmp_path / "again.json")]) == 0  # fmt: skip
    again = json.loads((tmp_path / "again.json").read_text())["tasks"]
    for task in ("left", "light"):
        assert again[task]["average_precision"] == pytest.approx(found[task]["average_precision"])


@pytest.fixture
def with_two_additions(source: str, tmp_path: Path) -> Path:
    """Version 1, a task added to it in version 2, and another in version 3."""
    publish(tmp_path, backbone={"arch": "small_cnn_bn", "norm": "batch_per_task"})
    assert add(tmp_path, source, "left", "--version", "1", "--route", "random") == 0
    assert add(tmp_path, source, "light", "--version", "1", "--route", "saliency") == 0
    return tmp_path


def test_versions_merged_answer_as_each_of_them(with_two_additions: Path) -> None:
    assert run("merge", with_two_additions, "--versions", "2,3") == 0
    repository = Repository(with_two_additions)
    left, light, merged = (repository.read(NAME, version).network() for version in (2, 3, 4))
    assert merged.tasks.names == ("bright", "size", "old", "left", "light")
    assert moved(left, merged, ("bright", "size", "old", "left")) == NOTHING
    assert moved(light, merged, ("bright", "size", "old", "light")) == NOTHING


def test_an_addition_removed_again_leaves_the_parent(with_two_additions: Path) -> None:
    """Before and behind it are other additions: each generation is computed by itself."""
    root = with_two_additions
    assert run("merge", root, "--versions", "2,3") == 0
    assert run("remove-task", root, "--task", "left") == 0
    repository = Repository(root)
    merged, smaller = (repository.read(NAME, version).network() for version in (4, 5))
    assert smaller.config.generations == (3, 1)
    assert moved(merged, smaller, ("bright", "size", "old", "light")) == NOTHING
    assert run("remove-task", root, "--task", "light") == 0
    last = repository.read(NAME, 6).network()
    first = repository.read(NAME, 1).network()
    assert ModelConfig.from_json(last.config.to_json()) == first.config
    assert all(
        torch.equal(one, last.state_dict()[name]) for name, one in first.state_dict().items()
    )


@pytest.mark.parametrize("arch", ["vgg11_bn", "small_cnn"])
def test_a_task_of_the_first_training_removed(tmp_path: Path, arch: str) -> None:
    """The paper's way moves nothing. In a plan the rest need fewer units of what they share, and a
    convolution of another size may round otherwise."""
    repository = publish(tmp_path, backbone={"arch": arch})
    assert run("remove-task", tmp_path, "--task", "bright") == 0
    before, after = (repository.read(NAME, version).network() for version in (1, 2))
    found = moved(before, after, ("size", "old"))
    assert {one: found[one] for one in FORWARDS[:2]} == {
        ("masked", True): False,
        ("mixed", True): False,
    }
    for native in (True, False):
        one, other = (logits(net, ("size", "old"), "subnet", native) for net in (before, after))
        assert torch.allclose(one, other, rtol=0, atol=1e-5, equal_nan=True)


def test_a_task_renamed_answers_to_the_bit(with_two_additions: Path) -> None:
    root = with_two_additions
    assert run("rename-task", root, "--task", "light", "--to", "lit", "--group", "new") == 0
    repository = Repository(root)
    before, after = (repository.read(NAME, version).network() for version in (3, 4))
    assert after.tasks.names == ("bright", "size", "old", "lit")
    for one in FORWARDS:
        names = (("old", "light"), ("old", "lit"))
        old, new = (logits(*pair, *one) for pair in zip((before, after), names, strict=True))
        assert torch.equal(old, new), one


def test_a_small_cnn_gives_a_task_away(with_two_additions: Path) -> None:
    out = with_two_additions / "out"
    assert run("extract", with_two_additions, "--task", "light", "--out", str(out)) == 0
    whole = Repository(with_two_additions).read(NAME, 3).network()
    small = Repository(out).read(NAME).network()
    assert small.config.backbone.arch == "small_cnn_bn"
    images = random_images(whole, 4)
    assert torch.allclose(small(images, 0), whole(images, 3), rtol=0, atol=1e-5)
