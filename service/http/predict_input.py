"""The three forms of a prediction request, read into one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from service.core.decoder import Decoder
from service.core.errors import (
    InvalidFieldError,
    MalformedRequestError,
    RequestError,
    TooManyImagesError,
    UnsupportedMediaTypeError,
)
from service.core.images_given import checked_count, decode_base64
from service.core.prediction import EncodedImage

IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp")
JSON_TYPE = "application/json"
FORM_TYPE = "multipart/form-data"
ACCEPTED_TYPES = (FORM_TYPE, *IMAGE_TYPES, JSON_TYPE)

# Larger JSON is parsed in the decode pool: base64 by the megabyte would stall the event loop.
PARSE_INLINE_BYTES = 64 * 1024
_MAX_FORM_PARTS = 1000
_MAX_TASKS_CHARS = 1024 * 1024  # of a form; split on the event loop
_FIRST_ID = "0"
_QUERY = ("model", "version")  # read before any body


class _Closed(BaseModel):
    """A model whose unknown fields are refused by :func:`_refuse_unknown`.

    Pydantic's own refusal makes an error for each: a request of a few megabytes would become
    gigabytes of them. For the same reason lists fail at their first wrong element.
    """

    model_config = ConfigDict(extra="allow", json_schema_extra={"additionalProperties": False})


class ImagePart(_Closed):
    """One image of a JSON request."""

    id: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="echoed with the answer; by default the position, from 0"
    )
    content: str = Field(description="the image file (JPEG, PNG or WebP) in base64")


class PredictBody(_Closed):
    """A JSON request."""

    images: Annotated[list[ImagePart], Field(fail_fast=True)] = Field(
        description="one or more images"
    )
    tasks: Annotated[list[str], Field(fail_fast=True)] | None = Field(
        default=None,
        description='task names, "group:NAME" or "*"; without it, all tasks',
    )


@dataclass(frozen=True)
class PredictInput:
    """What was asked, whatever the form."""

    images: Sequence[EncodedImage]
    selectors: Sequence[str] | None  # None: all tasks


async def read_predict_input(request: Request, decoder: Decoder, max_images: int) -> PredictInput:
    """Read the body of ``POST /v1/predict`` by its Content-Type.

    Raises:
        RequestError: in one of its kinds; the body is of no accepted type, does not parse or has a
            field that cannot be used.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise UnsupportedMediaTypeError(
            f"Content-Encoding is {encoding[:40]!r}; send the body as it is", accepted=["identity"]
        )
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type in IMAGE_TYPES:
        return await _read_raw(request)
    _refuse_query(request, allowed=_QUERY)
    if media_type == FORM_TYPE:
        return await _read_form(request, max_images)
    if media_type == JSON_TYPE:
        body = await request.body()
        if len(body) <= PARSE_INLINE_BYTES:
            return parse_json(body, max_images)
        return await decoder.run(parse_json, body, max_images)
    raise UnsupportedMediaTypeError(
        f"Content-Type is {media_type[:100]!r}; accepted are {', '.join(ACCEPTED_TYPES)}",
        accepted=list(ACCEPTED_TYPES),
    )


def parse_json(body: bytes, max_images: int) -> PredictInput:
    """Parse a JSON request. CPU-bound."""
    try:
        parsed = PredictBody.model_validate_json(body)
    except ValidationError as error:
        raise refused_json(error) from None
    _refuse_unknown(parsed, "")
    parts = checked_count(parsed.images, max_images)
    for position, part in enumerate(parts):
        _refuse_unknown(part, f"images.{position}.")
    images = [
        decode_base64(part.id or str(position), part.content) for position, part in enumerate(parts)
    ]
    ids = [image.id for image in images]
    if len(set(ids)) != len(ids):
        raise InvalidFieldError(
            "two images have the same id; ids default to the position, from 0", field="images"
        )
    return PredictInput(images, parsed.tasks)


