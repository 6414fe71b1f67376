"""The pages: served whole, from here alone, under a strict policy, every control with a name."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from service.http.routes.playground import static_files
from tests.service.http.apps import assert_error, make_app, send

PAGES = {"/": "page.html", "/docs": "docs.html"}
OURS = ["page.html", "docs.html", "page.css", "page.js", "samples.js", "docs.js", "icon.svg"]


class Elements(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))


def elements(name: str) -> list[tuple[str, dict[str, str]]]:
    return Elements(static_files()[name].content.decode()).found


@pytest.mark.parametrize("path", PAGES)
def test_a_page_comes_with_a_policy_that_allows_no_inline_script_and_nothing_foreign(
    path: str,
) -> None:
    response = send(make_app(), "GET", path)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(
        part.strip().split(" ", 1)
        for part in response.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert not re.search("unsafe|https?:|\\*", " ".join(policy.values()))
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", PAGES.values())
def test_everything_a_page_names_is_served_here(name: str) -> None:
    app, places = make_app(), []
    for tag, attributes in elements(name):
        assert not [key for key in attributes if key.startswith("on") or key == "style"], tag
        places += [attributes[key] for key in ("src", "href") if attributes.get(key)]
    local = [place for place in places if not place.startswith("#")]
    assert len(local) >= 4
    for place in local:
        assert place.startswith("/")
        assert not place.startswith("//")
        assert send(app, "GET", place).status_code == 200, place


@pytest.mark.parametrize("name", OURS)
def test_our_files_name_no_other_place(name: str) -> None:
    text = static_files()[name].content.decode().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//[a-z]+\.|@import|\burl\(|eval\(|innerHTML", text)


def test_no_script_stands_inside_a_page() -> None:
    for name in PAGES.values():
        text = static_files()[name].content.decode()
        assert re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL).count("") == 2
        assert "<style" not in text


def test_every_control_has_a_name() -> None:
    found = elements("page.html")
    labelled = {attributes["for"] for tag, attributes in found if tag == "label"}
    inputs = [attributes for tag, attributes in found if tag in ("input", "select", "textarea")]
    assert len(inputs) == 4
    assert [control for control in inputs if control["id"] not in labelled] == []
    text = static_files()["page.html"].content.decode()
    buttons = re.findall(r"<button[^>]*>(.*?)</button>", text, re.DOTALL)
    assert len(buttons) == 5
    assert all(name.strip() for name in buttons)
    ids = [attributes["id"] for _, attributes in found if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in found:
        assert attributes.get("aria-labelledby", ids[0]) in ids
    assert ("html", {"lang": "en"}) in found


def test_every_id_that_the_script_looks_up_is_there() -> None:
    wanted = set(re.findall(r'\bat\("([\w-]+)"\)', static_files()["page.js"].content.decode()))
    there = {attributes.get("id") for _, attributes in elements("page.html")}
    assert len(wanted) > 10
    assert wanted <= there


def test_an_unchanged_file_is_not_sent_again() -> None:
    app = make_app()
    first = send(app, "GET", "/static/page.js")
    again = send(app, "GET", "/static/page.js", headers={"If-None-Match": first.headers["etag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")


@pytest.mark.parametrize(
    "name", ["none.js", "..%2Fapp.py", "%2e%2e%2fapp.py", "page.html%00.js", "a/b"]
)
def test_no_other_file_can_be_had(name: str) -> None:
    assert_error(send(make_app(), "GET", f"/static/{name}"), 404, "not_found")


def test_swagger_ui_comes_with_its_licence() -> None:
    assert "Apache License" in static_files()["swagger-ui-LICENSE.txt"].content.decode()
