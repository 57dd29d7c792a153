"""The numbers, and the counting of events in a window of time."""

import re
from dataclasses import fields
from math import inf

import pytest

from gateway.server.limits import Limits, Rate

NAMES = [each.name for each in fields(Limits)]
MAY_BE_ZERO = {"drain_delay"}
"""Nobody need be told of the end beforehand."""


@pytest.mark.parametrize("name", NAMES)
def test_default_grants_something_and_not_without_end(name: str) -> None:
    value = getattr(Limits(), name)
    assert value >= 0 if name in MAY_BE_ZERO else value > 0
    assert value < inf or name == "max_connections"


def test_table_in_the_docstring_tells_every_limit_once_and_in_order() -> None:
    told = re.findall(r"^ *``(\w+)`` {2,}\w", Limits.__doc__ or "", re.MULTILINE)
    assert told == NAMES


def test_times_add_up_to_an_end_that_an_orchestrator_waits_for() -> None:
    """Kubernetes and `docker stop` have defaults of their own; a drain that never ends is what must not be."""
    limits = Limits()
    assert limits.drain_delay + limits.drain_timeout + limits.cut_timeout < 60


def test_limits_are_given_by_name_and_cannot_change_while_they_are_in_use() -> None:
    with pytest.raises(TypeError):
        Limits(1.0)  # type: ignore[call-arg]  # that is the point
    with pytest.raises(AttributeError):
        Limits().max_streams = 1  # type: ignore[misc]  # that is the point


def test_events_are_counted_within_the_window() -> None:
    rate = Rate(10)
    assert [rate.one_more(now) for now in (100, 100, 105, 109.9)] == [1, 2, 3, 4]


def test_window_begins_anew_with_the_first_event_after_it() -> None:
    rate = Rate(10)
    assert [rate.one_more(now) for now in (0, 9, 10, 19, 20, 45, 54, 55)] == [1, 2, 1, 2, 1, 1, 2, 1]


def test_clock_that_begins_below_zero_is_as_good() -> None:
    rate = Rate(10)
    assert [rate.one_more(now) for now in (-1e9, -1e9 + 5, -1e9 + 10)] == [1, 2, 1]
