"""Errors as HTTP: one table from code to status, one shape of body, on every route."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from model.errors import TaskRouteError
from service.core.errors import TryLaterError
from service.http.record import record_of

CLIENT_GONE = 499  # nginx's number for it: logged and counted, seen by nobody

STATUS_BY_CODE = {
    # the caller's request
    "malformed_request": 400,
    "invalid_request": 400,
    "key_required": 401,
    "key_unknown": 401,
    "access_refused": 403,
    "scope_missing": 403,
    "admin_off": 403,
    "unknown_model": 404,
    "unknown_version": 404,
    "head_timeout": 408,
    "no_previous_model": 409,
    "version_in_use": 409,
    "too_many_versions": 409,
    "latest_moved": 409,
    "strategy_fixed": 409,
    "body_too_large": 413,
    "image_too_large": 413,
    "too_many_images": 413,
    "too_many_rows": 413,
    "unsupported_media_type": 415,
    "unsupported_image_type": 415,
    "head_too_large": 431,
    "invalid_field": 422,
    "no_tasks": 422,
    "duplicate_task": 422,
    "no_images": 422,
    "unknown_task": 422,
    "invalid_image": 422,
    "load_failed": 422,
    # not now
    "overloaded": 429,
    "client_gone": CLIENT_GONE,
    "try_later": 503,
    "loading": 503,
    "model_unavailable": 503,
    "draining": 503,
    "engine_down": 503,
    "bad_bundle": 503,
    "repository_unreadable": 503,
    "deadline_exceeded": 504,
    # our faults
    "error": 500,
    "service_error": 500,
    "invalid_config": 500,
    "model_too_large": 500,
    "row_failed": 500,
    "non_finite_logits": 500,
    "forward_failed": 500,
    "out_of_memory": 500,
}

# Errors that the framework raises itself.
_FRAMEWORK_CODES = {
    400: "malformed_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
}


def error_fields(error: TaskRouteError) -> dict[str, Any]:
    """What every error says, wherever it stands: as a body, or beside other images' answers."""
    return {"error": error.message, "code": error.code, "details": error.details}


def error_response(error: TaskRouteError, request_id: str) -> Response:
    """The response for an error of ours."""
    headers = {}
    if isinstance(error, TryLaterError):
        headers["Retry-After"] = str(error.retry_after_s)
    status = STATUS_BY_CODE[error.code]
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _response(status, request_id, error_fields(error), headers)


def internal_error_response(request_id: str) -> Response:
    """The response for a fault that nobody expected: no traceback, but where to find it."""
    message = f"internal error; the server's log has the details under request id {request_id}"
    return _response(500, request_id, {"error": message, "code": "internal_error", "details": {}})


def not_found_response(path: str, request_id: str) -> Response:
    """The response for a path that is not here."""
    message = f"there is no {path[:200]} here; /docs lists what there is"
    return _response(404, request_id, {"error": message, "code": "not_found", "details": {}})


def install_error_handlers(app: FastAPI) -> None:
    """Give every error the one shape, those of the framework included."""
    app.add_exception_handler(TaskRouteError, _handle_ours)
    app.add_exception_handler(RequestValidationError, _handle_validation)
    app.add_exception_handler(HTTPException, _handle_framework)


async def _handle_ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, TaskRouteError)  # noqa: S101 - registered for this type only
    record = record_of(request.scope)
    record.code = error.code
    return error_response(error, record.request_id)


async def _handle_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type only
    fields = [
        {"field": ".".join(map(str, item["loc"])), "message": item["msg"]}
        for item in error.errors()
    ]
    message = "; ".join(f"{field['field']}: {field['message']}" for field in fields)
    record = record_of(request.scope)
    record.code = "invalid_field"
    body = {"error": message, "code": "invalid_field", "details": {"fields": fields}}
    return _response(422, record.request_id, body)


async def _handle_framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type only
    record = record_of(request.scope)
    status = error.status_code
    record.code = _FRAMEWORK_CODES.get(status, "http_error")
    message = str(error.detail)
    if status == 404:
        return not_found_response(request.url.path, record.request_id)
    if status == 405:
        message = f"{request.method} is not allowed on {request.url.path}"
    body = {"error": message, "code": record.code, "details": {}}
    return _response(status, record.request_id, body, dict(error.headers or {}))


def _response(
    status: int, request_id: str, fields: dict[str, Any], headers: dict[str, str] | None = None
) -> Response:
    body = {
        "error": fields["error"],
        "code": fields["code"],
        "request_id": request_id,
        "details": fields["details"],
    }
    return Response(to_json(body), status, headers, media_type="application/json")
