"""The model card: what a bundle is, what it was trained on, how well it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.config import Family, ModelConfig
from training.calibration import ENOUGH
from training.evaluation import Evaluation
from training.tables import markdown_table


def model_card(
    name: str,
    config: ModelConfig,
    evaluation: Evaluation,
    about: Mapping[str, Any],
    notes: tuple[str, ...],
) -> str:
    """README.md of a bundle, written from what ``metrics.json`` holds.

    Args:
        about: the ``data`` and ``training`` parts of the metrics.
        notes: what a person should know about the data, a sentence each.
    """
    image, data = config.preprocess, about["data"]
    counts = ", ".join(f"{count} {split}" for split, count in data["images"].items())
    return "\n".join(
        [
            f"# {name}",
            "",
            f"{len(config.tasks)} image-attribute tasks answered by {_NETWORKS[config.family]}.",
            "",
            "## Network",
            f"- Backbone {config.backbone.arch}, width {config.backbone.width:g}, norm "
            f"{config.backbone.norm}; images {image.height}x{image.width} px (height x width), "
            f"fit {image.fit}.",
            *_routes(config),
            "",
            "## Data and training",
            f"- Source `{data['source']}` ({data['digest'][:19]}...): {counts} images.",
            *(f"- {note}." for note in notes),
            f"- {about['training']['steps']} steps in {about['training']['seconds']:.0f} s; every "
            "setting is in `metrics.json`.",
            "",
            "## Held-out figures",
            f"{evaluation.images} images of split `{evaluation.split}`. `majority` is the accuracy "
            "of always giving the most frequent answer: an accuracy means something only above it. "
            "`accuracy`, `balanced`, `precision`, `recall` and `F1` are at the task's threshold, "
            "chosen on validation images.",
            "",
            *_macro(evaluation),
            markdown_table(evaluation),
            "",
            "## Limits",
            *_chosen_on(evaluation),
            "- The figures hold for images like those it was trained on; others get answers too, "
            "and just as confident ones.",
            f"- {_calibration(config)}",
            "- Whether the images may be used for a product is a matter of their licence, not of "
            "this file.",
            "",
        ]
    )


_NETWORKS: Mapping[Family, str] = {
    "routed": "one routed network (Task Routing, ICCV 2019)",
    "single_task": "a trunk for each, which share nothing",
    "cross_stitch": "a trunk for each, with cross-stitch units between them (CVPR 2016)",
}


def _routes(config: ModelConfig) -> list[str]:
    """A line about routes; none where every task has a trunk of its own."""
    routing = config.routing
    if config.family != "routed":
        return []
    return [
        f"- Routes: {routing.scheme}, keep {_keep(routing.keep)}, layers "
        f"{routing.routed_layers}, seed {routing.seed}"
        f"{'' if routing.modulation == 'none' else f', modulation {routing.modulation}'}."
    ]


_SUMMARY = {
    "accuracy": "accuracy",
    "majority": "majority",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "average_precision": "average precision",
    "auroc": "AUROC",
    "ece": "calibration error (ECE)",
}
"""Macro figures that are told with their intervals."""


def _macro(evaluation: Evaluation) -> list[str]:
    """Means over all tasks with their intervals, and an empty line; nothing without intervals."""
    intervals, macro = evaluation.intervals, evaluation.macro
    if intervals is None:
        return []
    told = [
        f"{words} {macro[name]:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"
        for name, words in _SUMMARY.items()
        if (interval := intervals.macro[name]) is not None and macro[name] is not None
    ]
    return [
        f"Means over all tasks, in brackets where they lie by chance (95 % of {intervals.resamples}"
        f" resamples of the images): {', '.join(told)}.",
        "",
    ]


def _chosen_on(evaluation: Evaluation) -> list[str]:
    """A line where figures and decisions come from the same images."""
    if evaluation.split != "val":
        return []
    return [
        "- There are no test images: the figures are of the validation images, by which thresholds "
        "and calibration were chosen, and so a little too good."
    ]


def _calibration(config: ModelConfig) -> str:
    count, total = sum(task.calibrated for task in config.tasks), len(config.tasks)
    which = f"{count or 'none'} of the {total} tasks {'is' if count < 2 else 'are'} calibrated"
    told = (
        f"Probabilities: {which}, that is, fitted on validation images with at least {ENOUGH} "
        "labels of the rarest class."
    )
    return told if count == total else f"{told} The others' are less to be relied on."


def _keep(keep: float | tuple[float, ...]) -> str:
    values = keep if isinstance(keep, tuple) else (keep,)
    return ", ".join(f"{value:g}" for value in values)
