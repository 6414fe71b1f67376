"""A server that answers from a script, and a clock that sleeping moves."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from service.client import Client, Retries
from tests.service.fakes import FakeClock

ANSWER = {
    "request_id": "r",
    "model": {"name": "m", "version": 1, "digest": "sha256:0", "new_field": 1},
    "results": [
        {
            "id": "0",
            "predictions": [
                {"task": "t", "label": "yes", "probability": 0.9, "threshold": 0.5,
                 "calibrated": True},
                {"task": "u", "error": "no", "code": "row_failed", "details": {}},
            ],
        },
        {"id": "1", "error": "bad", "code": "invalid_image", "details": {}},
    ],
    "timing_ms": {"decode": 1.0, "queue": 2.0, "compute": 3.0},
}  # fmt: skip
OK = httpx.Response(200, json=ANSWER)


def refusal(status: int, code: str, retry_after: str | None = None) -> httpx.Response:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    body = {"error": "no room", "code": code, "request_id": "r-1", "details": {"limit": 3}}
    return httpx.Response(status, json=body, headers=headers)


class Script:
    """Gives its answers in turn, the last one for ever; keeps what was asked and slept."""

    def __init__(self, *answers: httpx.Response | httpx.TransportError) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.slept: list[float] = []
        self.clock = FakeClock()
        self.seconds_per_request = 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.clock.advance(self.seconds_per_request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, httpx.TransportError):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(seconds)

    def client(self, retries: Retries | None = None, timeout_s: float = 60.0) -> Client:
        chance: Callable[[], float] = lambda: 0.0  # noqa: E731 - beside its only use
        return Client(
            "http://fake",
            timeout_s=timeout_s,
            retries=retries or Retries(chance=chance),
            clock=self.clock,
            sleep=self.sleep,
            transport=httpx.MockTransport(self),
        )
