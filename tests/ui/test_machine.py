"""One piece of long work at a time, and what becomes of work that is stuck."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stseg.errors import Cancelled, InputError
from stseg.ui.api import alone
from stseg.ui.clips import Catalogue
from stseg.ui.example import Example
from stseg.ui.machine import Machine
from stseg.ui.pace import Pace
from stseg.ui.work import Stop


def never() -> bool:
    return False


def taken(machine: Machine) -> bool:
    """Whether somebody else would have to wait."""

    def work(stop: Stop) -> Iterator[str]:
        yield "in"

    asked = iter([False, True])
    try:
        return list(machine.steps("test", work, lambda: next(asked))) != ["in"]
    except Cancelled:
        return True


def test_work_runs_alone_and_hands_the_machine_on() -> None:
    machine, inside, most = Machine(), 0, 0

    def work(stop: Stop) -> Iterator[int]:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        for step in range(3):
            time.sleep(0.01)
            yield step
        inside -= 1

    results: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: results.append(list(machine.steps("test", work, never))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert results == [[0, 1, 2]] * 4
    assert most == 1
    assert machine.seconds is None


def test_leaving_in_the_middle_frees_the_machine() -> None:
    machine, closed = Machine(), []

    def work(stop: Stop) -> Iterator[str]:
        try:
            while True:
                yield "busy"
        finally:
            closed.append(stop())

    steps = machine.steps("test", work, never)
    next(steps)
    assert machine.seconds is not None
    assert taken(machine)
    steps.close()  # what Gradio does when a page is closed
    assert closed == [False]
    assert not taken(machine)


def test_whoever_closes_can_wait_for_the_work_to_end() -> None:
    machine = Machine()
    assert machine.idle(0.0)

    def work(stop: Stop) -> Iterator[str]:
        yield "in"
        time.sleep(0.2)

    steps = machine.steps("test", work, never)
    next(steps)
    assert not machine.idle(0.01)
    rest = threading.Thread(target=lambda: list(steps))
    rest.start()
    assert machine.idle(10.0)
    rest.join(timeout=10)


@pytest.mark.parametrize("error", [InputError("No."), ZeroDivisionError(), TimeoutError()])
def test_an_error_of_the_work_is_its_own_and_frees_the_machine(error: Exception) -> None:
    machine = Machine()

    def work(stop: Stop) -> Iterator[str]:
        yield "busy"
        raise error

    with pytest.raises(type(error)):
        list(machine.steps("test", work, never))
    assert not taken(machine)


def test_stuck_work_is_given_up_and_the_next_one_begins(caplog: pytest.LogCaptureFixture) -> None:
    machine, free, told = Machine(stall=0.3), threading.Event(), []

    def stuck(stop: Stop) -> Iterator[str]:
        yield "busy"
        free.wait(20)  # without a question whether to stop
        told.append(stop())
        yield "too late"

    steps = machine.steps("test", stuck, never)
    assert next(steps) == "busy"
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(InputError, match="made no progress for 0 s and was given up"),
    ):
        next(steps)
    assert "given up" in caplog.text
    assert not taken(machine)
    free.set()
    for _ in range(100):
        if told:
            break
        time.sleep(0.02)
    assert told == [True]  # what was stuck is told to end once it asks


def test_slow_work_that_asks_whether_to_stop_is_not_stuck() -> None:
    machine = Machine(stall=0.3)

    def slow(stop: Stop) -> Iterator[str]:
        for _ in range(20):
            time.sleep(0.05)
            assert not stop()
        yield "done"

    assert list(machine.steps("test", slow, never)) == ["done"]


def test_work_that_nobody_takes_steps_of_loses_the_machine() -> None:
    machine = Machine(stall=0.3)

    def work(stop: Stop) -> Iterator[str]:
        yield "one"
        yield "two"

    forgotten = machine.steps("test", work, never)
    next(forgotten)
    time.sleep(0.4)
    assert not taken(machine)
    with pytest.raises(InputError, match="given up"):
        next(forgotten)


def test_endpoints_and_the_example_wait_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine()

    def busy(stop: Stop) -> Iterator[str]:
        while not stop():
            yield "busy"

    steps = machine.steps("test", busy, never)
    next(steps)
    answered: list[int] = []
    call = alone("/test", lambda value: value + 1, machine)
    calling = threading.Thread(target=lambda: answered.append(call(1)))
    calling.start()
    example = Example(Catalogue([]), Pace(), tmp_path, machine)
    assert not example.ready(0.5)
    assert not answered
    example.close()  # while it waits
    assert example.shown() is None
    steps.close()
    calling.join(timeout=10)
    assert answered == [2]


def test_an_endpoint_that_tells_steps_gives_its_last() -> None:
    def call(value: int) -> Iterator[int]:
        yield value
        yield value + 1

    assert alone("/test", call, Machine())(1) == 2
