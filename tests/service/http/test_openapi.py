"""The API's description says what the routes do, and answers keep to it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from service.key_file import make_key, write_keys
from tests.service.http.apps import make_app, running, send
from tests.service.pictures import TRUNCATED, picture


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = send(make_app(), "GET", "/openapi.json").json()
    return found


def schema(document: dict[str, Any], path: str, method: str, status: str) -> Draft202012Validator:
    answer = document["paths"][path][method]["responses"][status]
    found = answer["content"]["application/json"]["schema"]
    return Draft202012Validator(found | {"components": document["components"]})


def test_predict_documents_its_three_forms_with_examples(document: dict[str, Any]) -> None:
    operation = document["paths"]["/v1/predict"]["post"]
    content = operation["requestBody"]["content"]
    assert set(content) == {
        "multipart/form-data",
        "image/jpeg",
        "image/png",
        "image/webp",
        "application/json",
    }
    example = content["application/json"]["example"]
    Draft202012Validator(content["application/json"]["schema"]).validate(example)
    assert {parameter["name"] for parameter in operation["parameters"]} == {
        *("tasks", "model", "version", "X-Canary", "X-Canary-Key"),
        *("X-Request-Timeout-Ms", "X-Request-Priority", "X-Request-ID"),
    }
    assert set(operation["responses"]) == {
        *("200", "400", "404", "408", "413", "415", "422", "429", "431", "500", "503", "504")
    }
    for status in ("429", "503"):
        assert "Retry-After" in operation["responses"][status]["headers"]


def test_the_json_example_works_when_sent(document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    example = content["application/json"]["example"] | {"tasks": ["t0"]}
    assert send(make_app(), "POST", "/v1/predict", json=example).status_code == 200


def test_the_examples_of_answers_are_valid(document: dict[str, Any]) -> None:
    for name in ("PredictResponse", "ErrorBody"):
        found = document["components"]["schemas"][name]
        validator = Draft202012Validator(found | {"components": document["components"]})
        validator.validate(found["example"])


def test_answers_keep_to_their_schemas(document: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with running(make_app()) as client:
            for path in ("/v1/tasks", "/v1/model", "/v1/models", "/v1/limits", "/v2/health/ready"):
                response = await client.get(path)
                schema(document, path, "get", "200").validate(response.json())
            files = [("image", ("a", picture())), ("image", ("b", TRUNCATED))]
            response = await client.post("/v1/predict", files=files)
            schema(document, "/v1/predict", "post", "200").validate(response.json())
            response = await client.post("/v1/predict", files=files[1:])
            schema(document, "/v1/predict", "post", "422").validate(response.json())

    asyncio.run(scenario())


def test_every_operation_has_a_summary_and_documented_errors(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["description"], path
            for status, response in operation["responses"].items():
                if status != "200":
                    reference = response["content"]["application/json"]["schema"]["$ref"]
                    assert reference.endswith("/ErrorBody"), (path, status)


def test_the_page_of_documentation_is_there() -> None:
    assert "openapi.json" in send(make_app(), "GET", "/docs").text


def test_with_keys_guarded_operations_say_so_and_probes_do_not(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write_keys(path, [make_key(["predict"])[1]])
    found = send(make_app(api_keys_file=path), "GET", "/openapi.json").json()
    guarded = found["paths"]["/v1/predict"]["post"]
    assert {name for way in guarded["security"] for name in way} == set(
        found["components"]["securitySchemes"]
    )
    assert {"401", "403"} <= set(guarded["responses"])
    for probe in ("/v2/health/live", "/metrics", "/v2/models/{name}/ready"):
        assert "security" not in found["paths"][probe]["get"]
        assert "401" not in found["paths"][probe]["get"]["responses"]
