"""A call that hangs: one caller waits, and everybody else is answered at once."""

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from serving.recommend.breaker import CircuitBreaker, UnavailableError

LONG = 30.0  # Seconds that no test waits for.


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Hanging:
    """A call that ends when it is let go."""

    def __init__(self):
        self.began, self.may_end = Event(), Event()

    def __call__(self):
        self.began.set()
        assert self.may_end.wait(LONG)
        return "late"


def boom():
    raise OSError("no route to the store")


def test_results_and_failures_reach_the_caller():
    breaker = CircuitBreaker("the store", patience=LONG, pause=0)
    assert breaker.call(lambda: 42) == 42
    with pytest.raises(UnavailableError, match="the store does not answer") as error:
        breaker.call(boom)
    assert isinstance(error.value.__cause__, OSError)
    assert breaker.failures == 1
    breaker.close()


def test_while_a_call_hangs_nobody_else_waits():
    clock = Clock()
    breaker = CircuitBreaker("the store", patience=1.0, pause=5, clock=clock)
    hanging = Hanging()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(breaker.call, hanging)
        assert hanging.began.wait(LONG)
        assert isinstance(waiting.exception(LONG), UnavailableError)
    assert not breaker.is_closed
    # However long it takes, the call that hangs is the only one that is tried.
    clock.now = 1000.0
    for _ in range(100):
        with pytest.raises(UnavailableError):
            breaker.call(pytest.fail)
    assert breaker.failures == 1
    hanging.may_end.set()
    wait_until_idle(breaker)
    breaker._patience = LONG
    assert breaker.call(lambda: "again") == "again"
    assert breaker.is_closed
    breaker.close()


def wait_until_idle(breaker):
    for _ in range(10_000):
        if breaker._running is None:
            return
        Event().wait(0.001)
    pytest.fail("the call does not end")


def test_those_that_wait_behind_a_call_that_hangs_are_released_with_it():
    breaker = CircuitBreaker("the store", patience=1.0, pause=LONG)
    hanging = Hanging()
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(breaker.call, hanging)
        assert hanging.began.wait(LONG)
        others = [pool.submit(breaker.call, pytest.fail) for _ in range(8)]
        for each in (first, *others):
            assert isinstance(each.exception(LONG), UnavailableError)
    assert breaker.failures == 1
    hanging.may_end.set()
    breaker.close()


def test_after_the_pause_one_call_is_tried_and_others_are_refused():
    clock = Clock()
    breaker = CircuitBreaker("the store", patience=LONG, pause=5, clock=clock)
    with pytest.raises(UnavailableError):
        breaker.call(boom)
    clock.now = 4.9
    with pytest.raises(UnavailableError):
        breaker.call(pytest.fail)
    clock.now = 5.1
    trial = Hanging()
    with ThreadPoolExecutor(1) as pool:
        tried = pool.submit(breaker.call, trial)
        assert trial.began.wait(LONG)
        with pytest.raises(UnavailableError):
            breaker.call(pytest.fail)
        trial.may_end.set()
        assert tried.result(LONG) == "late"
    assert breaker.is_closed
    assert breaker.call(lambda: 1) == 1
    breaker.close()


def test_a_trial_that_fails_begins_another_pause():
    clock = Clock()
    breaker = CircuitBreaker("the store", patience=LONG, pause=5, clock=clock)
    for turn in range(3):
        clock.now = 10.0 * turn
        with pytest.raises(UnavailableError):
            breaker.call(boom)
        with pytest.raises(UnavailableError) as error:
            breaker.call(pytest.fail)
        assert error.value.retry_seconds == 5
    assert breaker.failures == 3
    breaker.close()


def test_a_call_that_is_slow_every_time_keeps_the_circuit_open():
    clock = Clock()
    breaker = CircuitBreaker("the store", patience=LONG, pause=5, clock=clock)
    with pytest.raises(UnavailableError):
        breaker.call(boom)
    clock.now = 6.0

    def slow():
        clock.now += 2 * LONG
        return "at last"

    assert breaker.call(slow) == "at last"
    assert not breaker.is_closed
    breaker.close()


def test_an_outage_is_logged_when_it_begins_and_when_it_ends(caplog):
    clock = Clock()
    breaker = CircuitBreaker("the store", patience=LONG, pause=1, clock=clock)
    with caplog.at_level(logging.WARNING):
        for turn in range(5):
            clock.now = 10.0 * turn
            with pytest.raises(UnavailableError):
                breaker.call(boom)
        clock.now = 100.0
        breaker.call(lambda: 1)
    assert [record.getMessage() for record in caplog.records] == [
        "the store does not answer: no route to the store",
        "the store answers again",
    ]
    breaker.close()
