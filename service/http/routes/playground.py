"""``GET /``: a page to try the service on; ``GET /docs``: the API. Neither loads anything from
elsewhere, and their policy would not let them."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath
from typing import NamedTuple

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

router = APIRouter(include_in_schema=False)

_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class StaticFile(NamedTuple):
    """A file of the pages, as it is sent."""

    content: bytes
    headers: dict[str, str]


@router.get("/")
async def page(request: Request) -> Response:
    """The playground."""
    return _send("page.html", request)


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The API, shown by Swagger UI."""
    return _send("docs.html", request)


@router.get("/static/{name}")
async def static(name: str, request: Request) -> Response:
    """One of the pages' files."""
    return _send(name, request)


@cache
def static_files() -> dict[str, StaticFile]:
    """All of them by name, read once: a name from outside never becomes a path."""
    found = {}
    for file in files("service.http").joinpath("static").iterdir():
        media_type = _MEDIA_TYPES.get(PurePosixPath(file.name).suffix)
        if media_type is None:
            continue
        content = file.read_bytes()
        headers = {
            "Content-Type": media_type,
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            # Asked for every time, sent only when changed: a new release is seen at once.
            "Cache-Control": "no-cache",
            "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        }
        found[file.name] = StaticFile(content, headers)
    return found


def _send(name: str, request: Request) -> Response:
    file = static_files().get(name)
    if file is None:
        raise HTTPException(404)
    if request.headers.get("if-none-match") == file.headers["ETag"]:
        return Response(status_code=304, headers=file.headers)
    return Response(file.content, headers=file.headers)
