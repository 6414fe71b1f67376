"""Who is answered by the canary: a wish, or a key's place in the share."""

from __future__ import annotations

import pytest

from service.core.canary import Lot
from service.core.errors import InvalidFieldError

KEYS = [f"user-{number}" for number in range(2000)]


def drawn(share: float, model: str = "fashion") -> set[str]:
    return {key for key in KEYS if Lot(key).draws_canary(model, share)}


def test_a_share_of_the_keys_is_drawn_and_always_the_same() -> None:
    assert drawn(0.0) == set()
    assert drawn(1.0) == set(KEYS)
    assert 0.08 < len(drawn(0.1)) / len(KEYS) < 0.12
    assert drawn(0.1) == drawn(0.1)


def test_a_larger_share_keeps_every_key_of_a_smaller_one() -> None:
    assert drawn(0.05) < drawn(0.1) < drawn(0.5)


def test_models_draw_apart() -> None:
    assert drawn(0.5, "birds") != drawn(0.5)


def test_a_wish_goes_before_the_share() -> None:
    assert Lot("a", "always").draws_canary("fashion", 0.0)
    assert not Lot("a", "never").draws_canary("fashion", 1.0)


def test_an_unknown_wish_is_refused() -> None:
    with pytest.raises(InvalidFieldError, match="'perhaps'; it may be 'always' or 'never'"):
        Lot("a", "perhaps")
