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


async def client(url: str, image: bytes, until: float, statuses: Counter[str]) -> None:
    """One client, one connection, one answer at least, until the time is up or nobody listens any
    more.
    """
    async with httpx.AsyncClient(timeout=120) as session:
        while True:
            try:
                answer = await session.post(
                    f"{url}/v1/predict", content=image, headers={"Content-Type": "image/png"}
                )
            except (httpx.ConnectError, httpx.ConnectTimeout):
                statuses["refused"] += 1
                return
            except httpx.TransportError as error:
                statuses["broken"] += 1
                sys.stderr.write(f"{error!r}\n")
                return
            if not statuses:
                sys.stderr.write("asking\n")
                sys.stderr.flush()
            statuses[str(answer.status_code)] += 1
            if time.monotonic() > until:
                return


async def main(url: str, clients: int, seconds: float, image: bytes) -> None:
    statuses: Counter[str] = Counter()
    until = time.monotonic() + seconds
    await asyncio.gather(*(client(url, image, until, statuses) for _ in range(clients)))
    sys.stdout.write(json.dumps(statuses) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.stdin.buffer.read()))
