"""Isolation: how it judges, and what needs no clock to be seen."""

import socket
import threading
from pathlib import Path

import pytest

from benchmarks.backend import ANSWER
from benchmarks.isolation import ALONE, STATES, Measured, Results, failures, growths, told
from benchmarks.isolation_cases import DESCRIPTORS, answers, crowded, full_disk, stalled_reader


def silent(words: str) -> None:
    """Progress is not for here."""


def results(grown: float = 0.05, health: float = 0.02) -> Results:
    return {
        state: Measured(
            [[base * (1 if state == ALONE else 1 + grown)] * 200 for base in (0.01, 0.02, 0.03)],
            [0.001, health],
        )
        for state in STATES
    }


def test_growth_is_told_within_a_round_and_judged_by_its_median() -> None:
    measured = results()
    measured["never answers"].latencies[0] = [0.5] * 200
    assert growths(measured, "never answers") == [pytest.approx(each) for each in (49, 0.05, 0.05)]
    assert list(failures(measured)) == []
    assert "+5.0% (+5% to +4900%)" in told(measured)
    assert "All of it held." in told(measured)


@pytest.mark.parametrize(
    ("measured", "failure"),
    [
        (results(grown=0.101), "the p99 of the good service has grown by 10%"),
        (results(health=0.051), "/health took 51 ms"),
    ],
    ids=["p99", "health"],
)
def test_state_that_others_notice_is_told(measured: Results, failure: str) -> None:
    assert f"never answers: {failure}" in failures(measured)
    assert failure in told(measured)


def test_answers_are_counted_and_a_connection_that_ends_is_told() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        writer = threading.Thread(target=theirs.sendall, args=(ANSWER * 50,))
        writer.start()
        assert answers(ours, 50) == 50
        writer.join()
        theirs.sendall(ANSWER)
        theirs.close()
        with pytest.raises(ConnectionError, match="1 of 2"):
            answers(ours, 2)


# The gateway as a process


def test_300_hanging_requests_against_128_descriptors_leave_nothing_behind(tmp_path: Path) -> None:
    crowd = crowded(tmp_path, silent)
    assert list(crowd.failures()) == []
    assert crowd.at_most <= DESCRIPTORS
    assert crowd.refused + crowd.waiting == 300
    assert crowd.refused < DESCRIPTORS / 4, "clients have taken the descriptors that are kept for backends"
    assert crowd.again < 5


def test_requests_go_on_while_nobody_reads_the_log_and_each_has_its_line_afterwards(tmp_path: Path) -> None:
    logged = stalled_reader(tmp_path, silent, requests=300)
    assert list(logged.failures()) == []
    assert (logged.answered, logged.read, logged.dropped) == (300, 300, 0)


def test_requests_go_on_while_the_disk_is_full_and_the_lines_lost_are_counted(tmp_path: Path) -> None:
    logged = full_disk(tmp_path, silent, requests=300)
    assert list(logged.failures()) == []
    assert logged.answered == 300
    assert logged.dropped >= 300
