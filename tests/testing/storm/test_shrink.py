from collections.abc import Sequence

import pytest

from gateway.testing.storm.shrink import shrink


def test_what_it_takes_is_found_in_its_order() -> None:
    def fails(items: Sequence[int]) -> bool:
        return {3, 40, 77} <= set(items)

    assert shrink(range(100), fails) == [3, 40, 77]


def test_one_item_is_found_in_few_tries() -> None:
    tries = 0

    def fails(items: Sequence[int]) -> bool:
        nonlocal tries
        tries += 1
        return 617 in items

    assert shrink(range(1000), fails) == [617]
    assert tries < 50


def test_failure_that_takes_a_number_of_any_items_is_cut_down_to_that_number() -> None:
    assert len(shrink(range(64), lambda items: len(items) >= 5)) == 5


def test_time_that_is_up_gives_what_is_found_so_far_and_that_fails() -> None:
    now = 0.0

    def fails(items: Sequence[int]) -> bool:
        nonlocal now
        now += 1
        return {1, 98} <= set(items)

    found = shrink(range(100), fails, seconds=4, clock=lambda: now)
    assert {1, 98} <= set(found)
    assert 2 < len(found) < 100


def test_what_does_not_fail_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fail"):
        shrink([1], lambda _items: False)
