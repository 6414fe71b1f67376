"""What ``python -m training compare`` compares: each method a recipe and the settings that make it.

The table is all there is to a method. A further one is a further entry; where it needs a network or
a trainer that the settings cannot name yet, those come first (:mod:`model.baselines`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from training.config import TrainSettings
from training.errors import SettingsError
from training.settings_files import load_settings, read_config

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Method:
    """A way to train one set of tasks."""

    name: str
    about: str
    """A sentence for the page."""
    recipe: str
    """Its settings, except where the person says otherwise."""
    defining: Values = field(hash=False)
    """Settings that make it this method: nobody may say otherwise."""
    routed: bool = True
    """Whether it has routed layers, so that settings of routes play a part."""
    keeps: bool = True
    """Whether keep means anything to it; if not, it has one cell where others have one per keep."""
    network_per_task: bool = False
    """Each task has a network, and an equal part of the budget, of its own."""

    @property
    def staged(self) -> bool:
        """Whether its runs may have parts, so that settings of a start and a stage play a part."""
        return self.routed or self.defining.get("family") == "cross_stitch"

    def settings(self, given: Values, config: str | None = None) -> TrainSettings:
        """This method's settings under a person's: recipe < ``config`` < ``given`` < defining.

        Raises:
            SettingsError: a setting that makes this method what it is was given another value, or
                one that does not exist or cannot take its value.
        """
        said = (read_config(config) if config else {}) | dict(given)
        for name, value in self.defining.items():
            if name in said and said[name] != value:
                raise SettingsError(
                    f"setting {name!r} is {said[name]!r}, but {value!r} is what makes method "
                    f"{self.name!r}: leave it out, or leave the method out (--methods)"
                )
        return load_settings(
            TrainSettings, None, read_config(self.recipe) | said | dict(self.defining)
        )


_UNROUTED = {"scheme": "independent", "routed_layers": "none", "keep": 1.0, "sampler": "all"}
_TOWERS = _UNROUTED | {"family": "single_task"}
_ADAPTED = _UNROUTED | {"arch": "resnet26", "norm": "batch_per_domain"}
_MODULATED = {"scheme": "independent", "keep": 1.0}
_ALGORITHM_1 = {"routed_layers": "all", "sampler": "paper", "tasks_per_step": 1}

_LISTED = (
    Method(
        "shared",
        "hard sharing: one network without routes, every label of every image",
        recipe="evidence",
        defining=_UNROUTED,
        routed=False,
        keeps=False,
    ),
    Method(
        "paper",
        "the paper's recipe: Algorithm 1 (one task per batch), independent random routes in all "
        "layers, one set of batch-norm statistics",
        recipe="paper",
        defining=_ALGORITHM_1 | {"scheme": "independent"},
    ),
    Method(
        "partition",
        "the paper's recipe with routes that share a common part and divide the rest: keep is the "
        "common part",
        recipe="paper",
        defining=_ALGORITHM_1 | {"scheme": "partition"},
    ),
    Method(
        "random-late",
        "random routes in the last two layers only, statistics per task, several tasks per step",
        recipe="evidence",
        defining={"scheme": "independent", "routed_layers": "last:2"},
    ),
    Method(
        "evidence",
        "routes in the last two layers, chosen by saliency after a start without routes",
        recipe="evidence",
        defining={"scheme": "saliency", "routed_layers": "last:2"},
    ),
    Method(
        "evidence-all",
        "routes in all layers, chosen by saliency after a start without routes",
        recipe="evidence",
        defining={"scheme": "saliency", "routed_layers": "all"},
    ),
    Method(
        "modulation",
        "late modulation: no routes, a learned scale for every task of the last two layers' "
        "channels",
        recipe="evidence",
        defining=_MODULATED | {"routed_layers": "last:2", "modulation": "scale"},
        keeps=False,
    ),
    Method(
        "modulation-shift",
        "late feature-wise linear modulation: the same with a scale and a shift",
        recipe="evidence",
        defining=_MODULATED | {"routed_layers": "last:2", "modulation": "scale_shift"},
        keeps=False,
    ),
    Method(
        "modulation-module",
        "the modulation module (Zhao et al., 2018): a learned scale for every task of the channels "
        "of all layers",
        recipe="evidence",
        defining=_MODULATED | {"routed_layers": "all", "modulation": "scale"},
        keeps=False,
    ),
    Method(
        "cross-stitch",
        "cross-stitch networks (Misra et al., 2016): a trunk per task, trained alone for half of "
        "the run, then mixed behind every pooling stage by matrices whose rows sum to one",
        recipe="cross_stitch",
        defining=_TOWERS | {"family": "cross_stitch"},
        routed=False,
        keeps=False,
    ),
    Method(
        "single-task",
        "a trunk per task in one network, nothing shared but the images of a step",
        recipe="evidence",
        defining=_TOWERS,
        routed=False,
        keeps=False,
    ),
    Method(
        "residual-adapters",
        "residual adapters (Rebuffi et al., 2018) in a ResNet-26: a 1x1 convolution of every "
        "task's own beside each shared 3x3 one, and a batch norm of its own behind every layer; "
        "passes are of this trunk",
        recipe="evidence",
        defining=_ADAPTED | {"adapters": "parallel"},
        routed=False,
        keeps=False,
    ),
    Method(
        "series-adapters",
        "residual adapters (Rebuffi et al., 2017): the same with the 1x1 convolution behind the "
        "shared one",
        recipe="evidence",
        defining=_ADAPTED | {"adapters": "series"},
        routed=False,
        keeps=False,
    ),
    Method(
        "single",
        "single-task as networks of their own, one after the other, each with an equal part of the "
        "budget",
        recipe="evidence",
        defining=_UNROUTED,
        routed=False,
        keeps=False,
        network_per_task=True,
    ),
)

METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _LISTED})
ALIASES: Mapping[str, str] = MappingProxyType({"hard-sharing": "shared"})
DEFAULT_METHODS = ("shared", "paper", "partition", "random-late", "evidence", "evidence-all")
"""A trunk per task costs as many passes as there are tasks: only where it is asked for; so is
modulation, which costs every task all units of its layers."""


def choose_methods(names: Sequence[str]) -> tuple[Method, ...]:
    """The methods of these names, each once.

    Raises:
        SettingsError: no such method; names those that there are.
    """
    named = [ALIASES.get(name, name) for name in names]
    unknown = [name for name in named if name not in METHODS]
    if unknown:
        raise SettingsError(
            f"--methods: there is no method {unknown[0]!r}; there are {', '.join(METHODS)}"
        )
    return tuple(METHODS[name] for name in dict.fromkeys(named))
