"""Tasks added to, removed from, renamed in and merged into published models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from model.assembly import shared_state, task_parts
from model.bundle import CARD, Bundle
from model.errors import ConfigError, UnknownTaskError
from model.repository import Repository
from model.rows import RowBatch
from model.strategies import STRATEGIES, make_forward
from model.tasks import Task
from tests.training.conftest import PackMaker, tiny, tiny_images, tiny_network
from training.adding.merge import merge_versions
from training.adding.run import AddedVersion, AddRequest, add_tasks
from training.adding.settings import AddSettings
from training.cli import main
from training.errors import DataError, SettingsError

NAME = "squares"
FAST: dict[str, Any] = {"epochs": 8, "resamples": 5, "statistics_batches": 2, "batch_size": 32}


@pytest.fixture
def source(make_pack: PackMaker) -> str:
    images = tiny_images(160)
    path = make_pack(
        images=images.pixels,
        attr=np.stack([images.labels[:, 0], images.labels[:, 2], images.labels[:, 1] > 1], axis=1)
        .astype(np.uint8),
        attr_names=np.array(["bright", "left", "light"]),
        split=np.array(["train"] * 96 + ["val"] * 32 + ["test"] * 32),
    )  # fmt: skip
    return f"pack:{path}"


def parent(root: Path, **changes: Any) -> Repository:
    """Version 1: three tasks, one of them with three classes; random weights."""
    tasks = (Task(name="bright"), Task(name="size", classes=("s", "m", "l")), Task(name="old"))
    network = tiny_network(tiny(**{"routed_layers": "last:3"} | changes), tasks).eval()
    figures = {task.name: {"group": task.group, "accuracy": 0.5} for task in tasks}
    repository = Repository(root)
    repository.publish(NAME, network, {"tasks": figures, "macro": {"accuracy": 0.5}}, "# squares\n")
    return repository


def add(
    root: Path, source: str, task: str, version: int | None = None, **choices: Any
) -> AddedVersion:
    settings = AddSettings(**{**FAST, **choices})
    request = AddRequest(source, [task], root, NAME, settings, root / "work", version=version)
    return add_tasks(request, Console(quiet=True))


def answers(bundle: Bundle, names: tuple[str, ...], strategy: Any = "subnet") -> torch.Tensor:
    network = bundle.network()
    batch = RowBatch.all_pairs(
        torch.from_numpy(tiny_images(5, seed=9).pixels), network.tasks.select(names)
    )
    return make_forward(network, strategy)(batch)


@pytest.mark.parametrize(
    ("route", "changes"),
    [
        ("saliency", {}),
        ("saliency", {"norm": "batch", "embedding": 0}),
        ("random", {"scheme": "partition", "keep": 0.25}),
        ("like:old", {}),
        ("saliency", {"routed_layers": "all"}),
        ("saliency", {"routed_layers": "none"}),
        ("random", {"modulation": "scale"}),
        ("saliency", {"modulation": "scale_shift", "norm": "batch", "keep": 1.0}),
        ("saliency", {"arch": "resnet18"}),  # the frozen prefix ends in front of a block
        ("random", {"arch": "resnet18", "routed_layers": "last:2"}),
        (
            "saliency",
            {
                "arch": "resnet18",
                "routed_layers": "none",
                "norm": "batch_per_domain",
                "adapters": "parallel",
            },
        ),
        (
            "like:old",
            {
                "arch": "resnet18",
                "routed_layers": "all",
                "norm": "batch_per_domain",
                "adapters": "series",
            },
        ),
    ],
)
def test_an_added_task_is_learnt_and_published_and_the_others_do_not_move(
    source: str, tmp_path: Path, route: str, changes: dict[str, Any]
) -> None:
    repository = parent(tmp_path, **changes)
    added = add(tmp_path, source, "left", route=route, flip=False)
    before, after = repository.read(NAME, 1), repository.read(NAME)

    assert added.version == 2
    assert after.manifest.parent is not None
    assert after.manifest.parent.digest == before.digest
    assert after.config.task_set.names == ("bright", "size", "old", "left")
    assert after.config.generations == (3, 1)
    for strategy in STRATEGIES:
        old = ("bright", "size", "old")
        assert torch.equal(answers(after, old, strategy), answers(before, old, strategy)), strategy
    precision = added.figures["left"].average_precision
    assert precision is not None
    assert precision > 0.75  # about 0.5 by chance; the frozen weights are random
    assert after.metrics["tasks"]["left"]["average_precision"] == precision
    assert set(after.metrics["tasks"]) == {"bright", "size", "old", "left"}
    assert after.metrics["added"][0]["tasks"] == ["left"]
    assert "Added to version 1" in (after.path / CARD).read_text()


def test_every_shared_tensor_and_every_old_task_keeps_its_bits(source: str, tmp_path: Path) -> None:
    repository = parent(tmp_path)
    add(tmp_path, source, "left")
    before, after = repository.read(NAME, 1).network(), repository.read(NAME).network()
    old, new = shared_state(before), shared_state(after)
    assert old.keys() == new.keys()
    assert all(torch.equal(tensor, new[name]) for name, tensor in old.items())
    for one, other in zip(task_parts(before), task_parts(after), strict=False):
        assert all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())


def test_calibration_and_threshold_of_the_new_task_are_fitted(source: str, tmp_path: Path) -> None:
    repository = parent(tmp_path)
    add(tmp_path, source, "left", calibration="platt", threshold_objective="f1", flip=True)
    task = repository.read(NAME).config.task_set[3]
    assert task.calibration.method == "platt"
    assert task.threshold != 0.5


def test_the_next_task_finds_the_features_of_the_frozen_layers(source: str, tmp_path: Path) -> None:
    parent(tmp_path)
    add(tmp_path, source, "left")
    entries = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.f32")}
    assert len(entries) == 3
    add(tmp_path, source, "light")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.f32")} == entries


def test_a_task_on_the_features_of_another_costs_a_head(source: str, tmp_path: Path) -> None:
    repository = parent(tmp_path)
    add(tmp_path, source, "left", route="like:size")
    assert repository.read(NAME).network().computed_by == (0, 1, 2, 1)
    add(tmp_path, source, "light", route="like:size", statistics="own")
    assert repository.read(NAME).network().computed_by == (0, 1, 2, 1, 4)


def test_a_new_task_learns_its_modulation_or_takes_that_of_another(
    source: str, tmp_path: Path
) -> None:
    repository = parent(tmp_path, modulation="scale_shift")
    first = repository.read(NAME)
    network = first.network()
    with torch.no_grad():
        for layer in network.layers:
            if layer.modulation is not None:
                layer.modulation.scale.uniform_(0.5, 1.5)
    repository.publish(NAME, network, first.metrics, "# squares\n")
    add(tmp_path, source, "left", route="random")
    add(tmp_path, source, "light", route="like:size")
    after = repository.read(NAME).network()
    assert after.computed_by == (0, 1, 2, 3, 1)
    last = after.layers[-1].modulation
    assert last is not None
    assert last.shift is not None
    assert torch.equal(last.scale[4], last.scale[1])
    assert not torch.equal(last.scale[3], torch.ones_like(last.scale[3]))
    assert last.shift[3].any()


def test_what_cannot_be_added_is_refused_before_anything_is_published(
    source: str, tmp_path: Path
) -> None:
    repository = parent(tmp_path)
    with pytest.raises(ConfigError, match=r"has a task 'bright' already.*rename-task"):
        add(tmp_path, source, "bright")
    with pytest.raises(UnknownTaskError, match="lefty"):
        add(tmp_path, source, "lefty")
    with pytest.raises(UnknownTaskError, match="ols"):
        add(tmp_path, source, "left", route="like:ols")
    for wrong in ({"route": "best"}, {"statistics": "like"}, {"keep": 1.5}):
        with pytest.raises(SettingsError):
            AddSettings(**wrong)
    assert repository.versions(NAME) == [1]


def test_a_task_of_one_class_is_nothing_to_learn(make_pack: PackMaker, tmp_path: Path) -> None:
    parent(tmp_path)
    images = tiny_images(40)
    path = make_pack(attr=np.zeros((40, 3), np.uint8), images=images.pixels)
    with pytest.raises(DataError, match="nothing to learn"):
        add(tmp_path, f"pack:{path}", "left")


def test_versions_with_different_additions_are_merged(source: str, tmp_path: Path) -> None:
    repository = parent(tmp_path)
    add(tmp_path, source, "left", version=1)
    add(tmp_path, source, "light", version=1)
    arguments = ["--repository", str(tmp_path), "--name", NAME, "--versions", "2,3"]
    assert main(["merge", *arguments]) == 0
    merged = repository.read(NAME, 4)
    assert merged.config.task_set.names == ("bright", "size", "old", "left", "light")
    assert merged.config.generations == (3, 1, 1)
    assert merged.manifest.parent is not None
    assert merged.manifest.parent.version == 1
    assert {"left", "light"} <= set(merged.metrics["tasks"])
    for strategy in STRATEGIES:
        for version, new in ((2, "left"), (3, "light")):
            names = ("bright", "size", "old", new)
            apart = repository.read(NAME, version)
            assert torch.equal(answers(merged, names, strategy), answers(apart, names, strategy))


def test_what_cannot_be_merged_says_why(source: str, tmp_path: Path) -> None:
    parent(tmp_path)
    add(tmp_path, source, "left", version=1, route="random")
    add(tmp_path, source, "left", version=1, route="like:old")
    add(tmp_path, source, "light", version=2, route="like:old")
    flags = ["--repository", str(tmp_path), "--name", NAME]
    assert main(["remove-task", *flags, "--version", "1", "--task", "old"]) == 0
    with pytest.raises(ConfigError, match="versions 2 and 3 both added a task 'left'"):
        merge_versions(tmp_path, NAME, [2, 3])
    with pytest.raises(ConfigError, match=r"different parents.*2 has 1.*4 has 2"):
        merge_versions(tmp_path, NAME, [2, 4])
    with pytest.raises(ConfigError, match="version 5: it did not only add tasks"):
        merge_versions(tmp_path, NAME, [2, 5])
    with pytest.raises(SettingsError, match="two different versions"):
        merge_versions(tmp_path, NAME, [2, 2])


def test_tasks_are_removed_and_renamed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository = parent(tmp_path)
    flags = ["--repository", str(tmp_path), "--name", NAME]
    assert main(["rename-task", *flags, "--task", "old", "--to", "new", "--group", "g"]) == 0
    renamed, first = repository.read(NAME, 2), repository.read(NAME, 1)
    assert renamed.config.task_set.names == ("bright", "size", "new")
    assert renamed.config.task_set[2].group == "g"
    assert torch.equal(answers(renamed, ("new", "size")), answers(first, ("old", "size")))
    assert renamed.metrics["tasks"]["new"]["group"] == "g"
    assert set(renamed.metrics["groups"]) == {"default", "g"}

    assert main(["remove-task", *flags, "--task", "bright"]) == 0
    left = repository.read(NAME, 3)
    assert left.config.task_set.names == ("size", "new")
    for strategy, tolerance in (("masked", 0.0), ("subnet", 1e-5)):
        found, before = (answers(one, ("size", "new"), strategy) for one in (left, renamed))
        assert torch.allclose(found, before, rtol=0, atol=tolerance)
    assert main(["remove-task", *flags, "--task", "*"]) == 2
    assert main(["rename-task", *flags, "--task", "new", "--to", "a,b"]) == 2
    assert main(["rename-task", *flags, "--task", "new"]) == 2
    assert main(["rename-task", *flags, "--task", "new", "--to", "size"]) == 2
    assert repository.versions(NAME) == [1, 2, 3]
