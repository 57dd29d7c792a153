"""How many examples a property gets, and which.

By default few, and the same every time: a change fails on what it broke and on nothing else. With ``FUZZ_EXAMPLES`` in
the environment so many times as many, at random, or from ``FUZZ_SEED``: that is for long runs (``nox -s fuzz``).
"""

import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio
from hypothesis import HealthCheck, Phase, seed, settings
from trio.testing import MockClock

from gateway.server.failures import plain_errors

TIMES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
SEED = os.environ.get("FUZZ_SEED")
LONGEST = 3600
"""Seconds of the virtual clock that one example may take: what takes longer hangs."""

Result = TypeVar("Result")
Test = TypeVar("Test", bound=Callable[..., None])


def examples(count: int) -> Callable[[Test], Test]:
    """Decorate a property: this many examples are enough for every day."""
    chosen = settings(
        max_examples=count * (TIMES or 1),
        derandomize=not TIMES,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],  # to explain a failure takes minutes
        deadline=None,  # two cores and many at work: a slow example says nothing
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        print_blob=True,
    )

    def decorate(test: Test) -> Test:
        chosen(test)
        return seed(int(SEED))(test) if TIMES and SEED else test

    return decorate


def run(play: Callable[..., Awaitable[Result]], *arguments: Any) -> Result:
    """Run one example from start to end, in a world of its own on a virtual clock."""

    async def bounded() -> Result:
        with plain_errors(), trio.fail_after(LONGEST):
            return await play(*arguments)
        raise AssertionError("unreachable")

    return trio.run(bounded, clock=MockClock(autojump_threshold=0))
