"""A caller's trace is continued, and none is made up."""

from __future__ import annotations

import logging

import pytest

from service.trace import continue_trace
from tests.service.http.apps import make_app, send

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{PARENT}-01"


def test_the_trace_goes_on_with_a_span_of_our_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    response = send(make_app(), "GET", "/v1/limits", headers={"traceparent": GIVEN})
    version, trace, span, flags = response.headers["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    assert len(span) == 16
    assert span != PARENT
    [line] = [r.__dict__["fields"] for r in caplog.records if r.name == "service.access"]
    assert (line["trace_id"], line["span_id"]) == (TRACE, span)


def test_an_error_carries_it_too() -> None:
    response = send(make_app(), "GET", "/nothing", headers={"traceparent": GIVEN})
    assert (response.status_code, TRACE in response.headers["traceparent"]) == (404, True)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        GIVEN.upper(),
        f"00-{TRACE}-{PARENT}",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"{GIVEN}-more",
        GIVEN + "\n" + GIVEN,
    ],
)
def test_no_trace_is_begun_where_none_or_an_invalid_one_came(header: str) -> None:
    assert continue_trace(header) is None


def test_a_version_to_come_is_read_as_far_as_known() -> None:
    trace = continue_trace(f"01-{TRACE}-{PARENT}-00-more")
    assert trace is not None
    assert trace.header == f"00-{TRACE}-{trace.span_id}-00"
