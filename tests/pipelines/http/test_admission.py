"""The connection that gives way, without a network."""

from collections import Counter

import pytest

from pipelines.http.admission import Admission, Limits, address_of

SMALL = Limits(connections=4, of_address=3, reserve=2)


class Fake:
    """A connection that notes how it ended."""

    def __init__(self, address, unsent_bytes=0):
        self.address = address
        self.unsent_bytes = unsent_bytes
        self.is_dropped = False

    def check(self, now):
        self.checked = now

    def drop(self):
        self.is_dropped = True


def opened(admission, address, number, *, working=False):
    made = [Fake(address) for _ in range(number)]
    for each in made:
        assert admission.admit(each)
        if working:
            admission.work(each)
    return made


def test_of_an_address_with_too_many_its_own_gives_way():
    admission = Admission(SMALL)
    (neighbour,) = opened(admission, "b", 1)
    first, second, third = opened(admission, "a", 3)
    admission.work(second)
    opened(admission, "a", 1)
    assert first.is_dropped
    opened(admission, "a", 1)
    assert third.is_dropped
    assert not second.is_dropped
    assert not neighbour.is_dropped
    assert len(admission) == 4
    assert admission.closed == {"made way": 2}


def test_where_all_are_too_many_the_one_that_waited_longest_gives_way():
    admission = Admission(SMALL)
    first, second = opened(admission, "a", 2)
    opened(admission, "b", 2)
    admission.work(first)
    admission.wait(first)  # It has an answer, and begins to wait again.
    opened(admission, "c", 1)
    assert second.is_dropped
    assert not first.is_dropped


def test_requests_that_are_answered_never_give_way_and_probes_have_a_reserve():
    admission = Admission(SMALL)
    working = opened(admission, "a", 3, working=True) + opened(admission, "b", 1, working=True)
    probes = [Fake("a"), Fake("c"), Fake("d")]
    assert [admission.admit(probe) for probe in probes] == [False, False, False]
    assert [probe.is_dropped for probe in probes] == [True, False, False]
    assert not any(each.is_dropped for each in working)
    assert len(admission) == 6
    admission.leave(working[0])
    assert admission.admit(Fake("d"))


def test_whoever_opens_connections_takes_no_more_than_there_are():
    admission = Admission(SMALL)
    made = []
    for number in range(1000):
        made.append(Fake(f"{number % 7}"))
        admission.admit(made[-1])
        if number % 3 == 0:
            admission.work(made[-1])
        if number % 11 == 0:
            admission.leave(made[number // 2])
            admission.leave(made[number // 2])
        assert len(admission) <= SMALL.connections + SMALL.reserve
    for each in made:
        admission.leave(each)
    assert len(admission) == 0
    assert admission._of_address == Counter()
    assert not admission._waiting
    assert not admission._waiting_of


def test_those_that_work_are_counted():
    admission = Admission(SMALL)
    first, second, _ = opened(admission, "a", 3)
    assert admission.working == 0
    admission.work(first)
    admission.work(second)
    assert admission.working == 2
    admission.wait(first)
    admission.leave(second)
    assert admission.working == 0


def test_the_slowest_readers_are_dropped_where_answers_take_too_much():
    admission = Admission(Limits(unsent_bytes=100))
    slow = [Fake("a", 60), Fake("b", 60), Fake("c", 30)]
    for each in slow:
        admission.admit(each)
        admission.work(each)
        admission.stall(each)
    assert [each.is_dropped for each in slow] == [True, False, False]
    assert admission.closed == {"unread answer": 1}


@pytest.mark.parametrize(
    ("client", "address"),
    [
        (("127.0.0.1", 5), "127.0.0.1"),
        (("::ffff:10.0.0.7", 5), "10.0.0.7"),
        (("2001:db8:1:2:3:4:5:6", 5), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5), "fe80::/64"),
        (("unix", 0), "unix"),
        (None, ""),
    ],
)
def test_a_client_counts_for_its_network(client, address):
    assert address_of(client) == address
