"""One request and its repetitions, as steps: the two clients only carry them out.

Asking is idempotent, so it may be repeated after a broken connection too.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import httpx

from service.client.errors import (
    ClientError,
    DeadlinePassedError,
    ServerRefusedError,
    UnreachableError,
)
from service.client.retries import Retries
from service.core.clock import Clock
from service.priority import HEADER as PRIORITY_HEADER

TIMEOUT_HEADER = "X-Request-Timeout-Ms"
Level = Literal["interactive", "bulk"]
ImageSource = Path | str | bytes | tuple[str, bytes]  # a file, its bytes, or (name, bytes)


class Send(NamedTuple):
    """Step: send this, and send back the response, or None where the connection failed."""

    request: httpx.Request


class Wait(NamedTuple):
    """Step: wait so long."""

    seconds: float


@dataclass(frozen=True)
class Question:
    """What is sent, as often as needed."""

    method: str
    path: str
    arguments: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


def predict_question(
    images: Iterable[ImageSource], tasks: Sequence[str] | None, priority: Level | None
) -> Question:
    """A form with every image and the tasks; no tasks: all of them.

    Raises:
        OSError: a file cannot be read.
    """
    files = [("image", _part(number, image)) for number, image in enumerate(images)]
    data = {} if tasks is None else {"tasks": ",".join(tasks)}
    headers: dict[str, str] = {} if priority is None else {PRIORITY_HEADER: priority}
    return Question("POST", "/v1/predict", {"files": files, "data": data}, headers)


def ask(
    client: httpx.Client | httpx.AsyncClient,
    question: Question,
    retries: Retries,
    clock: Clock,
    timeout_s: float,
) -> Generator[Send | Wait, httpx.Response | httpx.TransportError | None, httpx.Response]:
    """Steps until an answer. The server is told what is left of the time, so that it does not go on
    working for nobody.

    Raises:
        ServerRefusedError, UnreachableError, DeadlinePassedError.
    """
    deadline = clock.now() + timeout_s
    attempt = 0
    cause: ClientError | None = None
    while True:
        attempt += 1
        left = deadline - clock.now()
        if left <= 0:
            raise DeadlinePassedError(f"no answer within {timeout_s:g} s") from cause
        given = yield Send(_request(client, question, left))
        if isinstance(given, httpx.Response) and given.is_success:
            return given
        if isinstance(given, httpx.Response):
            cause, response = ServerRefusedError.of(given), given
        else:
            cause, response = UnreachableError(f"{client.base_url}: {given or 'no answer'}"), None
        if isinstance(given, httpx.TimeoutException) and clock.now() >= deadline:
            raise DeadlinePassedError(f"no answer within {timeout_s:g} s") from cause
        wait = retries.wait_s(attempt, response)
        if wait is None:
            raise cause
        if clock.now() + wait >= deadline:
            raise DeadlinePassedError(
                f"no answer within {timeout_s:g} s, and the next attempt would be in {wait:.1f} s"
            ) from cause
        yield Wait(wait)


def _request(
    client: httpx.Client | httpx.AsyncClient, question: Question, left_s: float
) -> httpx.Request:
    headers = {TIMEOUT_HEADER: f"{left_s * 1000:.0f}"} if question.method == "POST" else {}
    return client.build_request(
        question.method,
        question.path,
        headers=question.headers | headers,
        timeout=httpx.Timeout(left_s + 1, connect=min(left_s, 5.0)),
        **question.arguments,
    )


def _part(number: int, image: ImageSource) -> tuple[str, bytes, str]:
    if isinstance(image, bytes):
        return str(number), image, "application/octet-stream"
    name, content = image if isinstance(image, tuple) else (str(image), Path(image).read_bytes())
    return name, content, mimetypes.guess_type(name)[0] or "application/octet-stream"
