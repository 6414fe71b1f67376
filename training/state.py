"""What an interrupted run leaves on disk: one safetensors file, no pickle, replaced atomically.

Tensors are the network's state, the optimiser's and the averaged weights; the file's metadata holds
the rest as JSON. There are no random-number states in it: every draw is a function of the seed and
the step's number.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from model.task_network import TaskNetwork
from training.ema import AveragedWeights
from training.errors import StateError

FILE = "state.safetensors"
_FORMAT = 1
_NETWORK, _OPTIMISER, _AVERAGED = "network/", "optimiser/", "averaged/"


@dataclass(frozen=True)
class RunState:
    """Where a run stands, and what it is a run of."""

    step: int
    """Steps done."""
    total_steps: int
    elapsed_s: float
    """Seconds spent in training steps, in all sittings together."""
    settings: dict[str, Any]
    data: dict[str, str]
    """Source and digest."""
    phases: dict[str, Any] = field(default_factory=dict)
    """Of :class:`training.phases.Phases`; empty in states from before there were any."""


class StateFile:
    """The saved state of one run in one directory."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._staging = self.path.with_suffix(".part")

    def exists(self) -> bool:
        return self.path.is_file()

    def remove(self) -> None:
        """Forget the run; the directory goes too when nothing else is in it."""
        self.path.unlink(missing_ok=True)
        self._staging.unlink(missing_ok=True)  # of a run that was killed while it saved
        if self.path.parent.is_dir() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()

    def save(
        self,
        state: RunState,
        network: TaskNetwork,
        optimiser: torch.optim.Optimizer,
        averaged: AveragedWeights | None = None,
    ) -> None:
        """Replace what was saved before; a crash at any moment leaves the old file or the new one.

        Raises:
            StateError: the directory cannot be written.
        """
        tensors = {_NETWORK + name: value for name, value in network.state_dict().items()}
        tensors |= _optimiser_tensors(optimiser)
        if averaged is not None:
            tensors |= {_AVERAGED + name: value for name, value in averaged.state_dict().items()}
        self._write(tensors, state)

    def adopt(self, other: StateFile, settings: Mapping[str, Any]) -> None:
        """Begin where another run stands, under settings that made no difference to it so far.

        Raises:
            StateError: it cannot be read, or this directory cannot be written.
        """
        state = replace(other.peek(), settings=dict(settings))
        try:
            tensors = safetensors.torch.load_file(other.path)
        except (OSError, SafetensorError) as error:
            raise StateError(f"{other.path}: cannot be read: {error}") from error
        self._write(tensors, state)

    def _write(self, tensors: Mapping[str, Tensor], state: RunState) -> None:
        metadata = {"format": str(_FORMAT), "state": json.dumps(asdict(state))}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            contiguous = {name: value.detach().contiguous() for name, value in tensors.items()}
            safetensors.torch.save_file(contiguous, self._staging, metadata)
            with self._staging.open("rb") as file:
                os.fsync(file.fileno())
            self._staging.replace(self.path)
        except (OSError, SafetensorError) as error:
            with suppress(OSError):
                self._staging.unlink(missing_ok=True)  # half of it would keep a full disk full
            raise StateError(f"{self.path}: cannot be written: {error}") from error

    def peek(self) -> RunState:
        """Where the saved run stands.

        Raises:
            StateError: no state here, or it cannot be read.
        """
        if not self.exists():
            raise StateError(
                f"nothing to resume: there is no {self.path}; begin the run without --resume, or "
                "where nobody watches with --resume-or-start"
            )
        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
            if metadata.get("format") != str(_FORMAT):
                raise StateError(f"{self.path}: written by another version; start anew (--restart)")
            return RunState(**json.loads(metadata["state"]))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise StateError(
                f"{self.path}: cannot be read: {error}; start anew (--restart)"
            ) from error

    def load(
        self,
        network: TaskNetwork,
        optimiser: torch.optim.Optimizer,
        averaged: AveragedWeights | None = None,
    ) -> RunState:
        """Put the saved tensors into ``network``, ``optimiser`` and ``averaged``.

        Raises:
            StateError: no readable state, or one of another network.
        """
        state = self.peek()
        try:
            tensors = safetensors.torch.load_file(self.path)
            network.load_state_dict(_below(tensors, _NETWORK))
            _restore_optimiser(optimiser, _below(tensors, _OPTIMISER))
            if averaged is not None:
                averaged.load_state_dict(_below(tensors, _AVERAGED))
        except (OSError, SafetensorError, RuntimeError, ValueError, IndexError) as error:
            raise StateError(f"{self.path}: does not fit this network: {error}") from error
        return state


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """``optimiser/POSITION/KEY``: a parameter's position in the groups, and what is kept for it."""
    return {
        f"{_OPTIMISER}{position}/{key}": torch.as_tensor(value)
        for position, parameter in enumerate(_parameters(optimiser))
        for key, value in optimiser.state.get(parameter, {}).items()
        if value is not None
    }


def _restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = _parameters(optimiser)
    optimiser.state.clear()
    for name, value in tensors.items():
        position, _, key = name.partition("/")
        parameter = parameters[int(position)]
        # AdamW counts its steps on the CPU, whatever the device.
        kept_on = value.device if key == "step" else parameter.device
        optimiser.state[parameter][key] = value.to(kept_on)
