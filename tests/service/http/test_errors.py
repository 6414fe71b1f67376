"""Every error has a status, a place in the drawn tree, and the one shape; also the framework's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import model.errors
import service.core.errors
from model.errors import TaskRouteError
from service.core.errors import TryLaterError
from service.http.errors import STATUS_BY_CODE
from tests.service.http.apps import assert_error, make_app, send


def every_error(base: type[TaskRouteError] = TaskRouteError) -> Iterator[type[TaskRouteError]]:
    """All classes that the service can meet; training's own never leave training."""
    if base.__module__ in (model.errors.__name__, service.core.errors.__name__):
        yield base
    for derived in base.__subclasses__():
        yield from every_error(derived)


def test_the_table_of_statuses_is_complete_and_has_nothing_else() -> None:
    assert {error.code for error in every_error()} == set(STATUS_BY_CODE)


def test_the_tree_at_the_top_of_the_module_is_complete() -> None:
    text = service.core.errors.__doc__ or ""
    names = {
        error.__name__
        for error in every_error()
        if error.__module__ == service.core.errors.__name__
    }
    assert [name for name in names if f" {name} " not in f" {text} ".replace("\n", " ")] == []


def test_what_may_succeed_later_says_when_and_nothing_else_does() -> None:
    for error in every_error():
        later = STATUS_BY_CODE[error.code] in (429, 503)
        known = {"bad_bundle", "repository_unreadable"}  # told inside model_unavailable
        assert later == (issubclass(error, TryLaterError) or error.code in known), error


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/predict/", 404, "not_found"),
        ("GET", "/v1/predict", 405, "method_not_allowed"),
        ("BREW", "/v1/tasks", 405, "method_not_allowed"),
    ],
)
def test_the_frameworks_own_errors_have_the_one_shape(
    method: str, path: str, status: int, code: str
) -> None:
    response = send(make_app(), method, path)
    assert_error(response, status, code)
    assert ("allow" in response.headers) == (status == 405)


def test_the_frameworks_validation_has_the_one_shape() -> None:
    app = make_app()

    @app.get("/double")
    async def double(number: int) -> int:
        return number * 2

    details = assert_error(
        send(app, "GET", "/double", params={"number": "x"}), 422, "invalid_field"
    )
    assert details["fields"][0]["field"] == "query.number"
