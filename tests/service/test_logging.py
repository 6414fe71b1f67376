"""Logs are one JSON object a line."""

from __future__ import annotations

import json
import logging

from service.logging import JsonFormatter


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("service.x", logging.WARNING, "file.py", 1, message, args, None)
    made.__dict__.update(extra)
    return made


def test_a_line_has_the_message_and_the_fields() -> None:
    line = JsonFormatter().format(record("took %d ms", 3, fields={"rows": 4, "status": 200}))
    found = json.loads(line)
    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "warning",
        "logger": "service.x",
        "message": "took 3 ms",
        "rows": 4,
        "status": 200,
    }


def test_nothing_breaks_the_line() -> None:
    line = JsonFormatter().format(record("one\ntwo", fields={"path": "a\r\nb", "odd": object()}))
    assert "\n" not in line
    assert "\r" not in line
    assert json.loads(line)["message"] == "one\ntwo"


def test_a_traceback_is_part_of_the_line() -> None:
    try:
        raise LookupError("gone")
    except LookupError as error:
        made = record("failed", exc_info=(type(error), error, error.__traceback__))
    found = json.loads(JsonFormatter().format(made))
    assert "LookupError: gone" in found["traceback"]
