from __future__ import annotations

from pathlib import Path

import pytest

from model.location import is_url, local_path, split_model


@pytest.mark.parametrize("text", ["s3://b/p", "gs://b", "memory://x", "abfss://c@a/p"])
def test_urls_are_told_from_paths(text: str) -> None:
    assert is_url(text)


@pytest.mark.parametrize("text", ["models", "/a/b", "./s3:/x", "a://b/c"[3:], "C:/x", "", "s3:/b"])
def test_paths_are_told_from_urls(text: str) -> None:
    assert not is_url(text)
    assert local_path(text) == Path(text)


def test_a_file_url_is_a_directory() -> None:
    assert not is_url("file:///a/b%20c")
    assert local_path("file:///a/b%20c") == Path("/a/b c")


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("models/net", ("models", "net")),
        ("net", (".", "net")),
        ("/a/models/net/", ("/a/models", "net")),
        ("file:///a/net", ("/a", "net")),
        ("s3://bucket/net", ("s3://bucket", "net")),
        ("s3://bucket/a/b/net/", ("s3://bucket/a/b", "net")),
    ],
)
def test_a_model_s_place_is_a_repository_and_a_name(model: str, parts: tuple[str, str]) -> None:
    assert split_model(model) == parts
