from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.batch_norm import BatchNorm


def make(channels: int = 5, rows: int = 1, seed: int = 0) -> BatchNorm:
    generator = torch.Generator().manual_seed(seed)
    norm = BatchNorm(channels, rows)
    with torch.no_grad():
        for values in (norm.weight, norm.bias, norm.running_mean):
            values.copy_(torch.randn(values.shape, generator=generator))
        norm.running_var.copy_(torch.rand(norm.running_var.shape, generator=generator) + 0.5)
    return norm


def reference(norm: BatchNorm) -> nn.BatchNorm2d:
    """torch's own layer with the same numbers."""
    other = nn.BatchNorm2d(norm.weight.shape[0])
    with torch.no_grad():
        other.weight.copy_(norm.weight)
        other.bias.copy_(norm.bias)
        assert other.running_mean is not None
        assert other.running_var is not None
        other.running_mean.copy_(norm.running_mean[0])
        other.running_var.copy_(norm.running_var[0])
    return other.train(norm.training)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("task", [0, 3, torch.tensor([2, 0, 1])])
def test_shared_statistics_are_those_of_torch(training: bool, task: int | Tensor) -> None:
    norm = make().train(training)
    other = reference(norm)
    for step in range(3):
        x = torch.randn(3, 5, 4, 4, generator=torch.Generator().manual_seed(step))
        assert torch.equal(norm(x, task), other(x))
    assert other.running_mean is not None
    assert other.running_var is not None
    assert torch.equal(norm.running_mean[0], other.running_mean)
    assert torch.equal(norm.running_var[0], other.running_var)


def test_gradients_are_those_of_torch() -> None:
    norm = make().train()
    other = reference(norm)
    x = torch.randn(3, 5, 4, 4)
    norm(x, 0).square().sum().backward()
    other(x).square().sum().backward()
    assert torch.equal(norm.weight.grad, other.weight.grad)  # type: ignore[arg-type]
    assert torch.equal(norm.bias.grad, other.bias.grad)  # type: ignore[arg-type]


def test_each_task_has_its_own_row() -> None:
    norm = make(rows=3).train()
    before = norm.running_mean.clone()
    norm(torch.randn(4, 5, 3, 3) + 7.0, 1)
    assert torch.equal(norm.running_mean[[0, 2]], before[[0, 2]])
    assert not torch.equal(norm.running_mean[1], before[1])
    assert norm.batches_seen.tolist() == [0, 1, 0]


@pytest.mark.parametrize("rows", [1, 3])
def test_rows_of_many_tasks_in_evaluation_equal_each_alone(rows: int) -> None:
    norm = make(rows=rows).eval()
    x, tasks = torch.randn(6, 5, 3, 3), [2, 0, 1, 1, 2, 0]
    together = norm(x, torch.tensor(tasks))
    alone = torch.cat([norm(x[row : row + 1], task) for row, task in enumerate(tasks)])
    assert torch.allclose(together, alone, atol=1e-6)


def test_rows_of_many_tasks_in_training_are_normalised_task_by_task() -> None:
    together, alone = make(rows=3).train(), make(rows=3).train()
    x, tasks = torch.randn(6, 5, 3, 3), torch.tensor([2, 0, 2, 0, 2, 0])
    out = together(x, tasks)
    for task in (0, 2):
        assert torch.allclose(out[tasks == task], alone(x[tasks == task], task), atol=1e-6)
    assert torch.allclose(together.running_mean, alone.running_mean)
    assert torch.allclose(together.running_var, alone.running_var)
    assert together.batches_seen.tolist() == [1, 0, 1]


def test_some_units_alone_equal_the_same_units_among_all() -> None:
    for training in (True, False):
        some, everything = make(rows=2).train(training), make(rows=2).train(training)
        units = torch.tensor([1, 4])
        before = some.running_mean.clone()
        x = torch.randn(3, 5, 4, 4)
        out = some.forward_units(x[:, units], 1, units)
        assert torch.allclose(out, everything(x, 1)[:, units], atol=1e-6)
        assert torch.allclose(some.running_mean[1, units], everything.running_mean[1, units])
        assert torch.allclose(some.running_var[1, units], everything.running_var[1, units])
        untouched = torch.tensor([0, 2, 3])
        assert torch.equal(some.running_mean[1, untouched], before[1, untouched])
        assert torch.equal(some.running_mean[0], before[0])


def test_several_forward_passes_before_one_backward_pass() -> None:
    norm = make(rows=2).train()
    units = torch.tensor([0, 3])
    x = torch.randn(3, 2, 4, 4, requires_grad=True)
    passes = [norm.forward_units(x, row, units) for row in (0, 1, 0)]
    (gradient,) = torch.autograd.grad(torch.stack(passes).pow(3).sum(), x)
    (alone,) = torch.autograd.grad(make(rows=2).train().forward_units(x, 0, units).pow(3).sum(), x)
    assert torch.allclose(gradient, 3 * alone, atol=1e-5)


