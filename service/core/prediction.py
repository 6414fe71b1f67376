"""What a prediction is, before any protocol renders it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from model.errors import TaskRouteError
from service.core.decisions import Floats, Indices
from service.core.job import Pixels
from service.core.served import ServedModel


@dataclass(frozen=True)
class EncodedImage:
    """An image as it came, a file or pixels, or why its bytes could not even be read."""

    id: str
    content: bytes | Pixels = b""  # pixels: [h, w, 3], RGB, of any size
    error: TaskRouteError | None = None

    @property
    def size(self) -> int:
        """Bytes of memory that the content takes."""
        return self.content.nbytes if isinstance(self.content, np.ndarray) else len(self.content)


@dataclass(frozen=True)
class ImageAnswer:
    """Answers about one image, task by task in the order asked."""

    id: str
    probabilities: Floats  # [T, columns]: per class; a binary task's P(classes[1]) is column 1
    labels: Indices  # [T] index of the class that is said
    row_errors: Mapping[int, TaskRouteError] = field(default_factory=dict)  # by position, 0..T-1


@dataclass(frozen=True)
class ImageFailure:
    """Why there are no answers about one image."""

    id: str
    error: TaskRouteError


@dataclass(frozen=True)
class Timing:
    """Where a request's time went, in seconds."""

    decode: float = 0.0
    queue: float = 0.0
    compute: float = 0.0  # of the batches that its rows were in
    began: float = 0.0  # clock seconds, of decoding


@dataclass(frozen=True)
class Prediction:
    """Everything that one request is answered, by exactly one model version."""

    model: ServedModel
    tasks: Indices  # [T]
    images: Sequence[ImageAnswer | ImageFailure]
    timing: Timing
