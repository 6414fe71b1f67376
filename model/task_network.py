"""What every family of networks is to training and serving: images and tasks to logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.errors import ConfigError
from model.heads import TaskHeads
from model.normalisation import domain_tables


class TaskNetwork(nn.Module, ABC):
    """Uint8 images in, one head's logits per task out.

    The task is an argument, never hidden state, so threads and mixed batches cannot disturb each
    other; :meth:`set_active_task` exists for single-threaded loops in the paper's style only.
    """

    mean: Tensor  # [domains, 3, 1, 1], in pixel values 0..255
    std: Tensor
    heads: TaskHeads

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.tasks = config.task_set
        mean, std, self.domain_of = domain_tables(config)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self._active_task: int | None = None

    @abstractmethod
    def forward(self, images: Tensor, task: int | Tensor | None = None) -> Tensor:
        """The reference.

        Args:
            images: uint8 [N, H, W, 3].
            task: one task index for the whole batch -> [N, outputs]; or int64 [N], row i answers
                task[i] -> [N, max_outputs], padded with -inf. None: the task of
                :meth:`set_active_task`.

        Raises:
            IndexError: a task index that this network does not have.
            ValueError: images or a row vector of another shape or type.
        """

    @abstractmethod
    def forward_tasks(self, images: Tensor, tasks: Sequence[int]) -> list[Tensor]:
        """Every image through each of ``tasks``: a list of logits [N, outputs], one per task asked.

        What tasks share is computed once.
        """

    @property
    def routes(self) -> list[Tensor | None]:
        """Per convolution: bool [tasks, units], or None where it is not routed; empty where the
        family knows no routes."""
        return []

    def routes_changed(self) -> None:
        """Forget what was derived from the routes; call after writing to them."""

    def set_active_task(self, task: int) -> None:
        """The paper's interface: later ``forward(images)`` answers ``task``; single-threaded."""
        self._check_task(task)
        self._active_task = task

    def parameter_counts(self) -> dict[str, int]:
        """Trainable parameters of the trunk and of all heads."""
        heads = sum(p.numel() for p in self.heads.parameters())
        return {"trunk": sum(p.numel() for p in self.parameters()) - heads, "heads": heads}

    def normalise(self, images: Tensor, task: int | Tensor | None = None) -> Tensor:
        """uint8 [N, H, W, 3] -> float [N, 3, H, W] less the mean, over the deviation.

        Args:
            task: whose domain's; int64 [N]: one for every image; None: the data set's.
        """
        self.check_images(images)
        mean, std = self.mean[:1], self.std[:1]
        if isinstance(task, Tensor) and len(self.mean) > 1:
            domains = torch.tensor(self.domain_of, device=task.device)[task]
            mean, std = self.mean[domains], self.std[domains]
        elif isinstance(task, int):
            domain = self.domain_of[task]
            mean, std = self.mean[domain : domain + 1], self.std[domain : domain + 1]
        return (images.permute(0, 3, 1, 2).to(mean.dtype) - mean) / std

    def check_images(self, images: Tensor) -> None:
        """Raises ValueError unless they are uint8 [N, H, W, 3] of the network's size."""
        spec = self.config.preprocess
        if images.ndim != 4 or images.dtype != torch.uint8 or tuple(images.shape[1:]) != (
            spec.height, spec.width, 3,
        ):  # fmt: skip
            raise ValueError(
                f"images must be uint8 [N, {spec.height}, {spec.width}, 3], got {images.dtype} "
                f"{list(images.shape)}"
            )

    def _asked(self, images: Tensor, task: int | Tensor | None) -> int | Tensor:
        """The task of a forward pass: one for all ``images``, or checked to be one for each."""
        chosen = self._check_task(self._active_task if task is None else task)
        self.check_images(images)
        if isinstance(chosen, Tensor) and chosen.shape != images.shape[:1]:
            raise ValueError(
                f"task is a vector of shape {list(chosen.shape)} for {len(images)} images; it must "
                "name one task for each"
            )
        return chosen

    def _check_task(self, task: int | Tensor | None) -> int | Tensor:
        if task is None:
            raise ConfigError("no task: pass one to forward() or call set_active_task() first")
        count = len(self.tasks)
        if isinstance(task, int):
            if not 0 <= task < count:
                raise IndexError(f"task index {task}; this network has tasks 0 to {count - 1}")
        elif task.dtype != torch.int64 or task.ndim != 1:
            raise ValueError(
                f"task must be one int or int64 [N], got {task.dtype} {list(task.shape)}"
            )
        elif task.numel() and not (int(task.min()) >= 0 and int(task.max()) < count):
            wrong = task[(task < 0) | (task >= count)].tolist()
            raise IndexError(f"task indices {wrong[:10]}; this network has tasks 0 to {count - 1}")
        return task
