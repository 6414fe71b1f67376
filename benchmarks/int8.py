"""One task's cut-out subnet in 8-bit integers, as PyTorch offers it on a CPU, against the engine.

    python -m benchmarks.int8

Weights with a scale per output, activations with a scale per layer from calibration images, all
static: oneDNN's quantized convolution with ReLU and requantisation fused in, which uses VNNI or AMX
where the processor has them. The first convolution reads the image and stays float32, as usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from benchmarks.cut_subnet import PAUSE_S, cells, network_of
from benchmarks.report import RESULTS, Report
from benchmarks.timing import ratio, side_by_side
from model.rows import RowBatch
from model.strategies import make_forward, sample_batch
from model.subnet_module import SubnetModule

_ONE = [1, 1]
_LEVELS = 255  # of an activation behind a ReLU: from 0 on, no zero point


class Int8Conv:
    """Convolution -> ReLU -> optional pool from integers to integers (to float32: the last)."""

    def __init__(
        self, block: nn.Module, size: Sequence[int], scale: float, to: float | None
    ) -> None:
        """``size``: of an input, [1, C, H, W]; ``scale`` of the inputs, ``to`` of the outputs."""
        conv = block.conv
        assert isinstance(conv, nn.Conv2d)
        self._pool, self._bias = block.pool is not None, conv.bias
        self._scale, self._to = scale, to
        self._scales = conv.weight.abs().amax(dim=(1, 2, 3)).clamp(min=1e-12) / 127
        quantized = (conv.weight / self._scales.view(-1, 1, 1, 1)).round().to(torch.int8)
        self._zeros = torch.zeros_like(self._scales, dtype=torch.int32)
        self._weight = torch.ops.onednn.qconv_prepack(
            quantized, self._scales, scale, 0, _ONE, _ONE, _ONE, 1, size
        )

    def __call__(self, x: Tensor) -> Tensor:
        to, dtype = (1.0, torch.float32) if self._to is None else (self._to, torch.uint8)
        y: Tensor = torch.ops.onednn.qconv_pointwise(
            x, self._scale, 0, self._weight, self._scales, self._zeros, self._bias,
            _ONE, _ONE, _ONE, 1, to, 0, dtype, "relu", [], "",
        )  # fmt: skip
        return _pool(y) if self._pool else y


class Int8Subnet:
    """The subnet with all but the first convolution in integers."""

    def __init__(self, subnet: SubnetModule, calibration: Tensor) -> None:
        self._subnet = subnet.to(memory_format=torch.channels_last)
        x = subnet.normalise(calibration)
        self._first, *others = subnet.trunk
        found = []  # by layer: its input for one image, and the scale of that
        for block in subnet.trunk:
            found.append((x[:1].shape, float(x.max()) / _LEVELS))
            x = block(x)
        self._first_scale = found[1][1]
        scales_to = [*(scale for _, scale in found[2:]), None]
        self._layers = [
            Int8Conv(block, list(size), scale, to)
            for block, (size, scale), to in zip(others, found[1:], scales_to, strict=True)
        ]

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [N, H, W, 3] -> logits float32 [N, outputs]."""
        x = self._first(self._subnet.normalise(images))
        x = (x / self._first_scale).round_().clamp_(max=_LEVELS).to(torch.uint8)
        for layer in self._layers:
            x = layer(x)
        logits: Tensor = self._subnet.head(x.mean(dim=(2, 3)))
        return logits


def _pool(y: Tensor) -> Tensor:
    """2x2 max pool; PyTorch's own takes no more than 127 values of integers, channels last."""
    if y.is_floating_point():
        return F.max_pool2d(y, 2)
    height, width = y.shape[2] // 2 * 2, y.shape[3] // 2 * 2
    upper, lower = y[:, :, 0:height:2], y[:, :, 1:height:2]
    rows = torch.maximum(upper, lower)
    return torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])


def measure(size: int, rows: int, keep: float, threads: int, rounds: int) -> dict[str, Any]:
    """Times of one task asked about ``rows`` images, and how far answers lie from float32's."""
    network = network_of(size, keep)
    batch = sample_batch(network, rows, 1)
    with torch.no_grad():
        int8 = Int8Subnet(SubnetModule(network, 0).eval(), sample_batch(network, 16, 1).images)
    forwards = {
        "float32": make_forward(network, "subnet", workers=threads),
        "bfloat16": make_forward(network, "subnet", dtype=torch.bfloat16, workers=threads),
    }
    runs = {name: _bound(forward, batch) for name, forward in forwards.items()}
    runs["int8"] = lambda: int8(batch.images)
    expected = runs["float32"]().sigmoid()
    timings = side_by_side(runs, rounds, pause=PAUSE_S)
    return {
        "size": size, "rows": rows, "keep": keep, "threads": threads,
        "seconds": {name: timing.rounds for name, timing in timings.items()},
        "int8_over": {name: ratio(timings[name], timings["int8"]) for name in forwards},
        "largest_dp": {name: float((run().sigmoid() - expected).abs().max())
                       for name, run in runs.items()},
    }  # fmt: skip


def _bound(forward: Any, batch: RowBatch) -> Any:
    return lambda: forward(batch)


def main(
    sizes: str = "64,224",
    rows: str = "1,8",
    keep: float = 0.4,
    threads: str = "1,2",
    rounds: int = 7,
    out: Annotated[Path | None, typer.Option(help="folder for the result")] = None,
) -> None:
    """Measure and write table and raw figures."""
    results = []
    for one in cells(measure, sizes=sizes, rows=rows, keep=keep, threads=threads, rounds=rounds):
        results.append(one)
        print(*(one[key] for key in ("threads", "size", "rows", "int8_over", "largest_dp")),
              flush=True)  # fmt: skip
    report = Report(out or RESULTS / "int8", "One cut-out subnet in 8-bit integers")
    report.table(
        ["threads", "px", "rows", "int8 / float32", "int8 / bfloat16", "max dp", "max dp bfloat16"],
        [[one["threads"], one["size"], one["rows"], one["int8_over"]["float32"],
          one["int8_over"]["bfloat16"], one["largest_dp"]["int8"], one["largest_dp"]["bfloat16"]]
         for one in results],
    )  # fmt: skip
    report.text(
        f"VGG-11-BN cut to one task, keep {keep:g}, all layers routed; float32 and bfloat16 are "
        "the engine's. Rows per second of int8 over theirs: above 1 int8 is faster. `max dp`: of a "
        "probability, from float32; random weights and random images."
    )
    report.write({"cells": results})


if __name__ == "__main__":
    typer.run(main)
