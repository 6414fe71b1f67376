"""The load generator: arrivals, latencies, counts; against a server in the same process."""

from __future__ import annotations

import asyncio
import itertools
import statistics
from collections.abc import Awaitable, Callable

import pytest

from benchmarks import fake_server
from benchmarks.fake_server import Answer, Behaviour
from benchmarks.load import HOST, Prepared, closed_loop, open_loop, poisson_arrivals
from benchmarks.peers.base import Request
from benchmarks.samples import Run, Sample, capacity_rows_per_s, summarise
from benchmarks.server import free_port


def prepared(count: int = 1, rows: int = 4) -> list[Prepared]:
    return [
        Prepared(Request("/predict", b"%d" % number).encoded(HOST), rows, number)
        for number in range(count)
    ]


def against(behaviour: Behaviour, load: Callable[[int], Awaitable[Run]]) -> Run:
    """Run ``load`` on the port of a fake server."""

    async def run() -> Run:
        server = await fake_server.start(behaviour=behaviour)
        try:
            return await load(fake_server.port_of(server))
        finally:
            server.close()
            await server.wait_closed()

    return asyncio.run(run())


def always_ok(body: bytes) -> Answer:
    return 200, b'{"asked": %s}' % body


def test_closed_loop_sends_each_request_in_turn_and_keeps_answers() -> None:
    run = against(
        always_ok,
        lambda port: closed_loop(port, prepared(5), 1, 60, max_requests=12, keep_every=1),
    )
    assert [key for key, _ in run.answers] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
    assert all(body == b'{"asked": %d}' % key for key, body in run.answers)
    summary = summarise(run)
    assert (summary.requests, summary.ok, summary.shed, summary.errors) == (12, 12, 0, {})


def test_closed_loop_never_has_more_requests_open_than_clients() -> None:
    run = against(always_ok, lambda port: closed_loop(port, prepared(), 3, 60, max_requests=60))
    for one in run.samples:
        others = [other for other in run.samples if other.sent <= one.sent < other.done]
        assert len(others) <= 3


def test_open_loop_offers_the_load_whatever_the_answers_are() -> None:
    calls = iter(range(10_000))

    def every_other_shed(body: bytes) -> Answer:
        return (429, b"{}") if next(calls) % 2 else (200, b"{}")

    run = against(every_other_shed, lambda port: open_loop(port, prepared(), 400, 0.5, seed=1))
    summary = summarise(run)
    arrivals = poisson_arrivals(400, 0.5, seed=1)
    assert sorted(sample.intended for sample in run.samples) == arrivals
    assert summary.requests == len(arrivals)
    assert summary.shed == len(arrivals) // 2
    assert summary.errors == {}
    assert {one.retry_after for one in run.samples if one.status == 429} == {"1"}
    assert summary.offered_rows_per_s == pytest.approx(4 * len(arrivals) / 0.5)


def test_open_loop_calls_back_when_the_load_ends() -> None:
    ends: list[float] = []
    run = against(
        always_ok,
        lambda port: open_loop(
            port, prepared(), 100, 0.1, at_end=lambda client: ends.append(client.now)
        ),
    )
    assert len(ends) == 1
    assert ends[0] >= 0.1
    assert run.seconds == 0.1


def test_a_server_error_is_counted_by_its_status() -> None:
    run = against(
        lambda body: (500, b"{}"), lambda port: closed_loop(port, prepared(), 1, 9, max_requests=3)
    )
    assert summarise(run).errors == {"500": 3}


def test_no_server_is_an_error_not_an_exception() -> None:
    run = asyncio.run(closed_loop(free_port(), prepared(), 1, 9, max_requests=1))
    assert run.samples[0].status == 0
    assert "Connect" in str(run.samples[0].error)


def test_silence_is_a_timeout() -> None:
    async def run() -> Run:
        async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _.read()
            writer.close()

        server = await asyncio.start_server(say_nothing, HOST, 0)
        try:
            port = fake_server.port_of(server)
            return await closed_loop(port, prepared(), 1, 9, max_requests=1, timeout_s=0.05)
        finally:
            server.close()
            await server.wait_closed()

    assert asyncio.run(run()).samples[0].error == "timeout"


def test_a_connection_closed_early_is_an_error_and_the_next_request_gets_a_new_one() -> None:
    async def run() -> Run:
        connections = iter(range(100))

        async def hang_up_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            if next(connections):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(hang_up_once, HOST, 0)
        try:
            port = fake_server.port_of(server)
            return await closed_loop(port, prepared(), 1, 9, max_requests=3)
        finally:
            server.close()
            await server.wait_closed()

    first, *others = asyncio.run(run()).samples
    assert "closed before the answer" in str(first.error)
    assert all(sample.ok for sample in others)


def test_latency_counts_from_the_intended_arrival() -> None:
    """A request that had to wait for its turn to be sent is charged for the wait."""
    late = Sample(intended=1.0, sent=3.0, done=3.5, rows=1, status=200)
    summary = summarise(Run([late], seconds=4.0))
    assert summary.p50_ms == 2500.0
    assert summary.send_delay_p99_ms == 2000.0


def test_percentiles_are_of_answered_requests_only() -> None:
    ok = [Sample(0.0, 0.0, 0.1, 1, 200)] * 9
    summary = summarise(Run([*ok, Sample(0.0, 0.0, 9.0, 1, 429)], seconds=1.0))
    assert summary.p99_ms == 100.0
    assert summary.shed_share == 0.1


def test_poisson_arrivals_have_the_rate_and_spread_asked() -> None:
    times = poisson_arrivals(50.0, 400.0, seed=3)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert len(times) == pytest.approx(20_000, rel=0.03)
    # Of an exponential distribution mean and standard deviation are equal.
    assert statistics.pstdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.05)
    assert times == poisson_arrivals(50.0, 400.0, seed=3)


def test_capacity_counts_whole_bursts_only() -> None:
    """Bursts of 8 answers every second: 8 a second, wherever the window's ends fall."""
    bursts = [Sample(0, 0, second + 0.5, 1, 200) for second in range(10) for _ in range(8)]
    for seconds in (8.6, 9.0, 9.4):
        assert capacity_rows_per_s(Run(bursts, seconds=seconds), warmup_s=2.0) == 8.0


def test_capacity_of_a_server_that_answers_nothing_is_zero() -> None:
    assert capacity_rows_per_s(Run([Sample(0, 0, 1, 1, 500)], seconds=2.0), warmup_s=0.5) == 0.0
