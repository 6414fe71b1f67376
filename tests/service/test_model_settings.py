"""The settings that name models and versions, together."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from service.core.plan import ModelPlan
from service.settings import Settings
from tests.service.http.apps import make_settings


def plans(model: str, **others: object) -> tuple[ModelPlan, ...]:
    return make_settings(model=model, **others).model_plans()


def test_one_name_follows_latest() -> None:
    assert plans("fashion") == (ModelPlan("fashion"),)
    assert plans("fashion", version=3) == (ModelPlan("fashion", 3),)


def test_several_models_each_with_the_versions_that_are_named() -> None:
    assert plans("fashion@3, birds,fashion@2,fashion@1") == (
        ModelPlan("fashion", 3, beside=(2, 1)),
        ModelPlan("birds"),
    )


def test_canary_and_shadow() -> None:
    [plan] = plans("fashion@3", canary="fashion@latest", canary_share=0.2, shadow="fashion@5")
    assert plan == ModelPlan("fashion", 3, canary="latest", canary_share=0.2, shadow=5)
    assert plan.places == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": " , "}, "names none"),
        ({"model": "a@x"}, "model has 'a@x': the version behind the @ is a number from 1"),
        ({"model": "a@0"}, "number from 1"),
        ({"model": "a,a"}, "more than once"),
        ({"model": "a@2,a@2"}, "more than once"),
        ({"model": "a,b", "version": 3}, "write a@3 there instead"),
        ({"model": "a@2", "version": 3}, "write a@3 there instead"),
        ({"model": "a", "canary": "b@2"}, "canary names 'b', which is not in model: a"),
        ({"model": "a", "canary": "a"}, "canary is version latest of 'a'"),
        ({"model": "a@2", "shadow": "a@2"}, "shadow is version 2 of 'a', which is what answers"),
        ({"model": "a@1,a@2,b", "max_versions": 2}, "name 3 versions, above max_versions"),
    ],
)
def test_what_contradicts_itself_is_refused_with_the_way_out(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings(repository="models", **changes)  # type: ignore[arg-type]
