"""Health: from results to verdicts, by exact times."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.health import SLACK, Check, History, State, Verdict, fresh_for

BEGUN = History(fresh_for=13.0, began=100.0)


def test_service_nobody_checks_yet_is_unknown_since_never() -> None:
    assert History(fresh_for=13.0).verdict(1000.0) == Verdict(State.UNKNOWN)


def test_service_is_unknown_until_its_first_check_ends() -> None:
    assert BEGUN.verdict(101.0) == Verdict(State.UNKNOWN, 100.0)


def test_service_whose_first_check_does_not_end_becomes_stale() -> None:
    assert BEGUN.verdict(113.0).state is State.UNKNOWN
    assert BEGUN.verdict(113.5) == Verdict(State.STALE, 113.0)


def test_answered_check_means_up() -> None:
    verdict = BEGUN.after(Check(101.0, 0.25)).verdict(103.0)
    assert verdict == Verdict(State.UP, since=101.0, checked_at=101.0, age=2.0, latency=0.25)
    assert verdict.latency_ms == 250.0


def test_failed_check_means_down_and_tells_why() -> None:
    verdict = BEGUN.after(Check(101.0, error="no answer")).verdict(103.0)
    assert verdict == Verdict(State.DOWN, since=101.0, checked_at=101.0, age=2.0, last_error="no answer")
    assert verdict.latency_ms is None


def test_like_results_keep_the_time_the_state_began() -> None:
    history = BEGUN.after(Check(101.0)).after(Check(111.0)).after(Check(121.0))
    assert history.verdict(122.0) == Verdict(State.UP, since=101.0, checked_at=121.0, age=1.0)


def test_another_result_begins_another_state_and_forgets_the_error() -> None:
    history = BEGUN.after(Check(101.0, error="x")).after(Check(111.0, error="y"))
    assert history.verdict(111.0) == Verdict(State.DOWN, since=101.0, checked_at=111.0, age=0.0, last_error="y")
    history = history.after(Check(121.0, 0.5))
    assert history.verdict(121.0) == Verdict(State.UP, since=121.0, checked_at=121.0, age=0.0, latency=0.5)


@pytest.mark.parametrize("error", [None, "refused"])
def test_result_counts_for_its_time_and_not_a_moment_longer(error: str | None) -> None:
    history = BEGUN.after(Check(101.0, error=error))
    assert history.verdict(114.0).state is (State.UP if error is None else State.DOWN)
    assert history.verdict(114.125) == Verdict(State.STALE, since=114.0, checked_at=101.0, age=13.125, last_error=error)


def test_result_after_a_stale_time_begins_its_state_anew() -> None:
    history = BEGUN.after(Check(101.0)).after(Check(150.0))
    assert history.verdict(150.0).since == 150.0


def test_checking_that_has_ended_leaves_a_stale_verdict_from_that_moment() -> None:
    ended = replace(BEGUN.after(Check(101.0, 0.5)), ended=104.0)
    assert ended.verdict(104.0) == Verdict(State.STALE, since=104.0, checked_at=101.0, age=3.0, latency=0.5)
    assert replace(BEGUN, ended=104.0).verdict(110.0) == Verdict(State.STALE, since=104.0)


def test_what_was_stale_before_checking_ended_stays_stale_since_then() -> None:
    assert replace(BEGUN.after(Check(101.0)), ended=200.0).verdict(201.0).since == 114.0


TIMES = st.integers(1, 1000).map(lambda quarters: quarters / 4)


@settings(deadline=None)
@given(interval=TIMES, timeout=TIMES, took=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=10))
def test_checks_that_run_to_plan_are_never_stale(interval: float, timeout: float, took: list[float]) -> None:
    history = History(fresh_for=fresh_for(interval=interval, timeout=timeout), began=0.0)
    start = 0.0
    for share in took:
        end = start + share * timeout
        assert history.verdict(end).state is not State.STALE
        history = history.after(Check(end))
        start = max(start + interval, end)


def test_result_counts_for_an_interval_a_timeout_and_the_slack() -> None:
    assert fresh_for(interval=10.0, timeout=2.0) == 12.0 + SLACK
