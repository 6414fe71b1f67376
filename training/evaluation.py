"""A network's held-out figures on one split, as they are stored, shown and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from model.decision import Floats
from model.task_network import TaskNetwork
from model.tasks import Task, TaskSet
from training.bootstrap import RESAMPLES, Intervals, bootstrap
from training.decoding import ImageSet
from training.metrics import TaskFigures, group_figures, mean_figures, task_figures
from training.prediction import predict
from training.progress import ProgressDisplay
from training.sources import Labels
from training.thresholds import Objective, choose_threshold


@dataclass(frozen=True)
class Evaluation:
    """Figures of every task on one split."""

    split: str
    images: int
    tasks: TaskSet
    figures: dict[str, TaskFigures]
    """By task name."""
    intervals: Intervals | None = None
    """None where no images were resampled."""

    @property
    def macro(self) -> dict[str, float | None]:
        """Means over all tasks."""
        return mean_figures(self.figures.values())

    @property
    def groups(self) -> dict[str, dict[str, float | None]]:
        """Means over each group's tasks."""
        return group_figures(self.tasks, self.figures)

    def to_json(self) -> dict[str, Any]:
        """What ``metrics.json`` says about held-out images."""
        return {
            "split": self.split,
            "images": self.images,
            "macro": self.macro,
            "groups": self.groups,
            "tasks": {
                task.name: {"group": task.group, **self.figures[task.name].to_json()}
                for task in self.tasks
            },
            "intervals": None if self.intervals is None else self.intervals.to_json(),
        }


def evaluate(
    network: TaskNetwork,
    images: ImageSet,
    split: str,
    progress: ProgressDisplay,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Predict every task for every image and compare with the labels.

    Args:
        resamples: of the bootstrap; 0 for no intervals.
    """
    with progress:
        predictions = predict(network, images.pixels, advance=progress.update, labels=images.labels)
    return Evaluation(
        split,
        len(images),
        network.tasks,
        {
            task.name: task_figures(task, predictions[index], images.labels[:, index])
            for index, task in enumerate(network.tasks)
        },
        bootstrap(network.tasks, predictions, images.labels, resamples)
        if resamples and len(images)
        else None,
    )


def with_thresholds(
    tasks: Sequence[Task], predictions: list[Floats], labels: Labels, objective: Objective
) -> tuple[Task, ...]:
    """The tasks with each binary one's threshold chosen on these images; others as they are."""
    return tuple(
        task.model_copy(
            update={"threshold": choose_threshold(predictions[index], labels[:, index], objective)}
        )
        if task.is_binary
        else task
        for index, task in enumerate(tasks)
    )
