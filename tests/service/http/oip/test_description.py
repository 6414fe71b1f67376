"""Requests and answers against the protocol's own OpenAPI description, read where it lies."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft4Validator

from tests.conftest import ROOT
from tests.service.http.apps import make_app, running, send
from tests.service.http.oip.infer_requests import INFER, as_json, as_pixels, only
from tests.service.http.oip.test_infer import PHOTOS, PIXELS

DESCRIPTION = Path("shared", "reference", "oip", "open_inference_rest.yaml")


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install pyyaml")
    for folder in (ROOT, ROOT.parent):
        if (folder / DESCRIPTION).is_file():
            text = (folder / DESCRIPTION).read_text(encoding="utf-8")
            found: dict[str, Any] = yaml.safe_load(text)
            return found
    pytest.skip(f"the protocol's description is not there: {DESCRIPTION} beside the repository")


def check(description: dict[str, Any], schema: str, document: Any) -> None:
    """``document`` keeps to a schema of the description (OpenAPI 3.0: JSON Schema draft 4)."""
    wanted = {"$ref": f"#/components/schemas/{schema}", "components": description["components"]}
    Draft4Validator({"allOf": [{"$ref": wanted["$ref"]}], **wanted}).validate(document)


def test_the_check_can_fail(description: dict[str, Any]) -> None:
    from jsonschema import ValidationError

    with pytest.raises(ValidationError):
        check(description, "metadata_server_response", {"name": "x", "version": 1})


def test_every_path_of_the_description_is_answered(description: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with running(make_app()) as client:
            for template, operations in description["paths"].items():
                path = template.replace("${MODEL_NAME}", "fashion").replace("${MODEL_VERSION}", "1")
                for short in {path, path.replace("/versions/1", "")}:
                    if "get" in operations:
                        response = await client.get(short)
                    else:
                        response = await client.post(short, **as_json(PHOTOS[0]))
                    assert response.status_code == 200, (short, response.text)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/v2/", "metadata_server_response"),
        ("/v2/models/fashion", "metadata_model_response"),
        ("/v2/models/fashion/versions/1", "metadata_model_response"),
        ("/v2/models/other", "metadata_model_error_response"),
    ],
)
def test_metadata(description: dict[str, Any], path: str, schema: str) -> None:
    check(description, schema, send(make_app(), "GET", path).json())


@pytest.mark.parametrize(
    "request_",
    [
        as_json(*PHOTOS),
        as_json(*PHOTOS, id="7", outputs=only("t0", "kind", classification=2)),
        as_pixels(PIXELS, outputs=only("kind"), parameters={"timeout": 9_000_000}),
    ],
    ids=["all", "classification", "pixels"],
)
def test_requests_and_answers(description: dict[str, Any], request_: dict[str, Any]) -> None:
    check(description, "inference_request", request_["json"])
    response = send(make_app(), "POST", INFER, **request_)
    assert response.status_code == 200
    check(description, "inference_response", response.json())


def test_errors(description: dict[str, Any]) -> None:
    response = send(make_app(), "POST", INFER, content=json.dumps({"inputs": []}))
    assert response.status_code == 400
    check(description, "inference_error_response", response.json())
    assert isinstance(response.json()["error"], str)
