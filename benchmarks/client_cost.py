"""What the load generator itself costs per request: our client, and httpx for comparison.

    python -m benchmarks.client_cost

The generator runs on the same cores as the server it measures. Every microsecond it takes is
missing there, so the cheapest client is the one that disturbs least. Measured against a server in
another process that answers at once; processor time of the generator's process only.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import islice
from pathlib import Path
from typing import Annotated

import httpx
import typer

from benchmarks.images import jpeg
from benchmarks.load import HOST, Prepared, closed_loop
from benchmarks.peers.base import Request
from benchmarks.report import RESULTS, Report
from benchmarks.server import ROOT, free_port

CONCURRENCY = 8


def main(
    requests: Annotated[int, typer.Option(help="Of each client.")] = 4000,
    out: Annotated[Path, typer.Option(help="Where results go.")] = RESULTS / "client_cost",
) -> None:
    """Processor microseconds per request of each client."""
    port = free_port()
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.fake_server", str(port)], cwd=ROOT)
    try:
        body = jpeg(0, 128, 128)
        clients: dict[str, Callable[[int], Awaitable[None]]] = {
            "benchmarks.http_client": lambda count: _ours(port, body, count),
            "httpx.AsyncClient": lambda count: _httpx(port, body, count),
        }
        asyncio.run(_wait(port))
        cost = {name: _microseconds(run, requests) for name, run in clients.items()}
    finally:
        server.terminate()
        server.wait()
    report = Report(out, "Cost of the load generator")
    report.text(
        f"Processor time of the generator for one request: a JPEG of {len(body)} bytes up, 40 "
        f"predictions down, {CONCURRENCY} connections kept alive, the server in another process."
    )
    report.table(["client", "microseconds per request"], list(cost.items()))
    share = {f"{name}, at 500 requests/s": 500 * value / 1e4 for name, value in cost.items()}
    report.bars("cost", "Share of one core", "% of a core", share, "benchmarks")
    report.write({"microseconds_per_request": cost, "requests": requests})
    for name, value in cost.items():
        print(f"{name}: {value:.0f} us per request")


def _microseconds(run: Callable[[int], Awaitable[None]], requests: int) -> float:
    async def measured() -> float:
        await run(requests // 10)
        before = time.process_time()
        await run(requests)
        return (time.process_time() - before) / requests * 1e6

    return asyncio.run(measured())


async def _ours(port: int, body: bytes, count: int) -> None:
    data = Request("/predict", body, {"Content-Type": "image/jpeg"}).encoded(f"{HOST}:{port}")
    run = await closed_loop(port, [Prepared(data, 40)], CONCURRENCY, 1e9, max_requests=count)
    assert all(sample.ok for sample in run.samples), "the fake server did not answer"


async def _httpx(port: int, body: bytes, count: int) -> None:
    url, numbers = f"http://{HOST}:{port}/predict", iter(range(count))

    async def one_client(client: httpx.AsyncClient) -> None:
        for _ in islice(numbers, count):
            answer = await client.post(url, content=body, headers={"Content-Type": "image/jpeg"})
            assert answer.status_code == 200, "the fake server did not answer"

    async with httpx.AsyncClient(trust_env=False) as client:
        await asyncio.gather(*(one_client(client) for _ in range(CONCURRENCY)))


async def _wait(port: int) -> None:
    for _ in range(100):
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise SystemExit("the fake server did not start")


if __name__ == "__main__":
    typer.run(main)
