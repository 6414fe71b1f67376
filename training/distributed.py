"""Training by several processes, on one machine or many: ``torchrun -m training train ...``.

Every process has a copy of the network and takes its share of every batch; batches, augmentation
and tasks are functions of the seed and the step, so nobody has to hand them out. Gradients are
added up by one plain all-reduce per step rather than by DistributedDataParallel: a step uses other
parameters than the one before (its tasks' heads), which DDP must search the graph for every time,
its buckets overlap little with the short backward pass through a route, and it averages over
processes where labels may be missing in one share and not in another. Here each share's loss is
weighed by its observed labels, and batch norm takes its statistics over all shares
(:mod:`training.synchronised_norm`), so a step is that of one process with the whole batch but for
the order of sums.

The process of rank 0 alone decides about time and routes, writes states, publishes and reports.
What it holds replaces what the others hold at the start and whenever routes are chosen.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.task_network import TaskNetwork
from training.augmentation import Part
from training.errors import DataError, ProcessLostError, SettingsError
from training.sources import MISSING

_PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others: they may still be decoding, or rank 0 evaluating."""

T = TypeVar("T")


class Processes:
    """The processes of a run, as one of them sees them; this class: one process alone."""

    rank = 0
    count = 1

    @property
    def main(self) -> bool:
        """Whether this process writes, publishes and reports."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """The device that the setting ``device`` means here."""
        return torch.device(name)

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum of every process's ``tensor``, which may be overwritten."""
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        """Every process's ``tensor``: [count, ...], by rank."""
        return tensor[None]

    def from_main(self, make: Callable[[], T]) -> T:
        """What ``make`` gave at rank 0; it is called nowhere else."""
        return make()

    def copy_from_main(self, tensor: Tensor) -> None:
        """Overwrite ``tensor`` by that of rank 0."""

    def part(self, whole: int) -> Part:
        """This process's images of a batch of ``whole``.

        Raises:
            SettingsError: there are fewer images than processes.
        """
        if whole < self.count:
            raise SettingsError(
                f"a batch of {whole} images cannot be shared by {self.count} processes: raise "
                "batch_size, or start fewer processes (--nproc-per-node)"
            )
        edges = np.linspace(0, whole, self.count + 1).round().astype(int).tolist()
        return Part(slice(edges[self.rank], edges[self.rank + 1]), whole)

    def weight(self, labels: NDArray[np.signedinteger[Any]], part: Part) -> float:
        """Share of a batch's observed labels that are in ``part``; 1 for all of it.

        Args:
            labels: [N, tasks] of the whole batch.
        """
        observed = labels != MISSING
        return float(observed[part.rows].sum() / max(1, observed.sum())) if self.count > 1 else 1.0

    def add_gradients(self, optimiser: torch.optim.Optimizer, loss: Tensor) -> Tensor:
        """Add up the gradients of all processes in place, and their losses (scalars).

        Every process must have gradients for the same parameters, as processes have that took the
        same step.
        """
        if self.count == 1:
            return loss
        parameters = [one for group in optimiser.param_groups for one in group["params"]]
        gradients = [one.grad for one in parameters if one.grad is not None]
        flat = torch.cat([*(one.flatten() for one in gradients), loss.to(gradients[0]).reshape(1)])
        summed = self.add_up(flat)
        sizes = [one.numel() for one in gradients]
        for gradient, values in zip(gradients, torch.split(summed[:-1], sizes), strict=True):
            gradient.copy_(values.view_as(gradient))
        return summed[-1]

    def agree(self, elapsed_s: float, stop: bool) -> tuple[float, bool]:
        """Rank 0's time, and whether any process was asked to stop."""
        if self.count == 1:
            return elapsed_s, stop
        told = self.gather(torch.tensor([elapsed_s, float(stop)], dtype=torch.float64)).cpu()
        return float(told[0, 0]), bool(told[:, 1].any())

    def copy_network(self, network: TaskNetwork) -> None:
        """Weights, statistics and routes of rank 0 in place of this process's."""
        if self.count == 1:
            return
        for tensor in (*network.state_dict().values(), network.mean, network.std):
            self.copy_from_main(tensor)
        network.routes_changed()

    def check_same(self, facts: dict[str, Any]) -> None:
        """Refuse to train together on different things.

        Raises:
            DataError: a fact (settings, digest of the data, images that can be read) is another
                here than at rank 0.
        """
        expected = self.from_main(lambda: facts)
        for name, value in facts.items():
            if value != expected[name]:
                raise DataError(
                    f"process {self.rank} of {self.count} has another {name} than process 0 "
                    f"({value!r}, not {expected[name]!r}): every machine needs the same data, "
                    "settings and version of this program"
                )

    @contextlib.contextmanager
    def file_from_main(self, path: Path) -> Iterator[Path]:
        """A readable copy of rank 0's file: machines need not share a disk."""
        if self.count == 1:
            yield path
            return
        content = self.from_main(path.read_bytes)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            copy.write_bytes(content)
            yield copy


class TorchProcesses(Processes):
    """Those that torchrun started, by torch.distributed: NCCL between CUDA devices, else gloo."""

    def __init__(self, device: str) -> None:
        """Meets the others.

        Raises:
            ProcessLostError: they did not come.
        """
        self.rank, self.count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self._device = self.device(device)
        cuda = self._device.type == "cuda"
        if cuda:
            torch.cuda.set_device(self._device)
        with self._together():
            torch.distributed.init_process_group("nccl" if cuda else "gloo", timeout=_PATIENCE)

    def device(self, name: str) -> torch.device:
        """``cuda`` is a device of its own for every process of a machine."""
        return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if name == "cuda" else name)

    def close(self) -> None:
        """Leave the others."""
        torch.distributed.destroy_process_group()

    def add_up(self, tensor: Tensor) -> Tensor:
        with self._together():
            torch.distributed.all_reduce(tensor)
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        tensor = tensor.to(self._device)
        parts = [torch.empty_like(tensor) for _ in range(self.count)]
        with self._together():
            torch.distributed.all_gather(parts, tensor)
        return torch.stack(parts)

    def from_main(self, make: Callable[[], T]) -> T:
        values: list[Any] = [make() if self.main else None]
        with self._together():
            torch.distributed.broadcast_object_list(values, device=self._device)
        received: T = values[0]
        return received

    def copy_from_main(self, tensor: Tensor) -> None:
        # Not every backend knows truth values.
        carried = tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor.contiguous()
        carried = carried.to(self._device)
        with self._together(), torch.no_grad():
            torch.distributed.broadcast(carried, 0)
            tensor.copy_(carried)

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError) as error:  # gloo's errors have no type of their own
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ProcessLostError(
                f"process {self.rank} of {self.count} lost the others ({reason}): one of them "
                "ended, or the network between them failed; the first error in the log is the "
                "cause. Start all of them again with --resume to go on from the last saved state"
            ) from error


@contextlib.contextmanager
def processes_of_run(device: str) -> Iterator[Processes]:
    """Those that torchrun started together with this one; or this one alone.

    Raises:
        ProcessLostError: the others did not come.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        yield Processes()
        return
    processes = TorchProcesses(device)
    try:
        yield processes
    finally:
        processes.close()
