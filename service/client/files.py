"""Many files in few requests; a file that cannot be read or decoded costs only its own answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from service.client.answers import ImageAnswer, ImageFailed
from service.client.clients import Client
from service.client.errors import ServerRefusedError

# What one image, or too many together, can be refused for: asked again one by one.
_OF_IMAGES = frozenset(
    {
        "body_too_large",
        "image_too_large",
        "invalid_image",
        "too_many_images",
        "too_many_rows",
        "unsupported_image_type",
    }
)
_Named = tuple[str, bytes]


def ask_about_files(
    client: Client, files: Sequence[Path], tasks: Sequence[str] | None, batch: int
) -> Iterator[tuple[Path, ImageAnswer | ImageFailed]]:
    """Each file with its answer, or with the reason why it has none, in the order given.

    Raises:
        ClientError: the server cannot be asked, or refuses for a reason that lies in no file.
    """
    for start in range(0, len(files), batch):
        part = files[start : start + batch]
        read = [_read(path) for path in part]
        answers = iter(_ask(client, [found for found in read if isinstance(found, tuple)], tasks))
        for path, found in zip(part, read, strict=True):
            yield path, next(answers) if isinstance(found, tuple) else found


def _read(path: Path) -> _Named | ImageFailed:
    try:
        return str(path), path.read_bytes()
    except OSError as error:
        return ImageFailed(id=str(path), error=error.strerror or str(error), code="unreadable_file")


def _ask(
    client: Client, images: Sequence[_Named], tasks: Sequence[str] | None
) -> list[ImageAnswer | ImageFailed]:
    if not images:
        return []
    try:
        return client.predict(images, tasks).images
    except ServerRefusedError as error:
        if error.code not in _OF_IMAGES:
            raise
        if len(images) == 1:
            failed = ImageFailed(
                id=images[0][0], error=error.args[0], code=error.code, details=error.details
            )
            return [failed]
    return [answer for image in images for answer in _ask(client, [image], tasks)]
