"""The description of a machine says what it is, not whose."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import torch

from training.machine import describe_machine, machine_line


def test_what_a_reader_needs_is_on_one_line() -> None:
    machine = describe_machine("cpu")
    line = machine_line(machine)
    assert machine["cpu"] in line
    assert f"{machine['cores']} cores" in line
    assert f"torch {torch.__version__.split('+')[0]}" in line
    assert machine["gpu"] is None
    assert "\n" not in line


def test_no_host_name_and_no_path() -> None:
    text = json.dumps(describe_machine("cpu"))
    assert str(Path.home()) not in text
    assert "/" not in text.replace("\\/", "")
    assert f'"{platform.node()}"' not in text
