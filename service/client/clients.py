"""The two clients: the same steps, carried out with and without ``await``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Self

import httpx

from service.client.answers import Answer, Catalogue
from service.client.asking import ImageSource, Level, Question, Send, ask, predict_question
from service.client.retries import Retries
from service.core.clock import Clock, SystemClock

DEFAULT_TIMEOUT_S = 60.0
_TASKS = Question("GET", "/v1/tasks", {})


class Client:
    """Asks a server; one connection pool, to be closed. May be shared by threads.

    Args:
        url: of the server, without a path: ``http://127.0.0.1:8000``.
        key: API key, where the server wants one.
        model, version: to ask; by default the server's first model, and its version that answers.
        priority: of images asked about; ``"bulk"`` lets others go first.
        timeout_s: for each question, retries included.
        clock, sleep, transport: for tests.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        model: str | None = None,
        version: int | None = None,
        priority: Level | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retries: Retries | None = None,
        clock: Clock | None = None,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(
            base_url=url, headers=_headers(key), params=_params(model, version), transport=transport
        )
        self._timeout_s = timeout_s
        self._priority = priority
        self._retries = retries or Retries()
        self._clock = clock or SystemClock()
        self._sleep = sleep

    def predict(
        self,
        images: Iterable[ImageSource],
        tasks: Sequence[str] | None = None,
        *,
        priority: Level | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """Ask tasks (all, if None) about images: paths, bytes, or (name, bytes).

        Raises:
            OSError: a file cannot be read.
            ServerRefusedError, UnreachableError, DeadlinePassedError.
        """
        question = predict_question(images, tasks, priority or self._priority)
        response = self._ask(question, timeout_s)
        return Answer.model_validate_json(response.content)

    def tasks(self) -> Catalogue:
        """What can be asked."""
        return Catalogue.model_validate_json(self._ask(_TASKS, None).content)

    def _ask(self, question: Question, timeout_s: float | None) -> httpx.Response:
        allowed = self._timeout_s if timeout_s is None else timeout_s
        steps = ask(self._http, question, self._retries, self._clock, allowed)
        given: httpx.Response | httpx.TransportError | None = None
        while True:
            try:
                step = steps.send(given)
            except StopIteration as end:
                answered: httpx.Response = end.value
                return answered
            given = None
            if isinstance(step, Send):
                try:
                    given = self._http.send(step.request)
                except httpx.TransportError as error:
                    given = error
            else:
                self._sleep(step.seconds)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient:
    """:class:`Client` with ``await``; for one event loop."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        model: str | None = None,
        version: int | None = None,
        priority: Level | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retries: Retries | None = None,
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(
            base_url=url, headers=_headers(key), params=_params(model, version), transport=transport
        )
        self._timeout_s = timeout_s
        self._priority = priority
        self._retries = retries or Retries()
        self._clock = clock or SystemClock()
        self._sleep = sleep

    async def predict(
        self,
        images: Iterable[ImageSource],
        tasks: Sequence[str] | None = None,
        *,
        priority: Level | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """As :meth:`Client.predict`. Cancelling it takes its rows out of the server's queue."""
        level = priority or self._priority
        question = await asyncio.to_thread(predict_question, images, tasks, level)  # reads files
        response = await self._ask(question, timeout_s)
        return Answer.model_validate_json(response.content)

    async def tasks(self) -> Catalogue:
        """What can be asked."""
        return Catalogue.model_validate_json((await self._ask(_TASKS, None)).content)

    async def _ask(self, question: Question, timeout_s: float | None) -> httpx.Response:
        allowed = self._timeout_s if timeout_s is None else timeout_s
        steps = ask(self._http, question, self._retries, self._clock, allowed)
        given: httpx.Response | httpx.TransportError | None = None
        while True:
            try:
                step = steps.send(given)
            except StopIteration as end:
                answered: httpx.Response = end.value
                return answered
            given = None
            if isinstance(step, Send):
                try:
                    given = await self._http.send(step.request)
                except httpx.TransportError as error:
                    given = error
            else:
                await self._sleep(step.seconds)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def _params(model: str | None, version: int | None) -> dict[str, str | int]:
    """Of every question's address."""
    asked: dict[str, str | int | None] = {"model": model, "version": version}
    return {name: value for name, value in asked.items() if value is not None}
