"""The cross-stitch unit: rows that sum to one, and the paper's equation."""

from __future__ import annotations

import pytest
import torch

from model.baselines.cross_stitch import OWN_SHARE, CrossStitch


@pytest.mark.parametrize("towers", [1, 2, 5])
def test_a_tower_begins_with_most_of_its_own(towers: int) -> None:
    alpha = CrossStitch(towers).alpha
    own = OWN_SHARE if towers > 1 else 1.0
    assert torch.allclose(alpha.diagonal(), torch.tensor(own))
    others = alpha[~torch.eye(towers, dtype=torch.bool)]
    assert torch.allclose(others, torch.tensor((1 - own) / max(1, towers - 1)))


def test_rows_sum_to_one_whatever_is_learnt() -> None:
    unit = CrossStitch(4)
    optimiser = torch.optim.SGD(unit.parameters(), lr=1.0)
    for seed in range(3):
        noise = torch.randn(4, 2, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
        torch.stack(unit(list(noise))).pow(2).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        assert torch.allclose(unit.alpha.sum(dim=1), torch.ones(4), atol=1e-5)
        assert not torch.allclose(unit.alpha.diagonal(), torch.tensor(OWN_SHARE))


def test_activations_are_mixed_by_alpha() -> None:
    unit = CrossStitch(3)
    torch.nn.init.normal_(unit.shares, generator=torch.Generator().manual_seed(0))
    x = torch.randn(3, 2, 4, 3, 3)
    mixed, alpha = unit(list(x)), unit.alpha
    for tower in range(3):
        expected = sum(alpha[tower, other] * x[other] for other in range(3))
        assert torch.allclose(mixed[tower], torch.as_tensor(expected), atol=1e-5)


def test_the_precision_stays() -> None:
    half = [torch.ones(1, 2, 2, 2, dtype=torch.bfloat16)] * 2
    assert {one.dtype for one in CrossStitch(2)(half)} == {torch.bfloat16}