def test_momentum_none_is_the_plain_mean_over_batches() -> None:
    norm = make(rows=2)
    norm.reset_statistics()
    assert not norm.running_mean.any()
    assert bool((norm.running_var == 1.0).all())
    norm.momentum = None
    norm.train()
    units = torch.tensor([0, 2])
    batches = [torch.randn(4, 5, 3, 3) + step for step in range(5)]
    for x in batches:
        norm.forward_units(x[:, units], 1, units)
    means = torch.stack([x.mean(dim=(0, 2, 3)) for x in batches]).mean(dim=0)
    variances = torch.stack([x.transpose(0, 1).flatten(1).var(dim=1) for x in batches]).mean(dim=0)
    assert torch.allclose(norm.running_mean[1, units], means[units], atol=1e-6)
    assert torch.allclose(norm.running_var[1, units], variances[units], atol=1e-6)
    assert not norm.running_mean[0].any()
    norm.reset_statistics()
    assert norm.batches_seen.tolist() == [0, 0]


def test_shared_statistics_are_not_averaged_from_some_units() -> None:
    norm = make().train()
    norm.momentum = None
    norm.forward_units(torch.randn(4, 5, 3, 3), 0, None)
    with pytest.raises(ValueError, match="cannot be averaged cumulatively"):
        norm.forward_units(torch.randn(4, 2, 3, 3), 0, torch.tensor([0, 1]))


def test_one_value_per_channel_is_normalised_by_the_running_statistics() -> None:
    norm = make(rows=2).train()
    before = [buffer.clone() for buffer in norm.buffers()]
    x = torch.randn(1, 5, 1, 1, requires_grad=True)
    out = norm(x, 1)
    assert torch.equal(out, make(rows=2).eval()(x, 1))
    mixed = norm(torch.randn(2, 5, 1, 1), torch.tensor([0, 1]))
    assert bool(mixed.isfinite().all())
    assert all(torch.equal(old, new) for old, new in zip(before, norm.buffers(), strict=True))
    norm(torch.randn(4, 5, 1, 1), 1)
    out.sum().backward()  # the statistics changed in between, the graph did not notice
    assert x.grad is not None
    assert bool((x.grad != 0).all())


def test_scale_and_shift_are_the_evaluation() -> None:
    norm = make(rows=3).eval()
    x = torch.randn(2, 5, 3, 3)
    for row in range(3):
        scale, shift = norm.scale_shift(row)
        folded = x * scale[:, None, None] + shift[:, None, None]
        assert torch.allclose(folded, norm(x, row), atol=1e-6)


def test_one_row_is_shared_whatever_the_task() -> None:
    norm = make()
    assert not norm.per_task
    assert norm.row(17) == 0
    assert make(rows=2).per_task
    assert make(rows=2).row(1) == 1


def test_it_says_its_size() -> None:
    assert "5, rows=3, eps=1e-05" in repr(make(rows=3))


def test_a_shift_of_the_input_is_forgotten() -> None:
    norm = BatchNorm(3).train()
    x = torch.randn(8, 3, 4, 4)
    assert torch.allclose(norm(x, 0), norm(3.0 * x + 5.0, 0), atol=1e-4)
    assert torch.allclose(norm(x, 0), F.batch_norm(x, None, None, training=True), atol=1e-5)


# --- side by side -----------------------------------------------------------------------------


def double(rows: int = 4) -> BatchNorm:
    """So that equality is sharp."""
    return make(rows=rows).double()


UNITS = torch.tensor([[0, 2], [3, 4], [2, 0]])
ROWS = (3, 0, 1)


def both_ways(norm: BatchNorm, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor], BatchNorm]:
    """Each row by itself, then all of them at once with a copy of the layer, which is returned."""
    other = copy.deepcopy(norm)
    alone = [
        norm.forward_units(part, row, units)
        for part, row, units in zip(x, ROWS, UNITS, strict=True)
    ]
    together = other.forward_side_by_side(torch.cat(x, dim=1), ROWS, UNITS)
    return alone, list(together.chunk(len(ROWS), dim=1)), other


def inputs(size: int = 3) -> list[Tensor]:
    return [torch.randn(2 if size > 1 else 1, 2, size, size).double() for _ in ROWS]


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("mode", ["training", "frozen", "evaluation", "one value"])
def test_rows_side_by_side_are_as_each_alone(momentum: float | None, mode: str) -> None:
    norm = double().train(mode != "evaluation")
    norm.momentum, norm.frozen = momentum, mode == "frozen"
    norm.batches_seen[:] = torch.tensor([0, 1, 2, 5])  # rows average over different counts
    for _ in range(2):
        alone, together, other = both_ways(norm, inputs(1 if mode == "one value" else 3))
        for one, same in zip(alone, together, strict=True):
            assert torch.allclose(one, same, rtol=1e-12, atol=1e-12)
        for name, value in norm.state_dict().items():
            assert torch.allclose(value, other.state_dict()[name], rtol=1e-12, atol=1e-12), name


def test_gradients_side_by_side_are_the_sum_of_those_alone() -> None:
    norm = double().train()
    x = inputs()
    alone, together, other = both_ways(norm, x)
    torch.autograd.backward([part.square().sum() for part in alone])
    torch.autograd.backward([part.square().sum() for part in together])
    for one, same in zip(norm.parameters(), other.parameters(), strict=True):
        assert one.grad is not None
        assert same.grad is not None
        assert torch.allclose(one.grad, same.grad, rtol=1e-12, atol=1e-12)


def test_rows_side_by_side_with_an_affine_of_their_own() -> None:
    norm = BatchNorm(5, 4, own_affine=True).double().train()
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    alone, together, _ = both_ways(norm, inputs())
    for one, same in zip(alone, together, strict=True):
        assert torch.allclose(one, same, rtol=1e-12, atol=1e-12)
