"""Asks a service without pause and reports every answer; run where its port can be reached.

    python tests/deploy/asking.py URL CLIENTS SECONDS < image.png

Writes one JSON document: ``statuses`` by number, ``broken`` (answers cut off) and ``refused``
(connections that were not accepted: nothing was lost). With the first answer, a line on stderr.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter

import httpx


class Clients:
    """What all of them have seen."""

    def __init__(self, count: int) -> None:
        self.statuses: Counter[str] = Counter()
        self._waiting = set(range(count))

    def answered(self, number: int, status: int) -> None:
        self.statuses[str(status)] += 1
        if self._waiting == {number}:
            sys.stderr.write("asking\n")
            sys.stderr.flush()
        self._waiting.discard(number)

    async def ask(self, number: int, url: str, image: bytes, until: float) -> None:
        """One client, one connection, one answer at least, until the time is up or nobody listens
        any more.
        """
        async with httpx.AsyncClient(timeout=120) as session:
            while True:
                try:
                    answer = await session.post(
                        f"{url}/v1/predict", content=image, headers={"Content-Type": "image/png"}
                    )
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    self.statuses["refused"] += 1
                    return
                except httpx.TransportError as error:
                    self.statuses["broken"] += 1
                    sys.stderr.write(f"{error!r}\n")
                    return
                self.answered(number, answer.status_code)
                if time.monotonic() > until:
                    return


async def main(url: str, count: int, seconds: float, image: bytes) -> None:
    clients = Clients(count)
    until = time.monotonic() + seconds
    await asyncio.gather(*(clients.ask(number, url, image, until) for number in range(count)))
    sys.stdout.write(json.dumps(clients.statuses) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.stdin.buffer.read()))
