"""A failing list cut down to what it takes to fail.

What lives here: delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002).
What never will: what fails, or how.
"""

import time
from collections.abc import Callable, Sequence
from math import inf
from typing import TypeVar

T = TypeVar("T")


def shrink(
    items: Sequence[T],
    fails: Callable[[Sequence[T]], bool],
    *,
    seconds: float = inf,
    clock: Callable[[], float] = time.monotonic,
) -> list[T]:
    """Find a part of ``items``, in their order, that still ``fails`` and no single item of which can be left out.

    After ``seconds`` of ``clock`` it gives what it has by then; that fails too. Raises ValueError where all of
    ``items`` does not fail.
    """
    left = list(items)
    if not fails(left):
        raise ValueError("it does not fail as it is")
    due = clock() + seconds
    parts = 2
    while len(left) > 1 and clock() < due:
        size = -(-len(left) // parts)
        for start in range(0, len(left), size):
            without = left[:start] + left[start + size :]
            if clock() < due and fails(without):
                left, parts = without, max(parts - 1, 2)
                break
        else:
            if size == 1:
                break
            parts = min(parts * 2, len(left))
    return left
