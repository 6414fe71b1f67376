"""Curves of a run for TensorBoard: every step's loss, and each epoch's validation figures.

Looking changes nothing: a run with curves gives the weights of one without.
"""

from __future__ import annotations

from pathlib import Path

from model.task_network import TaskNetwork
from training.decoding import ImageSet
from training.errors import SettingsError
from training.evaluation import evaluate
from training.progress import NoDisplay

SHOWN = ("accuracy", "balanced_accuracy", "average_precision", "f1", "ece")
"""Validation figures, means over all tasks, at the thresholds of before they are chosen (0.5)."""


class Curves:
    """Writes event files; of a run over several processes the main one alone has curves."""

    def __init__(self, folder: Path, images: ImageSet, first_step: int = 0) -> None:
        """Goes on where an interrupted run's curves are cut off.

        Args:
            images: the validation images; without any, no figures by epoch.
            first_step: points from here on, of steps not saved before, are dropped.

        Raises:
            SettingsError: TensorBoard is not installed, or ``folder`` cannot be written.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise SettingsError(
                f"setting 'tensorboard_dir' is {str(folder)!r} and TensorBoard is not installed "
                f"({error}): pip install 'taskroute[train]', or leave the setting empty"
            ) from error
        try:
            self._writer = SummaryWriter(
                str(folder), purge_step=first_step + 1 if first_step else None
            )
        except OSError as error:
            raise SettingsError(
                f"setting 'tensorboard_dir' is {str(folder)!r}: cannot be written: {error}"
            ) from error
        self._images = images

    def __enter__(self) -> Curves:
        return self

    def __exit__(self, *raised: object) -> None:
        self._writer.close()

    def step(self, step: int, loss: float, learning_rate: float, images_per_s: float) -> None:
        """One training step's points; ``step`` counts from 1."""
        points = {"loss": loss, "learning_rate": learning_rate, "images_per_s": images_per_s}
        for name, value in points.items():
            self._add(f"training/{name}", value, step)

    def epoch(self, network: TaskNetwork, step: int) -> None:
        """The validation figures of ``network``, which stays in the mode it is in."""
        if not len(self._images):
            return
        was_training = network.training
        evaluation = evaluate(network, self._images, "val", NoDisplay(), resamples=0)
        network.train(was_training)
        for name in SHOWN:
            if (value := evaluation.macro[name]) is not None:
                self._add(f"validation/{name}", value, step)

    def _add(self, name: str, value: float, step: int) -> None:
        self._writer.add_scalar(name, value, step)
