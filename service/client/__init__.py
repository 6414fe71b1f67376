"""A client of the service: typed answers, retries that wait as long as the server asks.

    with Client("http://127.0.0.1:8000") as client:
        answer = client.predict([Path("shoe.jpg")], tasks=["footwear", "group:cut"])
        print(answer.images[0]["footwear"].label)

:class:`AsyncClient` is the same with ``await``. ``python -m service.client`` asks about files.
"""

from service.client.answers import Answer, Answered, ImageAnswer, ImageFailed, TaskFailed
from service.client.clients import AsyncClient, Client
from service.client.errors import (
    ClientError,
    DeadlinePassedError,
    ServerRefusedError,
    UnreachableError,
)
from service.client.retries import Retries

__all__ = [
    "Answer",
    "Answered",
    "AsyncClient",
    "Client",
    "ClientError",
    "DeadlinePassedError",
    "ImageAnswer",
    "ImageFailed",
    "Retries",
    "ServerRefusedError",
    "TaskFailed",
    "UnreachableError",
]
