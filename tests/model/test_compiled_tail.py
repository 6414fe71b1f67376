"""One compiled function for the tails of all tasks; where there is no compiler, none."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from model.compiled_tail import CompiledTail
from model.network import RoutedNetwork
from model.rows import RowBatch
from model.strategies import make_forward, sample_batch
from model.tasks import Task
from tests.model.networks import make_network

CPU = torch.device("cpu")


class Counting:
    """A compiler's backend that compiles nothing and counts how often it is asked to."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward


def use(monkeypatch: pytest.MonkeyPatch, compiler: Callable[..., Any]) -> None:
    monkeypatch.setattr(
        "model.subnet_forward.CompiledTail", partial(CompiledTail, compiler=compiler)
    )


@pytest.fixture
def network() -> RoutedNetwork:
    return make_network(tuple(Task(name=f"t{index}") for index in range(6)))


def assert_answers_like_masked(network: RoutedNetwork, forward: Any) -> None:
    for images in (1, 2, 4):
        batch = sample_batch(network, images=images)
        expected = make_forward(network, "masked")(batch)
        assert torch.allclose(forward(batch), expected, atol=1e-4)


def test_one_function_for_all_tasks_and_any_number_of_images(
    network: RoutedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Counting()
    use(monkeypatch, partial(torch.compile, backend=backend))
    torch._dynamo.reset()
    forward = make_forward(network, "subnet", native=False, compiled=True)
    compiled = backend.graphs
    assert 1 <= compiled <= 3, "for one image, for two, for any number"
    assert_answers_like_masked(network, forward)
    assert backend.graphs == compiled, "nothing is left to be compiled while requests wait"
    assert forward.kernels == "torch.compile"


def test_without_a_compiler_everything_runs_as_usual_and_the_log_says_why(
    network: RoutedNetwork, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(function: Callable[..., Any], **options: Any) -> Callable[..., Tensor]:
        def run(*arguments: Any) -> Tensor:
            raise TorchDynamoException("no C++ compiler\nin 20 places")

        return run

    use(monkeypatch, broken)
    forward = make_forward(network, "subnet", native=False, compiled=True)
    assert forward.kernels == "pytorch"
    [line] = caplog.messages
    assert "compile_subnets" in line
    assert line.endswith("no C++ compiler")
    batch = sample_batch(network, images=2)
    usual = make_forward(network, "subnet", native=False)
    assert torch.equal(forward(batch), usual(batch))


def test_a_fault_that_is_not_the_compilers_is_raised(network: RoutedNetwork) -> None:
    def failing(function: Callable[..., Any], **options: Any) -> Callable[..., Tensor]:
        def run(*arguments: Any) -> Tensor:
            raise MemoryError

        return run

    with pytest.raises(MemoryError):
        CompiledTail(CPU, failing)(torch.zeros(1, 3, 4, 4), [])


def test_graphs_on_a_gpu_only() -> None:
    asked: list[dict[str, Any]] = []

    def compiler(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        asked.append(options)
        return function

    for name in ("cpu", "cuda"):
        CompiledTail(torch.device(name), compiler)
    assert asked == [{}, {"mode": "reduce-overhead"}]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_for_real(network: RoutedNetwork, dtype: torch.dtype) -> None:
    torch._dynamo.reset()
    forward = make_forward(network, "subnet", native=False, compiled=True, dtype=dtype)
    batch = sample_batch(network, images=3)
    usual = make_forward(network, "subnet", native=False, dtype=dtype)(batch)
    assert torch.allclose(forward(batch), usual, atol=1e-4 if dtype == torch.float32 else 0.1)
    assert forward.kernels == "torch.compile"


@pytest.mark.gpu
def test_on_a_gpu_graphs_answer_row_by_row(network: RoutedNetwork) -> None:
    on_gpu = RoutedNetwork(network.config)
    on_gpu.load_state_dict(network.state_dict())
    forward = make_forward(on_gpu, "subnet", "cuda", compiled=True)
    assert forward.kernels == "torch.compile"
    for images in (1, 2, 4):
        batch = sample_batch(network, images=images)
        expected = make_forward(network, "masked")(batch)
        for _ in range(3):  # recorded, then replayed
            assert torch.allclose(forward(batch), expected, atol=1e-2)
    alone = RowBatch(batch.images, batch.image_index[:1], batch.task_index[:1])
    assert torch.allclose(forward(alone), expected[:1], atol=1e-2)
