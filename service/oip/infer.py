"""One inference, from what was asked to the answer that a transport renders."""

from __future__ import annotations

from service.core.prediction import Prediction
from service.core.predictor import Predictor
from service.core.priority import Priority
from service.core.served import ServedModel
from service.oip.asked import InferInput, OutputForm
from service.oip.outputs import choose_outputs, raise_failures
from service.record import RequestRecord


async def infer(
    predictor: Predictor,
    model: ServedModel,
    asked: InferInput,
    record: RequestRecord,
    deadline: float,
    priority: Priority,
) -> tuple[Prediction, list[OutputForm]]:
    """Every image answered, and the forms of its tasks; what was asked is noted in ``record``.

    Args:
        deadline: clock seconds.
        priority: where the request's parameters name none.

    Raises:
        TaskRouteError: one of its kinds; one bad image fails them all.
    """
    forms = choose_outputs(model.tasks, asked)
    record.images, record.tasks, record.bundle = len(asked.images), len(forms), model.digest
    for image in asked.images:
        if image.error is not None:
            raise image.error
    priority = asked.priority or priority
    record.priority = None if priority is Priority.INTERACTIVE else priority.label
    prediction = await predictor.predict(model, asked.images, list(forms), deadline, priority)
    record.timing = prediction.timing
    raise_failures(prediction)
    return prediction, list(forms.values())
