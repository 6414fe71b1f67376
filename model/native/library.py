"""Finds the compiled kernels that this processor can run, and calls them."""

from __future__ import annotations

import ctypes
import logging
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from model.forward import Computing, nobody_waits

logger = logging.getLogger(__name__)

Algorithm = Literal["direct", "winograd", "winograd kept"]
"""Directly; by Winograd's algorithm, the weights transformed in every call, or kept transformed:
the same bits, four times the memory. Winograd's needs 5 inputs: fewer have an order of their own.
"""

# As PyTorch names what the processor has and ATEN_CPU_CAPABILITY allows, best first.
_LEVELS = ("AVX512", "AVX2")

# The structures of chain.hpp.
_LAYER = struct.Struct("=2Q4i")
_HEAD = struct.Struct("=4Q2q")
_JOB = struct.Struct("=8Q6q")

_ALGORITHMS: dict[Algorithm, int] = {"direct": 0, "winograd": 1, "winograd kept": 2}
_INTERFACE = 2  # chain.hpp has the same number
_POINTS = 36  # of a kernel transformed for Winograd's algorithm


@dataclass(frozen=True, eq=False)
class PackedConv:
    """A convolution's weight and bias in the order that the kernels read."""

    weight: Tensor
    bias: Tensor
    inputs: int
    outputs: int
    pool: bool
    algorithm: Algorithm
    record: bytes = field(init=False)

    def __post_init__(self) -> None:
        record = _LAYER.pack(
            self.weight.data_ptr(), self.bias.data_ptr(), self.inputs, self.outputs,
            self.pool, _ALGORITHMS[self.algorithm],
        )  # fmt: skip
        object.__setattr__(self, "record", record)

    @property
    def bytes(self) -> int:
        return self.weight.nbytes + self.bias.nbytes


@dataclass(frozen=True, eq=False)
class PackedHead:
    """A task's head in the order that the kernels read."""

    tensors: tuple[Tensor, ...]  # embedding weight and bias, logits weight and bias
    embedding: int
    outputs: int
    record: bytes = field(init=False)

    def __post_init__(self) -> None:
        pointers = [tensor.data_ptr() if len(tensor) else 0 for tensor in self.tensors]
        object.__setattr__(self, "record", _HEAD.pack(*pointers, self.embedding, self.outputs))


@dataclass(frozen=True, eq=False)
class Chain:
    """Convolutions one after the other, the mean over the pixels, a head; on some images."""

    layers: Sequence[PackedConv]
    head: PackedHead
    x: Tensor  # float32 [N, C, H, W], channels last; or the images themselves, uint8 [N, H, W, C]
    images: Sequence[int]  # positions in x
    select: Tensor | None = None  # int64: the channels that the first layer reads, None for all


