"""The first signal asks, the second one acts."""

from __future__ import annotations

import os
import signal

import pytest

from training.interruption import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_request(number: int) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        answers = [stop.requested]
        os.kill(os.getpid(), number)
        answers.append(stop.requested)
        assert answers == [False, True]
        assert signal.getsignal(number) is before  # a second one acts at once
    assert signal.getsignal(number) is before


def test_handlers_come_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)

    def fail() -> None:
        with StopRequest():
            raise ValueError("training went wrong")

    with pytest.raises(ValueError, match="went wrong"):
        fail()
    assert signal.getsignal(signal.SIGINT) is before
