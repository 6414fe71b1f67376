"""An evaluation as JSON, as tables and as a model card."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.training.conftest import TASKS, tiny, tiny_images, tiny_network
from training.bootstrap import RESAMPLES
from training.card import model_card
from training.decoding import ImageSet
from training.evaluation import Evaluation, evaluate, with_thresholds
from training.prediction import predict
from training.progress import ProgressLines
from training.sources import MISSING
from training.tables import COLUMNS, TERMINAL_COLUMNS, markdown_table, terminal_table
from training.thresholds import choose_threshold

ABOUT: dict[str, Any] = {
    "data": {
        "source": "csv:photos.csv",
        "digest": "sha256:0123456789abcdef",
        "images": {"train": 24, "val": 8, "test": 8},
    },
    "training": {"steps": 12, "seconds": 3.4},
}


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    images = tiny_images(12)
    labels = images.labels.copy()
    labels[:, 2] = MISSING
    quiet = ProgressLines(Console(file=io.StringIO()), "evaluating")
    return evaluate(tiny_network(tiny()), ImageSet(images.pixels, labels), "test", quiet)


def test_json_has_every_task_group_and_mean(evaluation: Evaluation) -> None:
    content = evaluation.to_json()
    assert (content["split"], content["images"]) == ("test", 12)
    assert list(content["tasks"]) == ["bright", "shade", "left"]
    assert content["tasks"]["shade"]["group"] == "default"
    assert content["tasks"]["left"]["accuracy"] is None
    accuracies = [content["tasks"][name]["accuracy"] for name in ("bright", "shade")]
    assert content["macro"]["accuracy"] == pytest.approx(np.mean(accuracies))
    assert content["groups"]["default"] == content["macro"]
    intervals = content["intervals"]
    assert (intervals["level"], intervals["resamples"]) == (0.95, RESAMPLES)
    low, high = intervals["macro"]["accuracy"]
    assert low <= content["macro"]["accuracy"] <= high
    assert intervals["tasks"]["left"]["accuracy"] is None


def test_no_resamples_no_intervals() -> None:
    quiet = ProgressLines(Console(file=io.StringIO()), "evaluating")
    evaluation = evaluate(tiny_network(tiny()), tiny_images(4), "test", quiet, resamples=0)
    assert evaluation.to_json()["intervals"] is None
    assert "resamples" not in model_card(
        "boots", tiny_network(tiny()).config, evaluation, ABOUT, ()
    )


def test_the_terminal_table_fits_80_characters(evaluation: Evaluation) -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(terminal_table(evaluation))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in out.getvalue()
    heading = next(line for line in lines if line.startswith("task"))
    assert heading.split() == ["task", *TERMINAL_COLUMNS.values()]
    left = next(line for line in lines if line.startswith("left"))
    assert left.split()[1:] == ["-"] * 9 + ["0.500"]


def test_the_markdown_table_has_every_figure(evaluation: Evaluation) -> None:
    header, rule, *rows = markdown_table(evaluation).splitlines()
    assert header.count("|") == rule.count("|") == len(COLUMNS) + 2
    assert [row.split("|")[1].strip() for row in rows] == [
        "bright",
        "shade",
        "left",
        "mean of all tasks",
    ]


def test_the_card_says_what_the_bundle_is(evaluation: Evaluation) -> None:
    network = tiny_network(tiny(keep="0.5,0.25", routed_layers="last:2"))
    card = model_card("boots", network.config, evaluation, ABOUT, ("3 images were left out",))
    for words in (
        "# boots",
        "3 image-attribute tasks",
        "keep 0.5, 0.25, layers last:2",
        "`csv:photos.csv`",
        "24 train, 8 val, 8 test images",
        "- 3 images were left out.",
        "12 steps in 3 s",
        "split `test`",
        markdown_table(evaluation),
        "(95 % of 200 resamples of the images)",
        "balanced accuracy 0.",
        "none of the 3 tasks is calibrated",
    ):
        assert words in card
    assert "no test images" not in card


def test_the_card_says_where_figures_are_of_the_images_that_decided(
    evaluation: Evaluation,
) -> None:
    config = tiny_network(tiny()).config
    card = model_card("boots", config, replace(evaluation, split="val"), ABOUT, ())
    assert "There are no test images: the figures are of the validation images" in card


def test_the_card_counts_calibrated_tasks(evaluation: Evaluation) -> None:
    network = tiny_network(tiny(), (TASKS[0].model_copy(update={"calibrated": True}), *TASKS[1:]))
    card = model_card("boots", network.config, evaluation, ABOUT, ())
    assert "1 of the 3 tasks is calibrated" in card
    assert "at least 25 labels of the rarest class. The others' are" in card


def test_thresholds_go_to_binary_tasks_only() -> None:
    images, network = tiny_images(12), tiny_network(tiny())
    predictions = predict(network, images.pixels)
    bright, shade, left = with_thresholds(network.tasks, predictions, images.labels, "f1")
    assert bright.threshold == choose_threshold(predictions[0], images.labels[:, 0], "f1")
    assert left.threshold == choose_threshold(predictions[2], images.labels[:, 2], "f1")
    assert shade == TASKS[1]
