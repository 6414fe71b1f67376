"""Settings: bounds that explain, units, unknown variables."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from service.settings import Settings, unknown_variables

GIVEN: dict[str, Any] = {"repository": "models", "model": "fashion"}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TASKROUTE_{name.upper()}", raising=False)


def test_the_environment_is_read_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKROUTE_MAX_BATCH_ROWS", "64")
    monkeypatch.setenv("TASKROUTE_PORT", "9000")
    settings = Settings(**GIVEN, port=9001)
    assert settings.max_batch_rows == 64
    assert settings.port == 9001


def test_every_setting_is_described_and_every_quantity_names_its_unit() -> None:
    units = (
        "_ms",
        "_rows",
        "_bytes",
        "_pixels",
        "_images",
        "_versions",
        "_share",
        "_error",
        "threads",
        "workers",
    )
    for name, field in Settings.model_fields.items():
        assert field.description, name
        if field.annotation in (int, float) and name != "port":
            assert name.endswith(units), name


def test_settings_are_frozen() -> None:
    settings = Settings(**GIVEN)
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workers": 4}, "run more replicas"),
        ({"max_batch_rows": 10_000}, "max_batch_rows is 10000, above max_queue_rows"),
        ({"max_image_bytes": 50_000_000}, "max_image_bytes is 50000000, above max_body_bytes"),
        ({"max_inflight_body_bytes": 1_000_000}, "above max_inflight_body_bytes"),
        ({"max_queue_bytes": 1_000_000}, "above max_queue_bytes"),
        ({"request_timeout_ms": 1e6}, "above max_request_timeout_ms"),
        ({"engine_stall_ms": 100}, "a long batch looks like a hang"),
        ({"max_batch_delay_ms": 500}, "max_batch_delay_ms is 500.0, above max_batch_duration_ms"),
        ({"device": "tpu"}, "device"),
        ({"max_request_share": 0}, "max_request_share"),
        ({"no_such_setting": 1}, "no_such_setting"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings(**GIVEN | changes)


def test_the_core_gets_seconds() -> None:
    options = Settings(**GIVEN, max_batch_delay_ms=5, drain_timeout_ms=1500).core_options(cpus=8)
    assert options.scheduler.max_batch_delay_s == 0.005
    assert options.drain_s == 1.5
    assert options.decode_threads == 7
    assert Settings(**GIVEN).core_options(cpus=1).decode_threads == 1
    assert Settings(**GIVEN, decode_threads=3).core_options(cpus=8).decode_threads == 3


def test_unknown_variables_are_named_with_the_nearest_setting() -> None:
    environment = {
        "TASKROUTE_MAX_BATCH_ROW": "1",
        "TASKROUTE_COLOUR": "red",
        "TASKROUTE_DATA": "elsewhere",
        "TASKROUTE_PORT": "1",
        "taskroute_host": "x",
        "PATH": "/bin",
    }
    found = unknown_variables(environment)
    assert set(found) == {"TASKROUTE_MAX_BATCH_ROW", "TASKROUTE_COLOUR"}
    assert found["TASKROUTE_MAX_BATCH_ROW"] == "TASKROUTE_MAX_BATCH_ROWS"
