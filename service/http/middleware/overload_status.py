"""Another status for overload, where what stands in front of the service wants one."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class OverloadStatus:
    """Sends 503 for every 429: some load balancers try elsewhere after the one only.

    Around what logs, counts and traces, which goes on saying 429: to refuse for want of room is no
    failure, and must not look like one to the alerts.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def changing_send(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 429:
                message = {**message, "status": 503}
            await send(message)

        await self._app(scope, receive, changing_send)
