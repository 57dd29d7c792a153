import pytest
import trio
from trio.testing import MockClock

from gateway.testing.virtual import Steps, dice, run_virtual, seeded_scheduler


def order_of_ten(seed: int) -> list[int]:
    seen: list[int] = []

    async def note(number: int) -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            seen.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(note, number)

    run_virtual(main, seed=seed)
    return seen


def test_same_seed_gives_the_same_order_and_another_seed_another() -> None:
    assert order_of_ten(1) == order_of_ten(1)
    assert order_of_ten(1) != order_of_ten(2)


def test_scheduler_is_as_it_was_after_the_block_even_when_that_fails() -> None:
    chance = vars(trio._core._run)["_r"]  # noqa: SLF001 -- what is to be left as it was
    before = chance.getstate()
    with pytest.raises(ZeroDivisionError), seeded_scheduler(7):
        raise ZeroDivisionError
    assert chance.getstate() == before


def test_thirty_seconds_are_exactly_thirty_and_take_no_time() -> None:
    async def main() -> float:
        await trio.sleep(30)
        return trio.current_time()

    assert run_virtual(main) == 30.0


def test_clock_of_the_caller_is_taken() -> None:
    clock = MockClock(rate=1e6)

    async def main() -> None:
        await trio.sleep(1)

    run_virtual(main, clock=clock)
    assert clock.current_time() >= 1


def test_dice_of_one_seed_fall_alike() -> None:
    assert dice(5).random() == dice(5).random() != dice(6).random()


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_act_comes_exactly_once_after_its_step(at: int) -> None:
    seen: list[str] = []
    steps = Steps(at, lambda: seen.append("act"))

    async def main() -> None:
        steps.start()
        for number in range(1, 5):
            await trio.lowlevel.checkpoint()
            seen.append(f"step {number}")

    run_virtual(main, instruments=[steps])
    assert seen.index("act") == max(at - 1, 0)  # the first step is the one that starts
    assert seen.count("act") == 1
    assert steps.acted_at == 0.0


def test_no_step_counts_before_the_start_or_after_the_stop() -> None:
    steps = Steps()

    async def main() -> None:
        await trio.lowlevel.checkpoint()
        steps.start()
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        steps.stop()
        await trio.lowlevel.checkpoint()

    run_virtual(main, instruments=[steps])
    assert steps.count == 2
    assert steps.acted_at is None
