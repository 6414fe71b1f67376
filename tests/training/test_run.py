"""A run from SOURCE to published bundle, and everything that must stop it before it costs time."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from model.errors import (
    ConfigError,
    RepositoryError,
    TaskRouteError,
    UnknownModelError,
    UnknownTaskError,
)
from model.repository import Repository
from tests.training.conftest import CsvMaker, PackMaker, tiny, tiny_images
from tests.training.towers import STITCHED
from training.decoding import Decoder
from training.errors import DataError, RunInterruptedError, SettingsError, StateError
from training.pixel_cache import PixelCache
from training.prediction import predict
from training.run import Published, TrainRequest, train
from training.trainer import Trainer

RUN_CHOICES = ("resume", "restart", "resume_or_start", "state_folder")
NINE = {"attr": np.zeros((40, 9), np.uint8), "attr_names": np.array(list("abcdefghi"))}


def request(source: str, root: Path, **changes: Any) -> TrainRequest:
    own = {name: changes.pop(name) for name in RUN_CHOICES if name in changes}
    decoder = Decoder(PixelCache(root / "cache"))
    return TrainRequest(source, root / "models", "m", tiny(**changes), decoder=decoder, **own)


def run(source: str, root: Path, **changes: Any) -> tuple[Published, str]:
    out = io.StringIO()
    published = train(request(source, root, **changes), Console(file=out, width=200))
    return published, out.getvalue()


def test_a_pack_becomes_a_bundle_with_figures_thresholds_and_card(
    make_pack: PackMaker, tmp_path: Path
) -> None:
    path = make_pack()
    published, _ = run(f"pack:{path}", tmp_path, threshold_objective="f1")
    bundle = Repository(tmp_path / "models").read("m")
    assert published.version == 1
    metrics = bundle.metrics
    assert metrics["split"] == "test"
    assert metrics["images"] == 8
    assert metrics["data"]["images"] == {"train": 24, "val": 8, "test": 8}
    assert metrics["training"]["steps"] == 6
    assert metrics["training"]["settings"]["keep"] == 0.5
    assert list(metrics["tasks"]) == ["bright", "shade::light", "left"]
    for task in bundle.config.tasks:
        figures = metrics["tasks"][task.name]
        assert figures["threshold"] == task.threshold
        assert 0 <= figures["majority"] <= 1
    assert metrics["macro"] == published.evaluation.macro
    card = (bundle.path / "README.md").read_text()
    assert "shade::light" in card
    assert str(path) in card
    assert not (tmp_path / "models/m/.training").exists()


def test_normalisation_is_that_of_the_training_images(make_pack: PackMaker, tmp_path: Path) -> None:
    run(f"pack:{make_pack()}", tmp_path)
    spec = Repository(tmp_path / "models").read("m").config.preprocess
    pixels = tiny_images(40).pixels[:24] / 255
    assert spec.mean == pytest.approx(pixels.mean(axis=(0, 1, 2)), abs=1e-5)
    assert spec.std == pytest.approx(pixels.std(axis=(0, 1, 2)), abs=1e-5)


def test_a_csv_becomes_a_bundle(make_csv: CsvMaker, tmp_path: Path) -> None:
    splits = ["train"] * 12 + ["val"] * 4 + ["test"] * 4
    rows = [
        [f"{index}.png", split, str(index % 2), "abc"[index % 3]]
        for index, split in enumerate(splits)
    ]
    run(f"csv:{make_csv(['image', 'split', 'odd', 'third'], rows)}", tmp_path)
    tasks = Repository(tmp_path / "models").read("m").config.tasks
    assert [task.classes for task in tasks] == [("no", "yes"), ("a", "b", "c")]


def test_the_same_seed_publishes_the_same_weights(make_pack: PackMaker, tmp_path: Path) -> None:
    source = f"pack:{make_pack()}"
    run(source, tmp_path)
    run(source, tmp_path)
    repository = Repository(tmp_path / "models")
    one, other = repository.read("m", 1).state, repository.read("m", 2).state
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_calibration_and_thresholds_on_it_are_published(
    make_pack: PackMaker, tmp_path: Path
) -> None:
    split = np.array((["train"] * 4 + ["val"] * 12 + ["test"] * 4) * 8)
    images = tiny_images(160)
    attr = (images.labels > 0).astype(np.uint8)
    source = f"pack:{make_pack(images=images.pixels, attr=attr, split=split)}"
    plain, _ = run(source, tmp_path)
    fitted, _ = run(source, tmp_path, calibration="platt")
    repository = Repository(tmp_path / "models")
    before, after = (repository.read("m", version) for version in (1, 2))
    for one, other in zip(before.config.tasks, after.config.tasks, strict=True):
        assert one.calibration.method == "none"
        assert other.calibration.method == "platt"
        assert other.calibration.scale != 1
    val = split == "val"
    rarest = np.minimum(attr[val].sum(axis=0), (1 - attr[val]).sum(axis=0))
    assert [task.calibrated for task in after.config.tasks] == (rarest >= 25).tolist()
    mean = [p.mean() for p in predict(after.network(), images.pixels[val])]
    # What Platt scaling promises on the images that it was fitted on, but for the prior.
    assert mean == pytest.approx(attr[val].mean(axis=0), abs=0.03)
    # Calibration keeps the order of the images.
    assert fitted.evaluation.macro["auroc"] == pytest.approx(plain.evaluation.macro["auroc"])


def test_selected_tasks_only(make_pack: PackMaker, tmp_path: Path) -> None:
    run(f"pack:{make_pack()}", tmp_path, tasks="group:shade,left")
    tasks = Repository(tmp_path / "models").read("m").config.tasks
    assert [task.name for task in tasks] == ["shade::light", "left"]


def test_a_task_without_training_labels_is_left_out_and_said(
    make_pack: PackMaker, tmp_path: Path
) -> None:
    attr = (tiny_images(40).labels > 0).astype(np.uint8)
    attr[:24, 1] = 255
    _, said = run(f"pack:{make_pack(attr=attr)}", tmp_path)
    assert "left out, since no training image has a label: shade::light" in said
    tasks = Repository(tmp_path / "models").read("m").config.tasks
    assert [task.name for task in tasks] == ["bright", "left"]


def test_missing_labels_and_constant_tasks_give_nulls(make_pack: PackMaker, tmp_path: Path) -> None:
    attr = (tiny_images(40).labels > 0).astype(np.uint8)
    attr[24:, 0] = 255
    attr[:, 1] = 0
    run(f"pack:{make_pack(attr=attr)}", tmp_path)
    bundle = Repository(tmp_path / "models").read("m")
    tasks = bundle.metrics["tasks"]
    assert tasks["bright"]["images"] == 0
    assert tasks["bright"]["accuracy"] is None
    assert tasks["shade::light"]["average_precision"] is None
    assert tasks["left"]["average_precision"] is not None
    assert [task.threshold for task in bundle.config.tasks[:2]] == [0.5, 0.5]


def test_without_test_images_the_validation_images_are_held_out(
    make_pack: PackMaker, tmp_path: Path
) -> None:
    split = np.array(["train"] * 30 + ["val"] * 10)
    published, _ = run(f"pack:{make_pack(split=split)}", tmp_path)
    assert (published.evaluation.split, published.evaluation.images) == ("val", 10)


def test_unreadable_images_are_counted(make_csv: CsvMaker, tmp_path: Path) -> None:
    splits = ["train"] * 12 + ["val"] * 4 + ["test"] * 4
    rows = [[f"{i}.png", split, str(i % 2)] for i, split in enumerate(splits)]
    path = make_csv(["image", "split", "odd"], rows)
    (path.parent / "3.png").write_bytes(b"\x89PNG broken")
    _, said = run(f"csv:{path}", tmp_path)
    assert "1 of 12 train images cannot be read and are left out: 3.png (" in said
    metrics = Repository(tmp_path / "models").read("m").metrics
    assert metrics["data"]["unreadable"] == {"train": 1, "val": 0, "test": 0}
    assert metrics["data"]["images"]["train"] == 11
    listed = (tmp_path / "models/m/.training/unreadable.csv").read_text().splitlines()
    assert listed[0] == "split,image,reason"
    assert len(listed) == 2
    assert listed[1].startswith("train,3.png,")
    Image.new("RGB", (30, 40)).save(path.parent / "3.png")
    run(f"csv:{path}", tmp_path)
    assert not (tmp_path / "models/m/.training").exists()


def test_the_list_of_unreadable_images_outlives_a_state_kept_elsewhere(
    make_csv: CsvMaker, tmp_path: Path
) -> None:
    rows = [[f"{i}.png", split, str(i % 2)] for i, split in enumerate(["train"] * 12 + ["val"])]
    path = make_csv(["image", "split", "odd"], rows)
    (path.parent / "3.png").write_bytes(b"")
    _, said = run(f"csv:{path}", tmp_path, state_folder=tmp_path / "state")
    listed = tmp_path / "models/m/.training/unreadable.csv"
    assert f"all are listed in {listed}" in said
    assert "train,3.png," in listed.read_text()
    assert not (tmp_path / "state").exists()


def test_too_many_unreadable_images_stop_the_run(make_csv: CsvMaker, tmp_path: Path) -> None:
    splits = ["train"] * 12 + ["val"] * 4 + ["test"] * 4
    rows = [[f"{i}.png", split, str(i % 2)] for i, split in enumerate(splits)]
    path = make_csv(["image", "split", "odd"], rows)
    for name in ("3.png", "13.png"):
        (path.parent / name).write_bytes(b"")
    with pytest.raises(
        DataError, match=r"1 of 4 val images cannot be read, more than the share of"
    ):
        run(f"csv:{path}", tmp_path)
    listed = (tmp_path / "models/m/.training/unreadable.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in listed[1:]] == [["train", "3.png"], ["val", "13.png"]]
    _, said = run(f"csv:{path}", tmp_path, max_unreadable_share=0.25)
    assert "1 of 4 val images cannot be read and are left out: 13.png" in said


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    original = Trainer._train_step

    def stopping(self: Trainer, batch: Any) -> float:
        self.stop.requested = self.step + 1 == step
        return original(self, batch)

    monkeypatch.setattr(Trainer, "_train_step", stopping)


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9, "optimiser": "adamw", "lr": 0.001}])
def test_an_interrupted_run_resumes_to_the_same_bundle(
    make_pack: PackMaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
) -> None:
    source = f"pack:{make_pack()}"
    run(source, tmp_path, **changes)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4)
        with pytest.raises(RunInterruptedError):
            run(source, tmp_path, **changes)
    repository = Repository(tmp_path / "models")
    assert repository.versions("m") == [1]
    run(source, tmp_path, resume=True, **changes)
    one, other = repository.read("m", 1), repository.read("m", 2)
    assert all(torch.equal(value, other.state[name]) for name, value in one.state.items())
    assert one.config == other.config
    assert one.metrics["tasks"] == other.metrics["tasks"]


def test_a_run_begins_with_the_weights_it_is_given(make_pack: PackMaker, tmp_path: Path) -> None:
    source = f"pack:{make_pack()}"
    run(source, tmp_path)
    begin = str(tmp_path / "models/m")
    # Another seed and hardly a step: what is left must come from version 1.
    _, said = run(source, tmp_path, init_from=begin, seed=3, lr=1e-9, epochs=0.1)
    assert f"warm start from {begin}: 8 of 8 convolutions and 3 of 3 heads copied" in said
    repository = Repository(tmp_path / "models")
    one, other = repository.read("m", 1).state, repository.read("m", 2).state
    for name in ("layers.3.conv.weight", "heads.weight"):
        torch.testing.assert_close(other[name], one[name])


def test_a_mistyped_start_fails_before_any_image_is_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"'init_from' is .*nowhere.*no bundle"):
        run("csv:not read either", tmp_path, init_from=str(tmp_path / "nowhere"))


def test_averaged_weights_are_what_is_published(make_pack: PackMaker, tmp_path: Path) -> None:
    source = f"pack:{make_pack()}"
    run(source, tmp_path)
    run(source, tmp_path, ema_decay=0.9)
    repository = Repository(tmp_path / "models")
    plain, averaged = repository.read("m", 1).state, repository.read("m", 2).state
    name = "layers.0.conv.weight"
    assert not torch.equal(plain[name], averaged[name])
    # Of the same steps, so not far away.
    assert (plain[name] - averaged[name]).norm() < 0.5 * plain[name].norm()


def test_averages_without_statistics_of_their_own_are_refused() -> None:
    with pytest.raises(SettingsError, match="'ema_decay' needs 'recalibration_batches' above 0"):
        tiny(ema_decay=0.9, recalibration_batches=0)
    assert tiny(ema_decay=0.9, recalibration_batches=0, norm="batch").ema_decay == 0.9


def test_an_interrupted_run_is_neither_overwritten_nor_mixed_up(
    make_pack: PackMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"pack:{make_pack()}"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4)
        with pytest.raises(RunInterruptedError):
            run(source, tmp_path)
    state = tmp_path / "models/m/.training/state.safetensors"
    before = state.read_bytes()
    for changes, message in (
        ({}, "--resume goes on with it, --restart throws it away"),
        ({"resume": True, "lr": 0.5}, "differs in lr"),
    ):
        with pytest.raises(StateError, match=message):
            run(source, tmp_path, **changes)
    assert state.read_bytes() == before
    published, _ = run(source, tmp_path, restart=True)
    assert published.version == 1


def test_a_job_that_is_started_again_goes_on_and_a_first_one_begins(
    make_pack: PackMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"pack:{make_pack()}"
    _, said = run(source, tmp_path, resume_or_start=True)
    assert "a new run begins" in said
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4)
        with pytest.raises(RunInterruptedError):
            run(source, tmp_path, resume_or_start=True)
    published, said = run(source, tmp_path, resume_or_start=True)
    assert published.version == 2
    assert "an interrupted run goes on" in said


def test_nothing_to_resume(make_pack: PackMaker, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="nothing to resume"):
        run(f"pack:{make_pack()}", tmp_path, resume=True)


def test_bad_input_leaves_the_training_state_and_the_repository_as_they_were(
    make_pack: PackMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = make_pack(), make_pack("bad.npz", attr=np.full((40, 3), 9))
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4)
        with pytest.raises(RunInterruptedError):
            run(f"pack:{good}", tmp_path)
    state = tmp_path / "models/m/.training/state.safetensors"
    before = state.read_bytes()
    with pytest.raises(DataError, match=r"`attr` of image 0 is 9"):
        run(f"pack:{bad}", tmp_path, resume=True)
    assert state.read_bytes() == before
    assert Repository(tmp_path / "models").versions("m") == []


@pytest.mark.parametrize(
    ("arrays", "settings", "error", "message"),
    [
        ({}, {"tasks": "brihgt"}, UnknownTaskError, "did you mean 'bright'"),
        ({"split": np.array(["test"] * 40)}, {}, DataError, "split `train` is empty"),
        ({"attr": np.full((40, 3), 255)}, {}, DataError, "no tasks left: no training image has"),
        ({"split": np.array(["train"] + ["val", "test"] * 19 + ["val"])}, {}, DataError, "two"),
        ({}, {"device": "cuda:99"}, SettingsError, "setting 'device' is 'cuda:99'"),
        ({}, {"device": "gpu"}, SettingsError, "setting 'device' is 'gpu'"),
    ],
)
def test_what_cannot_be_trained_says_why(
    make_pack: PackMaker,
    tmp_path: Path,
    arrays: dict[str, Any],
    settings: dict[str, Any],
    error: type[TaskRouteError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        run(f"pack:{make_pack(**arrays)}", tmp_path, **settings)


@pytest.mark.parametrize(
    ("arrays", "settings", "message"),
    [
        ({}, {"keep": 0}, "every task needs keep > 0"),
        (NINE, {"scheme": "partition", "keep": 0}, "8 units for 9 tasks"),
        ({}, STITCHED | {"memory_limit_gb": 0.001}, r"'memory_limit_gb' is 0\.001 GB"),
    ],
)
def test_a_network_that_cannot_be_made_is_refused_before_any_image_is_decoded(
    make_pack: PackMaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arrays: dict[str, Any],
    settings: dict[str, Any],
    message: str,
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(Decoder, "decode", never)
    with pytest.raises(ConfigError, match=message):
        run(f"pack:{make_pack(**arrays)}", tmp_path, **settings)


def test_an_unwritable_repository_fails_before_any_training(
    make_pack: PackMaker, tmp_path: Path
) -> None:
    (tmp_path / "models").write_text("not a directory")
    with pytest.raises(RepositoryError, match=r"cannot publish to .*models/m"):
        run(f"pack:{make_pack()}", tmp_path)


def test_a_name_that_cannot_be_served_fails_before_any_training(
    make_pack: PackMaker, tmp_path: Path
) -> None:
    wanted = TrainRequest(f"pack:{make_pack()}", tmp_path, "../up", tiny())
    with pytest.raises(UnknownModelError, match="is not a model name"):
        train(wanted, Console(file=io.StringIO()))


def test_metrics_are_plain_json(make_pack: PackMaker, tmp_path: Path) -> None:
    published, _ = run(f"pack:{make_pack()}", tmp_path)
    json.dumps(published.evaluation.to_json(), allow_nan=False)


def test_the_setting_writes_curves(make_pack: PackMaker, tmp_path: Path) -> None:
    folder = tmp_path / "curves"
    run(f"pack:{make_pack()}", tmp_path, tensorboard_dir=str(folder))
    assert any(path.name.startswith("events.out.tfevents") for path in folder.iterdir())
