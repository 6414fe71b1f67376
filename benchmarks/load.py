"""Load: open loop (arrivals whatever the server does) and closed loop (clients that wait).

Open loop: arrival times are a Poisson process drawn before the run. A request's latency counts from
its intended arrival, not from when a connection was free to send it; a server that stalls is
charged for everybody who had to queue meanwhile (no "coordinated omission").

Closed loop: C clients, each sends its next request when the last is answered: what a server can do
at most, not what its users wait.

All traffic goes to the loopback address, and every run is bounded in time and in requests.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from benchmarks.http_client import Connection, ProtocolError, Response
from benchmarks.samples import Run, Sample

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request ready to be written; ``key`` says what was asked, for whoever checks the answer."""

    data: bytes
    rows: int  # image-task pairs asked
    key: Any = None


class Client:
    """Sends prepared requests over at most ``connections`` keep-alive connections."""

    def __init__(self, port: int, connections: int, timeout_s: float, keep_every: int = 10) -> None:
        self._port = port
        self._timeout_s = timeout_s
        self._keep_every = keep_every
        self._free = asyncio.Semaphore(connections)  # first come, first served
        self._idle: list[Connection] = []
        self._loop = asyncio.get_running_loop()
        self._zero = self._loop.time()
        self.run = Run(started_at=self._zero)

    @property
    def now(self) -> float:
        """Seconds since the start of the run."""
        return self._loop.time() - self._zero

    async def ask(self, prepared: Prepared, intended: float) -> Sample:
        """Send, wait, record; never raises for what the server does."""
        async with self._free:
            sample = Sample(intended, self.now, 0.0, prepared.rows)
            try:
                async with asyncio.timeout(self._timeout_s):
                    connection = await self._connection()
                    try:
                        response = await connection.send(prepared.data)
                    except BaseException:
                        connection.close()
                        raise
                    self._record(sample, prepared, response)
                    if connection.usable:
                        self._idle.append(connection)
            except TimeoutError:
                sample.error = "timeout"
            except (ProtocolError, OSError) as error:
                sample.error = f"{type(error).__name__}: {error}"[:200]
            sample.done = self.now
        self.run.samples.append(sample)
        return sample

    def close(self) -> Run:
        for connection in self._idle:
            connection.close()
        return self.run

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return await Connection.open(HOST, self._port)

    def _record(self, sample: Sample, prepared: Prepared, response: Response) -> None:
        sample.status = response.status
        sample.retry_after = response.retry_after
        if sample.ok and len(self.run.samples) % self._keep_every == 0:
            self.run.answers.append((prepared.key, response.body))


def poisson_arrivals(rate_per_s: float, seconds: float, seed: int) -> list[float]:
    """Arrival times of a Poisson process in [0, seconds)."""
    generator = random.Random(seed)
    times, now = [], generator.expovariate(rate_per_s)
    while now < seconds:
        times.append(now)
        now += generator.expovariate(rate_per_s)
    return times


async def open_loop(
    port: int,
    prepared: Sequence[Prepared],
    requests_per_s: float,
    seconds: float,
    *,
    seed: int = 0,
    connections: int = 512,
    timeout_s: float = 30.0,
    keep_every: int = 10,
    at_end: Callable[[Client], Any] | None = None,
) -> Run:
    """Poisson arrivals for ``seconds``, cycling through ``prepared``; waits for the last answers.

    ``at_end`` is called when the load ends, before the last answers are in.
    """
    arrivals = poisson_arrivals(requests_per_s, seconds, seed)
    client = Client(port, connections, timeout_s, keep_every)
    _quiet_collector()
    asked: set[asyncio.Task[Sample]] = set()
    for intended, request in zip(arrivals, cycle(prepared), strict=False):
        delay = intended - client.now
        if delay > 0:
            await asyncio.sleep(delay)
        task = asyncio.create_task(client.ask(request, intended))
        asked.add(task)
        task.add_done_callback(asked.discard)
    await asyncio.sleep(max(0.0, seconds - client.now))
    client.run.seconds = seconds
    if at_end is not None:
        at_end(client)
    if asked:
        await asyncio.gather(*asked)
    return client.close()


async def closed_loop(
    port: int,
    prepared: Sequence[Prepared],
    clients: int,
    seconds: float,
    *,
    min_requests: int = 0,
    max_seconds: float | None = None,
    max_requests: int | None = None,
    timeout_s: float = 120.0,
    keep_every: int = 10,
    on_sample: Callable[[int], Any] | None = None,
) -> Run:
    """``clients`` ask one request after the other for ``seconds``.

    Goes on until ``min_requests`` are answered, but not beyond ``max_seconds``; ``max_requests``
    ends it early. ``on_sample`` is called with the number of requests done.
    """
    client = Client(port, clients, timeout_s, keep_every)
    limit = max(seconds, max_seconds or seconds)
    source: Iterator[Prepared] = cycle(prepared)
    if max_requests is not None:
        source = islice(source, max_requests)
    _quiet_collector()

    def enough() -> bool:
        done, now = len(client.run.samples), client.now
        return now >= limit or (now >= seconds and done >= min_requests)

    async def one_client() -> None:
        for request in source:
            sample = await client.ask(request, client.now)
            if on_sample is not None:
                on_sample(len(client.run.samples))
            if sample.error is not None:
                await asyncio.sleep(0.1)  # a dead server must not be hammered
            if enough():
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(one_client())
    client.run.seconds = min(client.now, limit) if max_requests is None else client.now
    return client.close()


def _quiet_collector() -> None:
    """Keeps long-lived objects out of the collector's way: its pauses would look like latency."""
    gc.collect()
    gc.freeze()