class Library:
    """One compiled instruction set."""

    def __init__(self, path: Path) -> None:
        self.name = path.name.split(".")[0].lstrip("_")  # "avx512"
        library = ctypes.CDLL(str(path))
        self._lanes: int = library.vector_floats()
        self._pack, self._transform, self._run = library.pack, library.transform, library.run
        pointer, long, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
        self._pack.argtypes = [pointer, long, long, pointer]
        self._transform.argtypes = self._pack.argtypes
        self._pack.restype = self._transform.restype = None
        self._run.argtypes = [ctypes.c_char_p, long, number]
        self._run.restype = number

    def pack(
        self, weight: Tensor, bias: Tensor, *, pool: bool, algorithm: Algorithm = "direct"
    ) -> PackedConv:
        """``weight``: float32 [out, in, 3, 3]; ``bias``: [out]."""
        outputs, inputs = weight.shape[:2]
        weight, values = weight.contiguous(), inputs * self._padded(outputs)
        packed = torch.empty(9 * values)
        self._pack(weight.data_ptr(), inputs, outputs, packed.data_ptr())
        if algorithm == "winograd kept":
            transformed = torch.empty(_POINTS * values)
            self._transform(packed.data_ptr(), inputs, outputs, transformed.data_ptr())
            packed = transformed
        return PackedConv(packed, self._pad(bias), inputs, outputs, pool, algorithm)

    def pack_head(
        self, embed: tuple[Tensor, Tensor] | None, weight: Tensor, bias: Tensor
    ) -> PackedHead:
        """``embed``: [embedding, features] and [embedding], None for logits straight from features;
        ``weight``: [outputs, embedding or features]; ``bias``: [outputs]."""
        logits = (self._pad(weight.T), self._pad(bias))
        if embed is None:
            return PackedHead((torch.empty(0), torch.empty(0), *logits), 0, len(bias))
        tensors = (self._pad(embed[0].T), self._pad(embed[1]), *logits)
        return PackedHead(tensors, len(embed[1]), len(bias))

    def convolve(self, x: Tensor, layer: PackedConv, threads: int) -> Tensor:
        """[N, in, H, W] -> [N, out, H', W'], channels last."""
        count, _, height, width = x.shape
        if layer.pool:
            height, width = height // 2, width // 2
        out = torch.empty(count, height, width, layer.outputs)
        job = _Job([layer], x, range(count), None, None, None, out.data_ptr(), 0)
        self._run_jobs([job], threads)
        return out.permute(0, 3, 1, 2)

    def logits(
        self,
        chains: Sequence[Chain],
        levels: Tensor,
        max_outputs: int,
        threads: int,
        computing: Computing = nobody_waits,
    ) -> Tensor:
        """All chains' images in order: [sum of images, max_outputs], -inf beyond a head's outputs.

        Chains are spread over ``threads``; where there are fewer chains, their layers are.

        Args:
            levels: float32 [C, 256], the value of each pixel of uint8 images.
            computing: called when all that is left runs outside of the interpreter.

        Raises:
            MemoryError: no room for the activations.
        """
        rows = sum(len(chain.images) for chain in chains)
        out = torch.full((rows, max_outputs), -math.inf)
        at, jobs = out.data_ptr(), []
        for chain in chains:
            jobs.append(
                _Job(
                    chain.layers, chain.x, chain.images, chain.select, chain.head, levels, at,
                    max_outputs,
                )
            )  # fmt: skip
            at += len(chain.images) * out.stride(0) * out.element_size()
        self._run_jobs(jobs, threads, computing)
        return out

    def _run_jobs(
        self, jobs: Sequence[_Job], threads: int, computing: Computing = nobody_waits
    ) -> None:
        records = b"".join([job.record for job in jobs])
        computing()
        if self._run(records, len(jobs), threads) != 0:
            raise MemoryError(f"no memory for the activations of {len(jobs)} chains")

    def _padded(self, outputs: int) -> int:
        return -(-outputs // self._lanes) * self._lanes

    def _pad(self, tensor: Tensor) -> Tensor:
        """With zeros behind the last dimension, up to whole vectors."""
        return F.pad(tensor, (0, self._padded(tensor.shape[-1]) - tensor.shape[-1])).contiguous()


class _Job:
    """The structure ``Job`` and what it points at."""

    def __init__(
        self,
        layers: Sequence[PackedConv],
        x: Tensor,
        images: Sequence[int],
        select: Tensor | None,
        head: PackedHead | None,
        levels: Tensor | None,
        out: int,
        stride: int,
    ) -> None:
        pixels = x.dtype == torch.uint8
        x = (x if pixels else x.permute(0, 2, 3, 1)).contiguous()
        records = b"".join([layer.record for layer in layers])
        places = struct.pack(f"={len(images)}i", *images)
        _, height, width, total = x.shape
        self.kept = (x, records, places, select, head, levels)
        self.record = _JOB.pack(
            _address(records),
            0 if pixels else x.data_ptr(),
            x.data_ptr() if pixels else 0,
            0 if levels is None else levels.data_ptr(),
            _address(places),
            0 if select is None else select.data_ptr(),
            0 if head is None else _address(head.record),
            out,
            len(layers), len(images), total, height, width, stride,
        )  # fmt: skip


@cache
def native_library() -> Library | None:
    """The kernels for this processor, None where none were compiled or none can run."""
    capability = torch.backends.cpu.get_cpu_capability()
    if capability not in _LEVELS:
        return None
    for level in _LEVELS[_LEVELS.index(capability) :]:
        for path in sorted(Path(__file__).parent.glob(f"_{level.lower()}.*.so")):
            found = _interface(path)
            if found == _INTERFACE:
                return Library(path)
            logger.warning(
                "%s was compiled from other sources than these (interface %d, not %d): everything "
                "runs in PyTorch's operators, slower; install the package again (make venv)",
                path.name, found, _INTERFACE,
            )  # fmt: skip
            return None
    return None


def _interface(path: Path) -> int:
    """The version of a library's interface; 1 where it does not say."""
    version = getattr(ctypes.CDLL(str(path)), "interface_version", None)
    return 1 if version is None else int(version())


def _address(data: bytes) -> int:
    """Where the bytes lie, for as long as somebody holds them."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
