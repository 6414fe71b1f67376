"""Rows and answers by task: the only series of which there is one for every task."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from prometheus_client import Counter

from service.core.decisions import Flags, Indices
from service.core.served import ServedModel
from service.metrics.declared import Declared

OUTCOMES = ("ok", "error", "expired", "cancelled", "shed")
_ANSWERS = ("yes", "no")


class RowMetrics:
    """Counts whole requests' rows at once."""

    def __init__(self, declared: Declared) -> None:
        self._rows = declared.counter("rows_total")
        self._answers = declared.counter("answers_total")
        self._unasked = Counter("unasked", "Not exported.", registry=None)
        # By outcome or answer, then task index: to find a labelled child costs more than to count.
        self._children: WeakKeyDictionary[ServedModel, dict[str, list[Counter]]] = (
            WeakKeyDictionary()
        )

    def model_loaded(self, model: ServedModel) -> None:
        """Make all series of its tasks, or rate() would lose first events."""
        for name in (*OUTCOMES, *_ANSWERS):
            self._of(model, name)

    def rows(self, model: ServedModel, tasks: Indices, outcome: str) -> None:
        """Rows came to an end; ``tasks`` per row."""
        _count(self._of(model, outcome), tasks)

    def answers(self, model: ServedModel, tasks: Indices, said_yes: Flags) -> None:
        """Questions of yes or no were answered; task and answer per row."""
        for answer, chosen in (("yes", tasks[said_yes]), ("no", tasks[~said_yes])):
            _count(self._of(model, answer), chosen)

    def _of(self, model: ServedModel, name: str) -> list[Counter]:
        """The counters of all the model's tasks, of one outcome or answer."""
        by_name = self._children.setdefault(model, {})
        if name not in by_name:
            by_name[name] = [
                self._rows.labels(model.name, task.name, name)
                if name not in _ANSWERS
                # Of tasks with other classes the answers are not exported.
                else self._answers.labels(model.name, task.name, name)
                if task.is_binary
                else self._unasked
                for task in model.tasks
            ]
        return by_name[name]


def _count(children: list[Counter], tasks: Indices) -> None:
    counts = np.bincount(tasks, minlength=len(children))
    for task in np.flatnonzero(counts).tolist():
        children[task].inc(float(counts[task]))
