"""Spans of requests, seen by the SDK's in-memory exporter; and where spans are told to go."""

from __future__ import annotations

import logging
import subprocess
import sys
from importlib.metadata import entry_points
from typing import Any

import pytest

from model.cpu import CpuBudget
from service.core.clock import SystemClock
from service.http.app import create_app
from service.tracing import RequestSpans, TracingError, request_spans
from tests.conftest import ROOT
from tests.service.fakes import make_model, sources_of
from tests.service.http.apps import assert_error, make_app, make_settings, send
from tests.service.pictures import NOT_AN_IMAGE, picture

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
IMAGE = {"content-type": "image/png"}


def traced(method: str, path: str, **request: Any) -> tuple[Any, list[ReadableSpan]]:
    """A request to an app with spans: the answer, and the spans in the order they began."""
    memory, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    app = make_app_with(RequestSpans(provider, SystemClock()))
    response = send(app, method, path, **request)
    return response, sorted(memory.get_finished_spans(), key=lambda span: span.start_time or 0)


def make_app_with(spans: RequestSpans) -> Any:
    cpu, sources = CpuBudget(2, "affinity", None), sources_of(make_model, "fashion")
    return create_app(make_settings(), sources=sources, cpu=cpu, spans=spans)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_request_is_a_span_in_its_callers_trace_with_its_stages_below() -> None:
    headers = IMAGE | {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-ID": "me"}
    path = "/v1/predict?tasks=t0,kind"
    response, [request, *stages] = traced("POST", path, content=picture(), headers=headers)
    assert (request.name, request.kind) == ("POST /v1/predict", SpanKind.SERVER)
    assert format_trace_id(request.context.trace_id) == TRACE
    assert request.parent is not None
    assert format_span_id(request.parent.span_id) == PARENT
    span_id = format_span_id(request.context.span_id)
    assert response.headers["traceparent"] == f"00-{TRACE}-{span_id}-01"
    assert attributes(request) == {
        "http.request.method": "POST",
        "http.route": "/v1/predict",
        "http.response.status_code": 200,
        "taskroute.request_id": "me",
        "taskroute.images": 1,
        "taskroute.tasks": 2,
        "taskroute.rows": 2,
        "taskroute.bundle": f"sha256:{1:064x}",
    }
    assert [stage.name for stage in stages] == ["decode", "queue", "compute"]
    begun = request.start_time or 0
    for stage in stages:
        assert stage.parent is not None
        assert stage.parent.span_id == request.context.span_id
        start, end = stage.start_time or 0, stage.end_time or 0
        assert begun <= start <= end <= (request.end_time or 0)
        begun = start


def test_a_trace_is_begun_where_the_caller_has_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for header in ({}, {"traceparent": f"00-{TRACE}-{PARENT}"}):
        caplog.clear()
        _, [span] = traced("GET", "/v1/limits", headers=header)
        assert span.parent is None
        [line] = [r.__dict__["fields"] for r in caplog.records if r.name == "service.access"]
        assert line["trace_id"] == format_trace_id(span.context.trace_id) != TRACE
        assert line["span_id"] == format_span_id(span.context.span_id)


def test_a_caller_that_does_not_sample_is_heeded() -> None:
    _, spans = traced("GET", "/v1/limits", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert spans == []


def test_the_callers_mistake_is_no_failed_span_and_names_the_code() -> None:
    response, spans = traced("POST", "/v1/predict", content=NOT_AN_IMAGE, headers=IMAGE)
    span = spans[0]
    code = response.json()["code"]
    assert_error(response, response.status_code, code)
    assert attributes(span)["error.type"] == code
    assert span.status.status_code is StatusCode.UNSET


def test_probes_make_no_spans() -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/metrics"):
        assert traced("GET", path)[1] == []


def test_no_secret_and_no_path_that_a_client_made_up() -> None:
    headers = {"authorization": "Bearer sesame", "x-api-key": "sesame"}
    _, [span] = traced("GET", "/nothing/sesame?key=sesame", headers=headers)
    assert span.name == "GET"
    assert "sesame" not in span.to_json()


def test_off_nothing_is_imported() -> None:
    code = (
        "import sys; from tests.service.http.apps import make_app, send;"
        "assert send(make_app(), 'GET', '/v1/limits').status_code == 200;"
        "print([n for n in sys.modules if n.startswith(('opentelemetry.sdk', 'google.protobuf'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


class TestWhereSpansGo:
    """The standard variables."""

    @pytest.fixture(autouse=True)
    def clean(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("OTEL_TRACES_EXPORTER", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
            monkeypatch.delenv(name, raising=False)

    def test_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
        request_spans(SystemClock(), "1").close()

    def test_the_resource_has_the_given_name_or_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
        for given, name in (("", "taskroute"), ("mine", "mine")):
            monkeypatch.setenv("OTEL_SERVICE_NAME", given)
            spans = request_spans(SystemClock(), "1.2")
            spans.close()
            found = spans._provider.resource.attributes
            assert (found["service.name"], found["service.version"]) == (name, "1.2")

    def test_one_that_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "smoke_signals")
        with pytest.raises(TracingError, match="smoke_signals"):
            request_spans(SystemClock(), "1")

    def test_otlp_is_what_the_extra_brings(self) -> None:
        assert "otlp_proto_http" in entry_points(group="opentelemetry_traces_exporter").names

    def test_without_the_sdk_the_setting_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
        with pytest.raises(TracingError, match=r"taskroute\[otel\]"):
            make_app(tracing=True)
