"""Twenty-seven tasks on the ten Fashion-MNIST classes: many-task learning from ten labels.

The attributes are properties that hold for a class as a whole, so their labels are exact given the
class; they overlap in many ways, which is what makes sharing units between tasks worth something.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.tasks import Task, TaskSet
from training.sources.base import Labels
from training.sources.labels import CLASS_GROUP, category, members

T_SHIRT, TROUSER, PULLOVER, DRESS, COAT, SANDAL, SHIRT, SNEAKER, BAG, ANKLE_BOOT = range(10)

_CLASS_TASKS = {
    "t_shirt": "a T-shirt or a similar top",
    "trouser": "trousers",
    "pullover": "a pullover",
    "dress": "a dress",
    "coat": "a coat",
    "sandal": "a sandal",
    "shirt": "a shirt",
    "sneaker": "a sneaker",
    "bag": "a bag",
    "ankle_boot": "an ankle boot",
}


@dataclass(frozen=True)
class _Attribute:
    name: str
    group: str
    description: str
    classes: tuple[int, ...]


_ATTRIBUTES = (
    _Attribute("garment", "kind", "made of cloth and worn on the body",
               (T_SHIRT, TROUSER, PULLOVER, DRESS, COAT, SHIRT)),
    _Attribute("footwear", "kind", "worn on the feet", (SANDAL, SNEAKER, ANKLE_BOOT)),
    _Attribute("top", "kind", "covers the upper body only, worn indoors",
               (T_SHIRT, PULLOVER, SHIRT)),
    _Attribute("outerwear", "kind", "worn over other clothes", (PULLOVER, COAT)),
    _Attribute("upper_body", "body", "covers the upper body",
               (T_SHIRT, PULLOVER, DRESS, COAT, SHIRT)),
    _Attribute("legs", "body", "covers at least part of the legs", (TROUSER, DRESS)),
    _Attribute("below_hip", "body", "reaches below the hip", (TROUSER, DRESS, COAT)),
    _Attribute("has_sleeves", "cut", "has sleeves of any length",
               (T_SHIRT, PULLOVER, COAT, SHIRT)),
    _Attribute("long_sleeves", "cut", "has sleeves that reach the wrist",
               (PULLOVER, COAT, SHIRT)),
    _Attribute("short_or_no_sleeves", "cut", "covers the upper body and leaves the arms bare",
               (T_SHIRT, DRESS)),
    _Attribute("front_opening", "cut", "buttons or zips up at the front", (COAT, SHIRT)),
    _Attribute("open_shoe", "shoe", "footwear that shows the foot", (SANDAL,)),
    _Attribute("closed_shoe", "shoe", "footwear that encloses the foot", (SNEAKER, ANKLE_BOOT)),
    _Attribute("warm_weather", "season", "for warm days", (T_SHIRT, DRESS, SANDAL)),
    _Attribute("cold_weather", "season", "for cold days", (PULLOVER, COAT, ANKLE_BOOT)),
)  # fmt: skip

_WEARING = Task(
    name="worn_on",
    group="body",
    description="on the body, on the feet, or carried?",
    classes=("body", "feet", "carried"),
)


def fashion_tasks(y: NDArray[np.int16], class_names: tuple[str, ...]) -> tuple[TaskSet, Labels]:
    """Tasks and labels [N, T] from class indices [N] in Fashion-MNIST's official order."""
    tasks = [
        Task(name=name, group=CLASS_GROUP, description=f"is it {words}?")
        for name, words in _CLASS_TASKS.items()
    ]
    columns = [members(y, (index,)) for index in range(len(tasks))]
    tasks.append(category(class_names))
    columns.append(y.astype(np.int16))
    for attribute in _ATTRIBUTES:
        tasks.append(
            Task(name=attribute.name, group=attribute.group, description=attribute.description)
        )
        columns.append(members(y, attribute.classes))
    tasks.append(_WEARING)
    feet, carried = (SANDAL, SNEAKER, ANKLE_BOOT), (BAG,)
    worn_on = np.where(np.isin(y, carried), 2, members(y, feet))
    columns.append(worn_on.astype(np.int16))
    return TaskSet(tasks), np.stack(columns, axis=1)
