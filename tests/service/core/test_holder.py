"""Which model answers, and what is said while none does."""

from __future__ import annotations

import pytest

from model.errors import BundleError
from service.core.errors import LoadingError, ModelUnavailableError
from service.core.holder import ModelHolder
from tests.service.fakes import make_model


def test_before_the_first_model_it_is_loading() -> None:
    holder = ModelHolder("fashion")
    assert holder.state == "loading"
    with pytest.raises(LoadingError, match="'fashion' is being loaded"):
        holder.current()


def test_a_refused_bundle_is_told_with_its_reason() -> None:
    holder = ModelHolder("fashion")
    holder.refuse(BundleError("model.safetensors is truncated"))
    assert holder.state == "refused"
    with pytest.raises(ModelUnavailableError, match=r"model\.safetensors is truncated") as caught:
        holder.current()
    assert caught.value.details == {"reason": "bad_bundle"}


def test_a_refused_bundle_never_takes_the_place_of_a_model_that_works() -> None:
    holder, model = ModelHolder("fashion"), make_model()
    holder.serve(model)
    holder.refuse(BundleError("version 2 is damaged"))
    assert holder.state == "ready"
    assert holder.current() is model
    assert holder.refusal is not None
    newer = make_model(version=3)
    holder.serve(newer)
    assert holder.current() is newer
    assert holder.refusal is None
