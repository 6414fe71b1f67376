"""What the settings ``model``, ``version``, ``canary`` and ``shadow`` say together.

Each but ``version`` is a list with commas of ``NAME`` or ``NAME@VERSION``; VERSION may be
``latest``, which is what a bare name means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from service.core.plan import ModelPlan, Wanted


def model_plans(
    models: str, version: int | None, canary: str, canary_share: float, shadow: str
) -> tuple[ModelPlan, ...]:
    """One plan for each model, in the order of their first mention.

    Raises:
        ValueError: they contradict each other; the message says what to write instead.
    """
    plans: dict[str, ModelPlan] = {}
    for name, wanted in _split("model", models):
        plans[name] = _planned(plans.get(name), name, wanted)
    if version is not None:
        plans = _pinned(plans, version)
    for name, wanted in _split("canary", canary):
        _check_beside(plans, "canary", name, wanted)
        plans[name] = replace(plans[name], canary=wanted, canary_share=canary_share)
    for name, wanted in _split("shadow", shadow):
        _check_beside(plans, "shadow", name, wanted)
        plans[name] = replace(plans[name], shadow=wanted)
    return tuple(plans.values())


def _split(setting: str, text: str) -> Sequence[tuple[str, Wanted]]:
    return [_entry(setting, part.strip()) for part in text.split(",") if part.strip()]


def _entry(setting: str, text: str) -> tuple[str, Wanted]:
    name, at, version = text.partition("@")
    if not at or version == "latest":
        return name, "latest"
    if not version.isascii() or not version.isdigit() or int(version) < 1:
        raise ValueError(
            f"{setting} has {text[:100]!r}: the version behind the @ is a number from 1, or latest"
        )
    return name, int(version)


def _planned(plan: ModelPlan | None, name: str, wanted: Wanted) -> ModelPlan:
    """The first mention of a model answers; others are versions beside it."""
    if plan is None:
        return ModelPlan(name, wanted)
    if wanted == "latest" or wanted == plan.version or wanted in plan.beside:
        raise ValueError(
            f"model names {name!r} more than once: further mentions are NAME@VERSION, each with "
            "another version"
        )
    return replace(plan, beside=(*plan.beside, wanted))


def _pinned(plans: dict[str, ModelPlan], version: int) -> dict[str, ModelPlan]:
    [name] = list(plans)[:1]
    if len(plans) > 1 or plans[name].version != "latest":
        raise ValueError(
            f"version is {version}, but model names more than one model, or a version: write "
            f"{name}@{version} there instead"
        )
    return {name: replace(plans[name], version=version)}


def _check_beside(plans: dict[str, ModelPlan], setting: str, name: str, wanted: Wanted) -> None:
    if name not in plans:
        raise ValueError(
            f"{setting} names {name[:100]!r}, which is not in model: {', '.join(plans)}"
        )
    if wanted == plans[name].version:
        raise ValueError(
            f"{setting} is version {wanted} of {name!r}, which is what answers already: pin the "
            f"version that answers (model: {name}@VERSION), or name another one"
        )