def split_selectors(values: Sequence[str]) -> list[str]:
    """Selectors from comma-separated lists; blank ones are dropped, so the result may be empty."""
    return [name for value in values for part in value.split(",") if (name := part.strip())]


async def _read_raw(request: Request) -> PredictInput:
    _refuse_query(request, allowed=("tasks", *_QUERY))
    values = request.query_params.getlist("tasks")
    content = await request.body()
    return PredictInput(
        [EncodedImage(_FIRST_ID, content)], split_selectors(values) if values else None
    )


async def _read_form(request: Request, max_images: int) -> PredictInput:
    try:
        async with aclosing(request.stream()) as stream:
            parser = MultiPartParser(
                request.headers, stream, max_files=_MAX_FORM_PARTS, max_fields=_MAX_FORM_PARTS
            )
            # Never to a disk and back, as photos would be by default: the body's limit bounds them.
            parser.spool_max_size = 0
            form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise TooManyImagesError(
                f"the request has more than {_MAX_FORM_PARTS} files; the limit is {max_images} "
                "(max_images)",
                max_images=max_images,
            ) from None
        raise MalformedRequestError(f"the multipart body does not parse: {error.message}") from None
    try:
        return await _from_form(form, max_images)
    finally:
        await form.close()


async def _from_form(form: FormData, max_images: int) -> PredictInput:
    unknown = sorted(set(form) - {"image", "tasks"})
    if unknown:
        raise InvalidFieldError(
            f"unknown form fields: {', '.join(unknown)[:200]}; there are image and tasks",
            field=unknown[0][:100],
        )
    files = form.getlist("image")
    if any(not isinstance(file, UploadFile) for file in files):
        raise InvalidFieldError(
            'form field "image" is text; send a file (curl: -F image=@photo.jpg)', field="image"
        )
    values = form.getlist("tasks")
    if any(isinstance(value, UploadFile) for value in values):
        raise InvalidFieldError('form field "tasks" is a file; send text', field="tasks")
    images = [
        EncodedImage(str(position), await file.read())
        for position, file in enumerate(checked_count(files, max_images))
        if isinstance(file, UploadFile)
    ]
    texts = [value for value in values if isinstance(value, str)]
    if (characters := sum(map(len, texts))) > _MAX_TASKS_CHARS:
        raise InvalidFieldError(
            f'form field "tasks" has {characters} characters; the limit is {_MAX_TASKS_CHARS}: '
            'leave it out for all tasks, or name groups ("group:NAME")',
            field="tasks",
        )
    return PredictInput(images, split_selectors(texts) if values else None)


def refused_json(error: ValidationError) -> RequestError:
    """What to tell a caller about JSON that is none, or has a wrong field."""
    # Never with the input: it may be an image.
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    if problems[0]["type"] == "json_invalid":
        return MalformedRequestError(f"the body is not JSON: {problems[0]['msg']}")
    fields = [
        {"field": ".".join(map(str, problem["loc"])) or "body", "message": problem["msg"]}
        for problem in problems[:20]
    ]
    first = fields[0]
    return InvalidFieldError(
        f"{first['field']}: {first['message']}", field=first["field"], fields=fields
    )


def _refuse_unknown(given: _Closed, place: str) -> None:
    if given.model_extra:
        field = f"{place}{next(iter(given.model_extra))[:100]}"
        known = ", ".join(type(given).model_fields)
        raise InvalidFieldError(f"unknown field {field!r}; there are {known}", field=field)


def _refuse_query(request: Request, allowed: Sequence[str]) -> None:
    unknown = [name for name in request.query_params if name not in allowed]
    if unknown:
        known = ", ".join(allowed)
        hint = "" if "tasks" in allowed else "; with this Content-Type tasks are named in the body"
        raise InvalidFieldError(
            f"unknown query parameter {unknown[0][:100]!r}; accepted: {known}{hint}",
            field=unknown[0][:100],
        )
