"""Errors raised on purpose.

    TaskRouteError
    ├── ConfigError            a model, routing or training configuration that cannot work
    │   └── ModelTooLargeError     one that takes more memory than it may
    ├── UnknownTaskError       task names or groups that the model does not have
    ├── ImageError
    │   ├── InvalidImageError      empty, truncated or undecodable bytes
    │   ├── UnsupportedImageError  a file type outside the accepted list
    │   └── ImageTooLargeError     more bytes or pixels than the limits allow
    ├── BundleError            a damaged, incomplete or too new model bundle
    └── RepositoryError        an unreadable repository, an unknown model or version
        ├── UnknownModelError
        ├── UnknownVersionError
        └── LatestMovedError   another version was published or named first

Every error has a ``code`` (stable, for programs), a message (for people: the value seen, the limit,
the next step) and ``details`` (data, JSON-serialisable).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

_NAMED_IN_MESSAGE = 10
# What one request may put into an answer and into a log.
_NAMED_IN_DETAILS = 20
_NAME_CHARACTERS = 100


class TaskRouteError(Exception):
    """Base of every error that this project raises on purpose."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = details


class ConfigError(TaskRouteError):
    """A configuration that cannot work; the message names the setting and its value."""

    code = "invalid_config"


class ModelTooLargeError(ConfigError):
    """A model that takes more memory than it may; found before any of it is allocated."""

    code = "model_too_large"


class UnknownTaskError(TaskRouteError):
    """Names or groups that the model does not have, each with the nearest existing ones.

    Message and details name the first ones only, and those cut short; ``unknown`` has them all.
    """

    code = "unknown_task"

    def __init__(self, unknown: Sequence[str], nearest: Mapping[str, Sequence[str]]) -> None:
        hints = [
            f"{_cut(name)!r} (did you mean {', '.join(map(repr, nearest[name]))}?)"
            if nearest.get(name)
            else repr(_cut(name))
            for name in unknown[:_NAMED_IN_MESSAGE]
        ]
        if len(unknown) > len(hints):
            hints.append(f"and {len(unknown) - len(hints)} more")
        told = unknown[:_NAMED_IN_DETAILS]
        super().__init__(
            f"unknown task: {', '.join(hints)}",
            unknown=[_cut(name) for name in told],
            nearest={_cut(name): list(nearest.get(name, ())) for name in told},
            count=len(unknown),
        )
        self.unknown = list(unknown)
        self.nearest = {name: list(nearest.get(name, ())) for name in unknown}

    def __reduce__(self) -> tuple[type[UnknownTaskError], tuple[list[str], dict[str, list[str]]]]:
        # The base rebuilds an exception from its message alone, which is not what this one takes.
        return type(self), (self.unknown, self.nearest)


def _cut(name: str) -> str:
    return name[:_NAME_CHARACTERS]


class ImageError(TaskRouteError):
    """Bytes that cannot be used as an image."""

    code = "invalid_image"


class InvalidImageError(ImageError):
    """Empty, truncated or undecodable image bytes."""

    code = "invalid_image"


class UnsupportedImageError(ImageError):
    """Bytes that are an image of no accepted type, or no image at all."""

    code = "unsupported_image_type"


class ImageTooLargeError(ImageError):
    """More bytes or pixels than the limits allow; found before decoding."""

    code = "image_too_large"


class BundleError(TaskRouteError):
    """A bundle that is damaged, incomplete, or newer than this code; names the file and why."""

    code = "bad_bundle"


class RepositoryError(TaskRouteError):
    """A repository that cannot be read or written."""

    code = "repository_unreadable"


class UnknownModelError(RepositoryError):
    """A model name without a published version."""

    code = "unknown_model"


class UnknownVersionError(RepositoryError):
    """A version that was never published, or was pruned."""

    code = "unknown_version"


class LatestMovedError(RepositoryError):
    """LATEST names another version than the one that was to be replaced."""

    code = "latest_moved"
