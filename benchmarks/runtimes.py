"""One task's cut-out subnet: the engine against ONNX Runtime and OpenVINO, float32.

    python -m benchmarks.runtimes                 needs the extra "bench"

The subnet is exported once, batch norm folded and channels cut, so that every runtime is given the
same dense network; answers are compared before anything is timed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks.cut_subnet import PAUSE_S, TASKS, cells, network_of
from benchmarks.report import RESULTS, Report
from benchmarks.timing import ratio, side_by_side
from model.network import RoutedNetwork
from model.rows import RowBatch
from model.strategies import make_forward, sample_batch
from model.subnet_module import SubnetModule

Run = Callable[[], NDArray[np.float32]]
TOLERANCE = 1e-4


def engine(network: RoutedNetwork, batch: RowBatch, threads: int) -> Run:
    """The service's own way to run the rows."""
    forward = make_forward(network, "subnet", workers=threads)
    return lambda: forward(batch).numpy()


def eager(subnet: SubnetModule, batch: RowBatch) -> Run:
    """The same dense network in plain PyTorch, channels last."""
    subnet = subnet.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run() -> NDArray[np.float32]:
        answer: NDArray[np.float32] = subnet(batch.images).numpy()
        return answer

    return run


def onnx_runtime(path: Path, batch: RowBatch, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: batch.images.numpy()}
    return lambda: session.run(None, feed)[0]


def openvino(path: Path, batch: RowBatch, threads: int) -> Run:
    import openvino

    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        # On processors with bfloat16 it would otherwise lower the precision by itself.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(path, "CPU", settings).create_infer_request()
    pixels = openvino.Tensor(batch.images.numpy(), shared_memory=True)
    return lambda: request.infer([pixels])[0]


def measure(size: int, rows: int, keep: float, threads: int, rounds: int) -> dict[str, Any]:
    """Times of one task asked about ``rows`` images, and how the engine compares."""
    network = network_of(size, keep)
    batch = sample_batch(network, rows, 1)
    subnet = SubnetModule(network, 0).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "subnet.onnx"
        torch.onnx.export(subnet, (batch.images,), path, dynamo=True, verbose=False)
        runs = {
            "engine": engine(network, batch, threads),
            "eager": eager(subnet, batch),
            "ONNX Runtime": onnx_runtime(path, batch, threads),
            "OpenVINO": openvino(path, batch, threads),
        }
        answers = {name: run() for name, run in runs.items()}
        for name, answer in answers.items():
            difference = float(np.abs(answer - answers["engine"]).max())
            if difference > TOLERANCE:
                raise RuntimeError(f"{name} differs from the engine by {difference:g} in a logit")
        timings = side_by_side(runs, rounds, pause=PAUSE_S)
    best = min((name for name in runs if name != "engine"), key=lambda name: timings[name].median)
    return {
        "size": size, "rows": rows, "keep": keep, "threads": threads,
        "seconds": {name: timing.rounds for name, timing in timings.items()},
        "rows_per_s": {name: rows / timing.median for name, timing in timings.items()},
        "best_other": best,
        "engine_over": {name: ratio(timings[name], timings["engine"])
                        for name in runs if name != "engine"},
    }  # fmt: skip


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
        print(*(one[key] for key in ("threads", "size", "rows", "engine_over")), flush=True)
    report = Report(out or RESULTS / "runtimes", "One cut-out subnet in several runtimes")
    others = ["eager", "ONNX Runtime", "OpenVINO"]
    report.table(
        ["threads", "px", "rows", *(f"engine / {name}" for name in others), "best other"],
        [[one["threads"], one["size"], one["rows"],
          *(one["engine_over"][name] for name in others), one["best_other"]] for one in results],
    )  # fmt: skip
    report.text(
        f"VGG-11-BN cut to one task of {TASKS}, keep {keep:g}, all layers routed, float32. Rows "
        "per second of the engine over those of the runtime: above 1 the engine is faster. Its "
        "time includes what it does for many tasks: the plan, the weight cache, the head bank."
    )
    report.write({"cells": results})


if __name__ == "__main__":
    typer.run(main)
