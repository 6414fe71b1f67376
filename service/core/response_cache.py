"""Answers that were computed before, by what they depend on, within a bound of bytes."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.core.decisions import Flags, Indices, Logits
from service.core.job import Pixels
from service.core.served import ServedModel

# Of an entry, beside its arrays' data: key, digest, array headers, place in the dictionary.
_OVERHEAD_BYTES = 640

Key = tuple[str, str, bytes]


@dataclass(frozen=True, slots=True)
class _Entry:
    tasks: npt.NDArray[np.int32]  # [K] ascending
    logits: Logits  # [K, max_outputs]

    @property
    def bytes(self) -> int:
        return _OVERHEAD_BYTES + self.tasks.nbytes + self.logits.nbytes


class ResponseCache:
    """Logits by bundle digest, preprocessing, decoded pixels and task; least recently used go.

    An entry holds all that is known about one image from one bundle: another bundle, or another
    preprocessing, is another key, so versions never mix. Event loop only.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        """Images with at least one answer."""
        return len(self._entries)

    def find(self, model: ServedModel, digest: bytes, tasks: Indices) -> tuple[Flags, Logits]:
        """Which of ``tasks`` [T] are known for an image, and their logits [T, max_outputs]."""
        key = _key(model, digest)
        entry = self._entries.get(key)
        if entry is None:
            return np.zeros(len(tasks), np.bool_), np.empty((0, model.max_outputs), np.float32)
        self._entries.move_to_end(key)
        place = np.minimum(np.searchsorted(entry.tasks, tasks), len(entry.tasks) - 1)
        return entry.tasks[place] == tasks, entry.logits[place]

    def keep(self, model: ServedModel, digest: bytes, tasks: Indices, logits: Logits) -> None:
        """Remember the logits [T, max_outputs] of distinct ``tasks`` [T] of an image."""
        if not len(tasks):
            return
        key = _key(model, digest)
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.bytes
            new = ~np.isin(tasks, entry.tasks)  # another request may have been faster
            tasks = np.concatenate([entry.tasks, tasks[new]])
            logits = np.concatenate([entry.logits, logits[new]])
        order = np.argsort(tasks)
        entry = _Entry(tasks[order].astype(np.int32), logits[order])
        self._entries[key] = entry
        self.bytes += entry.bytes
        while self.bytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self.bytes -= oldest.bytes


def pixel_digests(images: Sequence[Pixels]) -> list[bytes]:
    """SHA-256 of each image's decoded pixels. CPU-bound."""
    return [hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in images]


def _key(model: ServedModel, digest: bytes) -> Key:
    return model.digest, model.config.preprocess.id, digest
