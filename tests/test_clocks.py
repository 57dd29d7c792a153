"""The clocks of one exchange, as tables of what was waited for and when it ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clocks import ExchangeClock, Limits
from gateway.errors import (
    BackendTimeout,
    ConnectionsExhausted,
    ConnectTimeout,
    GatewayError,
    Phase,
    RequestTimeout,
)

LIMITS = Limits(timeout=30, connect_timeout=5, client_timeout=60)


def clock(limits: Limits = LIMITS, now: float = 0) -> ExchangeClock:
    return ExchangeClock(limits, now)


def test_waiting_for_the_head_has_one_budget_over_all_phases() -> None:
    c = clock()
    assert c.deadline == 30
    c.enter(Phase.CONNECT, 10)
    assert c.deadline == 15
    c.enter(Phase.SEND, 12)
    assert c.deadline == 30
    c.enter(Phase.FIRST_BYTE, 20)
    assert c.deadline == 30


def test_connecting_has_no_more_than_is_left_of_the_whole() -> None:
    c = clock()
    c.enter(Phase.CONNECT, 27)
    assert c.deadline == 30


def test_time_the_client_took_is_not_charged_to_the_backend() -> None:
    c = clock()
    c.enter(Phase.SEND, 1)
    c.read_client(2)
    assert c.deadline == 62
    c.client_was_read(52)
    assert c.deadline == 52 + 28
    c.enter(Phase.FIRST_BYTE, 60)
    assert c.deadline == 60 + 20


def test_client_that_is_read_again_has_no_more_time_than_before() -> None:
    c = clock()
    c.read_client(1)
    c.read_later(3)
    assert c.deadline == 30 + 2  # in which the backend was not waited for
    c.read_client(10)
    assert c.deadline == 10 + 60 - 2
    c.read_later(13)
    c.read_client(80)  # it has not been waited for all the time
    assert c.deadline == 80 + 60 - 2 - 3
    c.client_was_read(85)
    c.read_client(90)
    assert c.deadline == 90 + 60


def test_second_attempt_to_connect_has_only_what_the_first_left() -> None:
    c = clock()
    c.enter(Phase.CONNECT, 0)
    c.enter(Phase.SEND, 3)
    c.enter(Phase.CONNECT, 4)
    assert c.deadline == 6


def test_backend_is_given_its_timeout_anew_after_each_piece_of_its_body() -> None:
    c = clock()
    c.enter(Phase.BODY, 29)
    assert c.deadline == 59
    c.write_client(40)
    assert c.deadline == 100
    c.client_was_written(95)
    assert c.deadline == 125


def test_silent_backend_is_not_blamed_while_the_client_owes_its_body() -> None:
    c = clock()
    c.enter(Phase.SEND, 0)
    c.read_client(1)
    c.enter(Phase.BODY, 2)
    assert c.deadline == 61
    c.client_was_read(50)
    assert c.deadline == 80


def test_earlier_of_two_waits_for_the_client_counts() -> None:
    c = clock()
    c.enter(Phase.SEND, 0)
    c.read_client(1)
    c.enter(Phase.BODY, 2)
    c.write_client(10)
    assert c.deadline == 61
    c.client_was_read(20)
    assert c.deadline == 70


def test_deadline_bounds_whatever_is_waited_for() -> None:
    c = clock(Limits(timeout=30, client_timeout=60, deadline=40), now=100)
    assert c.deadline == 130
    c.enter(Phase.BODY, 120)
    assert c.deadline == 140
    c.write_client(121)
    assert c.deadline == 140


def test_upload_that_goes_on_does_not_take_the_phase_back() -> None:
    c = clock()
    c.enter(Phase.BODY, 3)
    c.enter(Phase.FIRST_BYTE, 4)
    assert c.phase is Phase.BODY
    assert c.timings(5)[Phase.BODY] == 2


@pytest.mark.parametrize(
    ("phase", "error", "message"),
    [
        (Phase.QUEUE, ConnectionsExhausted, "no connection to the backend became free within 30 s"),
        (Phase.CONNECT, ConnectTimeout, "no connection to the backend within the connect timeout of 5 s"),
        (Phase.SEND, BackendTimeout, "the backend did not take the request within 30 s"),
        (Phase.FIRST_BYTE, BackendTimeout, "the backend did not answer within 30 s"),
        (Phase.BODY, BackendTimeout, "the backend sent nothing more of its answer for 30 s"),
    ],
)
def test_failure_names_the_clock_of_the_phase(phase: Phase, error: type[GatewayError], message: str) -> None:
    c = clock()
    if phase is not Phase.QUEUE:
        c.enter(phase, 0)
    failure = c.failure(c.deadline)
    assert type(failure) is error
    assert failure.phase is phase
    assert str(failure) == message


def test_failure_of_a_second_connection_names_the_timeout_that_the_first_used_up() -> None:
    c = clock()
    c.enter(Phase.CONNECT, 0)
    c.enter(Phase.FIRST_BYTE, 1)
    c.enter(Phase.CONNECT, 29)
    assert c.deadline == 30
    failure = c.failure(30)
    assert isinstance(failure, ConnectTimeout)
    assert str(failure) == "no connection to the backend within the timeout of 30 s"


def test_failure_blames_the_client_that_was_waited_for() -> None:
    c = clock()
    c.enter(Phase.SEND, 0)
    c.read_client(0)
    failure = c.failure(60)
    assert isinstance(failure, RequestTimeout)
    assert str(failure) == "the client sent nothing more of its body for 60 s"

    c = clock()
    c.enter(Phase.BODY, 0)
    c.write_client(0)
    assert str(c.failure(60)) == "the client read nothing more of the answer for 60 s"


def test_failure_of_the_deadline_says_so() -> None:
    c = clock(Limits(deadline=7))
    c.enter(Phase.FIRST_BYTE, 1)
    failure = c.failure(7)
    assert isinstance(failure, BackendTimeout)
    assert str(failure) == "not over within the deadline of 7 s"

    c.read_client(6.5)
    failure = c.failure(7)
    assert isinstance(failure, RequestTimeout)
    assert "deadline of 7 s: the client sent nothing more of its body" in str(failure)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["queue", "connect", "send", "first_byte", "body", "read", "was_read", "write", "was_written"]),
        st.floats(0, 10, allow_nan=False),
    ),
    max_size=30,
)


@given(STEPS, st.floats(0, 10))
def test_phases_sum_up_to_the_whole_whatever_happened(steps: list[tuple[str, float]], last: float) -> None:
    now = 5.0
    c = clock(now=now)
    for step, seconds in steps:
        now += seconds
        match step:
            case "read":
                c.read_client(now)
            case "was_read":
                c.client_was_read(now)
            case "write":
                c.write_client(now)
            case "was_written":
                c.client_was_written(now)
            case phase:
                c.enter(Phase(phase), now)
        assert c.deadline <= now + LIMITS.client_timeout
    now += last
    assert sum(c.timings(now).values()) == pytest.approx(now - 5.0)
    assert all(spent >= 0 for spent in c.timings(now).values())
