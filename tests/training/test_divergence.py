"""The guard against losses that are no numbers: silent on good ones, precise on bad ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.training.conftest import tiny
from training.divergence import check_finite
from training.errors import DivergedError
from training.samplers import Batch

NAMES = ("hat", "shoe", "bag")


def check(loss: float, norm: float, images: int = 3, **changes: float) -> None:
    batch = Batch(np.arange(5, 5 + images), (2, 0))
    check_finite(loss, norm, 41, batch, NAMES, tiny(**changes))


def test_finite_numbers_pass() -> None:
    check(1e30, 1e30)


def test_the_batch_is_named() -> None:
    with pytest.raises(DivergedError) as caught:
        check(math.nan, 1.0)
    message = str(caught.value)
    assert "the loss is nan at step 41" in message
    assert "tasks bag, hat; training images at positions 5, 6, 7)" in message
    assert "lower lr (now 0.05), set max_grad_norm (now 0) or raise batch_size (now 8)" in message
    assert caught.value.details["images"] == [5, 6, 7]
    assert caught.value.details["tasks"] == ["bag", "hat"]
    assert caught.value.details["step"] == 41


def test_an_infinite_gradient_is_caught_beside_a_good_loss() -> None:
    with pytest.raises(DivergedError, match=r"the gradient norm is inf at step 41 \(loss 0\.5;"):
        check(0.5, math.inf)


def test_clipping_is_not_proposed_where_it_was_on_and_the_loss_went_first() -> None:
    with pytest.raises(DivergedError, match=r"lower lr \(now 0\.05\) or raise"):
        check(math.inf, 1.0, max_grad_norm=1.0)


def test_a_long_batch_is_shortened_in_the_message_only() -> None:
    with pytest.raises(DivergedError, match=r"19, 20 and 24 more\)") as caught:
        check(math.nan, 1.0, images=40)
    assert len(caught.value.details["images"]) == 40
