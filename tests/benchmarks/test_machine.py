"""What a result says about its machine, processes and environments."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from benchmarks import machine, processes
from benchmarks.environment import PeerUnavailableError, peer_python
from benchmarks.peers.base import Peer


def test_the_machine_is_described_without_its_name_and_paths() -> None:
    description = machine.describe()
    text = json.dumps(description)
    assert description["cpu"]["model"]
    assert description["memory_gb"] > 0
    assert description["libraries"]["torch"]
    assert f'"{socket.gethostname()}"' not in text
    assert str(Path.cwd()) not in text
    assert machine.summary(description).startswith(description["cpu"]["model"])


def test_own_memory_is_seen() -> None:
    found = processes.memory(os.getpid())
    assert found.processes >= 1
    assert found.rss_mb >= found.pss_mb > 5
    assert os.getpid() in processes.tree(os.getppid())


def test_a_missing_program_is_a_reason_not_a_crash(tmp_path: Path) -> None:
    class Needy(Peer):
        name = "needy"
        programs = ("no-such-program",)

    with pytest.raises(PeerUnavailableError, match="no-such-program is not installed"):
        peer_python(Needy(), tmp_path)
