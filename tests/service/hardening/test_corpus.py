"""Hostile requests over real sockets: the right code for each, nothing broken, nothing kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.service.hardening.corpus import Entry, corpus
from tests.service.hardening.wire import PREDICT, Answer, exchange, request
from tests.service.pictures import picture
from tests.service.server_process import Server, answers, serving

CLIENTS = 6
LONGEST_S = 90
SETTLED_S = 6


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return corpus()


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with serving(repository) as found:
        yield found


def address(server: Server) -> tuple[str, int]:
    host, port = server.url.removeprefix("http://").split(":")
    return host, int(port)


def said(answer: Answer) -> str:
    """The answer as the corpus writes it."""
    if answer.status == 0:
        return "closed"
    if answer.status == 200:
        return "200"
    try:
        return f"{answer.status} {answer.json['code']}"
    except ValueError:
        return f"{answer.status} without the shape of errors"


def send_all(server: Server, entries: list[Entry]) -> list[tuple[str, str, frozenset[str]]]:
    """Send each; those that were answered wrongly: name, what came, what is right."""

    def send(entry: Entry) -> tuple[str, str, frozenset[str]] | None:
        answer = exchange(address(server), entry.raw, LONGEST_S)
        found = said(answer)
        if found not in entry.right:
            return entry.name, f"{found}: {answer.body[:200]!r}", entry.right
        if answer.status >= 400:
            body = answer.json
            assert sorted(body) == ["code", "details", "error", "request_id"], entry.name
            assert body["request_id"] == answer.headers["x-request-id"], entry.name
        return None

    with ThreadPoolExecutor(CLIENTS) as pool:
        return [found for found in pool.map(send, entries) if found is not None]


def good_answer(server: Server) -> list[dict[str, list[float]]]:
    raw = request(PREDICT, picture(seed=9), {"Content-Type": "image/png"})
    answer = exchange(address(server), raw)
    assert answer.status == 200
    body: dict[str, Any] = answer.json
    return answers(body)


def resident_bytes(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


def kept_bytes(server: Server) -> int:
    """What it holds when nobody has asked for a while: the service gives back what is free."""
    found = []
    until = time.monotonic() + SETTLED_S
    while time.monotonic() < until:
        found.append(resident_bytes(server))
        time.sleep(0.1)
    return min(found)


def check_log(server: Server) -> None:
    """No request met a fault of ours, and nothing of an image got into the log."""
    for line in server.log:
        assert line["level"] != "error", line
        assert "traceback" not in line, line
        assert len(str(line)) < 4000, line


def test_every_entry_has_its_own_name_and_no_right_answer_is_a_fault(entries: list[Entry]) -> None:
    assert len(entries) >= 500
    assert len({entry.name for entry in entries}) == len(entries)
    for entry in entries:
        for right in entry.right:
            assert not right.startswith("5") or right == "504 deadline_exceeded"


def test_a_sample_of_the_corpus_is_answered_rightly(server: Server, entries: list[Entry]) -> None:
    before = good_answer(server)
    assert send_all(server, entries[::11]) == []
    assert good_answer(server) == before
    check_log(server)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc/PID/status to read")
def test_all_of_the_corpus_is_answered_rightly_and_leaves_nothing_behind(
    server: Server, entries: list[Entry]
) -> None:
    before = good_answer(server)
    for _ in range(2):  # the second time the allocator has seen every size from every thread
        assert send_all(server, entries) == []
    warm = kept_bytes(server)
    for _ in range(2):
        assert send_all(server, entries) == []
    kept = kept_bytes(server)
    print(f"{warm / 1e6:.0f} MB, then {kept / 1e6:.0f} MB")  # noqa: T201
    assert kept < 1.05 * warm
    assert good_answer(server) == before
    check_log(server)
