"""Which tasks a request asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from model.tasks import TaskSet
from service.core.errors import DuplicateTaskError, NoTasksError

_SHOWN = 20


def select_tasks(tasks: TaskSet, selectors: Sequence[str] | None) -> list[int]:
    """Task indices in the order asked; None, like ``*``, means all of them.

    A task that is reached twice, by name and by its group for instance, is answered once, at its
    first place. The same selector twice is a mistake of the caller's.

    Raises:
        NoTasksError: a selection was given, but it is empty.
        DuplicateTaskError: the same selector more than once.
        model.errors.UnknownTaskError: names that the model does not have.
    """
    if selectors is None:
        return list(range(len(tasks)))
    if not selectors:
        raise NoTasksError(
            'no tasks left: "tasks" is empty; name tasks, or leave it out for all of them',
            field="tasks",
        )
    # A name more than there are, and one is twice there or unknown: a body of millions of them
    # would keep the event loop busy for seconds to say no more than that.
    selectors = selectors[: len(tasks) + len(tasks.groups) + 2]  # and "*"
    twice = sorted(name for name, times in Counter(selectors).items() if times > 1)[:_SHOWN]
    if twice:
        raise DuplicateTaskError(
            f"asked for more than once: {', '.join(map(repr, twice))}", field="tasks", tasks=twice
        )
    return tasks.select(selectors)
