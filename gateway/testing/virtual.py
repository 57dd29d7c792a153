"""Runs of trio that can be told again: virtual time, a scheduler with a seed, and an eye on every step.

What lives here: how a run is started and what is counted in it. What never will: what happens in it.

Trio shuffles the tasks that are ready, so that nobody relies on their order. Seeded, it still shuffles (every order
that can be is met with by some seed), but the same seed gives the same order: a failure can be shown again.
"""

import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import trio
from trio.testing import MockClock

T = TypeVar("T")


@contextmanager
def seeded_scheduler(seed: int) -> Iterator[None]:
    """Make the order in which trio runs ready tasks a function of ``seed``, for runs that begin in the block."""
    # Trio's own hook for Hypothesis sets just these two; there is no public way, and no other place they are used.
    core = vars(trio._core._run)  # noqa: SLF001 -- see above
    before, chance = core["_ALLOW_DETERMINISTIC_SCHEDULING"], core["_r"]
    state = chance.getstate()
    core["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
    chance.seed(seed)
    try:
        yield
    finally:
        core["_ALLOW_DETERMINISTIC_SCHEDULING"] = before
        chance.setstate(state)


def run_virtual(
    main: Callable[..., Awaitable[T]],
    *arguments: object,
    seed: int = 0,
    clock: MockClock | None = None,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> T:
    """Run ``main(*arguments)`` with trio on a clock that jumps whenever all tasks wait; return what it returns.

    The clock begins at 0. ``seed`` settles the order of tasks. Raises what ``main`` raises.
    """
    with seeded_scheduler(seed):
        clock = MockClock(autojump_threshold=0) if clock is None else clock
        return trio.run(main, *arguments, clock=clock, instruments=list(instruments))


def dice(seed: int) -> random.Random:
    """Make a source of chance that is told by its seed."""
    return random.Random(seed)  # noqa: S311 -- a seed is the point


class Steps(trio.abc.Instrument):
    """Counts the steps of all tasks, and does one thing between two of them.

    A task's step is what it does from one checkpoint to the next: nothing else can happen within it, so whatever may
    come between happens between two steps. ``act`` is called once, synchronously, after step number ``at`` since
    :meth:`start`; with ``at=0``, at the start itself; without ``at``, never.
    """

    def __init__(self, at: int | None = None, act: Callable[[], None] = lambda: None) -> None:
        self.at = at
        self.act = act
        self.count = 0
        """Steps since :meth:`start`."""
        self.acted_at: float | None = None
        """``trio.current_time()`` when ``act`` was called; None as long as it was not."""
        self._counting = False

    def start(self) -> None:
        """Count from here on."""
        self._counting = True
        self._look()

    def stop(self) -> None:
        """Count no more, and act no more."""
        self._counting = False

    def after_task_step(self, _task: trio.lowlevel.Task) -> None:
        """See trio.abc.Instrument."""
        if self._counting:
            self.count += 1
            self._look()

    def _look(self) -> None:
        if self.count == self.at and self.acted_at is None:
            self.acted_at = trio.current_time()
            self.act()
