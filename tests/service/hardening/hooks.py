"""Loaded by schemathesis: what it cannot guess, so that requests get past the front door."""

from __future__ import annotations

import itertools
from typing import Any

import schemathesis
from hypothesis import strategies

from tests.service.pictures import NOT_AN_IMAGE, TRUNCATED, huge_png, picture

_FILES = {
    kind: [picture(seed=1, kind=kind), picture(seed=2, kind=kind, size=(3, 70))]
    for kind in ("PNG", "JPEG", "WEBP")
}
_OTHERS = [TRUNCATED, NOT_AN_IMAGE, huge_png(), b""]
_turn = itertools.count()

for kind, files in _FILES.items():
    schemathesis.openapi.media_type(
        f"image/{kind.lower()}", strategies.sampled_from(files + _OTHERS) | strategies.binary()
    )


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    """Two times of three the model that is served, and its version."""
    if path_parameters and "name" in path_parameters and next(_turn) % 3:
        path_parameters["name"] = "small"
        if "version" in path_parameters and next(_turn) % 3:
            path_parameters["version"] = "1"
    return path_parameters


@schemathesis.hook
def map_query(context: Any, query: Any) -> Any:
    """Two times of three tasks that there are."""
    if query and "tasks" in query and next(_turn) % 3:
        query["tasks"] = "t0,kind"
    return query


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Never unload the model: all that is asked later would rightly be answered 503."""
    if case.operation.path.endswith("/unload") and case.path_parameters.get("name") == "small":
        case.path_parameters["name"] = "none"
