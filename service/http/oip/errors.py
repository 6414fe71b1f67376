"""Errors as the protocol wants them: 400 for every bad input; the body is ours, a superset."""

from __future__ import annotations

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from model.errors import TaskRouteError
from service.http.errors import error_response
from service.http.lean_route import Handler, LeanRoute
from service.http.record import record_of

# Where /v1 tells kinds of bad input apart by the status, the protocol has one; the code still does.
_BAD_INPUT = frozenset({415, 422})


class OipRoute(APIRoute):
    """A route that answers errors of ours with the protocol's statuses."""

    def get_route_handler(self) -> Handler:
        return _with_statuses(super().get_route_handler())


class LeanOipRoute(LeanRoute):
    """The same for many small requests."""

    def get_route_handler(self) -> Handler:
        return _with_statuses(super().get_route_handler())


def _with_statuses(answer: Handler) -> Handler:
    async def handle(request: Request) -> Response:
        try:
            return await answer(request)
        except TaskRouteError as error:
            record = record_of(request.scope)
            record.code = error.code
            response = error_response(error, record.request_id)
            if response.status_code in _BAD_INPUT:
                response.status_code = 400
            return response

    return handle
