"""Results of health checks in; a verdict with its age out. No clock is read here: ``now`` comes in.

A service is checked every ``interval`` seconds, and a check takes ``timeout`` seconds at most. Of what is known:

| state | is said while |
|---|---|
| ``unknown`` | no check has ended yet, and the first is not overdue |
| ``up`` | the last check is fresh, and was answered with a 2xx or 3xx |
| ``down`` | the last check is fresh, and failed: no connection, no whole answer within ``timeout``, another status |
| ``stale`` | a result is overdue, or checking has ended: what was known says nothing about now |

A result is fresh for ``fresh_for`` seconds: the longest that two results can lie apart when all goes well, and a second
for a busy machine. A backend that hangs is therefore ``down``, never ``stale``: its check ends by its timeout, on
time. ``stale`` tells of the checking, not of the backend: a check that cannot be cancelled, or that died.

``since`` is when the state began: at the first of an unbroken row of like results, or when the result became overdue.
``last_error`` is that of the last check, and None where that went well: an error without its date would only mislead.

A verdict informs. Nothing refuses a request because of one.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

SLACK = 1.0
"""Seconds that a check's result may be late before it is overdue."""


class State(StrEnum):
    """What is known of a service."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"
    STALE = "stale"


def fresh_for(*, interval: float, timeout: float) -> float:
    """Seconds that a result counts for.

    Checks start ``interval`` apart, or later where one takes longer than that. So two results lie furthest apart when
    the first came at once and the second took its whole ``timeout``.
    """
    return interval + timeout + SLACK


@dataclass(frozen=True, slots=True)
class Check:
    """One check that has ended."""

    ended: float
    """When, in seconds of the caller's clock."""
    latency: float | None = None
    """Seconds from its start to the end of the answer; None where there was none."""
    error: str | None = None
    """Why it failed, in words that hold no address; None where it did not."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a service, as of now. Times are of the caller's clock, durations in seconds."""

    state: State
    since: float | None = None
    """When the state began; None before anybody has begun to check."""
    checked_at: float | None = None
    """When the last check ended."""
    age: float | None = None
    """How long ago that was."""
    latency: float | None = None
    last_error: str | None = None

    @property
    def latency_ms(self) -> float | None:
        """The latency as people read it."""
        return None if self.latency is None else self.latency * 1000


@dataclass(frozen=True, slots=True)
class History:
    """What the checks of one service have shown so far. Grows by ``after``; nothing in it changes."""

    fresh_for: float
    began: float | None = None
    """When checking began."""
    check: Check | None = None
    """The last check that has ended."""
    since: float | None = None
    """When the state that this check shows began."""
    ended: float | None = None
    """When checking ended, for whatever reason."""

    def after(self, check: Check) -> "History":
        """The history with one more check."""
        before = self.verdict(check.ended)
        state = State.UP if check.error is None else State.DOWN
        since = before.since if before.state is state else check.ended
        return replace(self, check=check, since=since)

    def verdict(self, now: float) -> Verdict:
        """What is known as of ``now``."""
        if self.began is None:
            return Verdict(State.UNKNOWN)
        overdue = (self.began if self.check is None else self.check.ended) + self.fresh_for
        if self.ended is not None:
            overdue = min(overdue, self.ended)
        # At the very moment it is due, a result is not late yet; but checking that has ended has ended.
        stale = now > overdue or self.ended is not None
        if self.check is None:
            return Verdict(State.STALE if stale else State.UNKNOWN, overdue if stale else self.began)
        result = State.UP if self.check.error is None else State.DOWN
        return Verdict(
            State.STALE if stale else result,
            overdue if stale else self.since,
            self.check.ended,
            now - self.check.ended,
            self.check.latency,
            self.check.error,
        )
