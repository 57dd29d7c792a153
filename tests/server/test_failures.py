"""What is taken out of a tree of exceptions."""

import pytest
import trio

from gateway.server.failures import ClientGone, fatal_part, leaves, plain_errors, sole_error


def test_group_of_nothing_but_fatal_ones_is_fatal_as_it_is() -> None:
    group = BaseExceptionGroup("", [KeyboardInterrupt(), BaseExceptionGroup("", [SystemExit(1)])])
    assert fatal_part(group) is group


def test_of_a_mixed_group_only_the_fatal_ones_are_fatal() -> None:
    interrupt = KeyboardInterrupt()
    fatal = fatal_part(BaseExceptionGroup("", [ValueError(), BaseExceptionGroup("", [interrupt, OSError()])]))
    assert fatal is not None
    assert list(leaves(fatal)) == [interrupt]


@pytest.mark.parametrize("error", [ValueError(), ClientGone(), ExceptionGroup("", [ValueError(), OSError()])])
def test_of_ordinary_failures_nothing_is_fatal(error: Exception) -> None:
    assert fatal_part(error) is None


def test_fatal_one_alone_is_fatal() -> None:
    interrupt = KeyboardInterrupt()
    assert fatal_part(interrupt) is interrupt


async def test_cancellation_of_a_nursery_is_fatal_as_it_is() -> None:
    whole = []
    async with trio.open_nursery() as outer:
        try:
            async with trio.open_nursery() as inner:
                inner.start_soon(trio.sleep_forever)
                outer.cancel_scope.cancel()
        except BaseException as error:
            whole.append(fatal_part(error) is error)
            raise
    assert whole == [True]


def test_one_failure_comes_out_of_its_groups() -> None:
    failure = ValueError()
    assert sole_error(ExceptionGroup("", [ExceptionGroup("", [failure])])) is failure
    with pytest.raises(ValueError, match=r"^$"), plain_errors():
        raise ExceptionGroup("", [failure])


def test_several_failures_stay_together() -> None:
    group = ExceptionGroup("", [ValueError(), OSError()])
    assert sole_error(group) is group
    with pytest.raises(ExceptionGroup) as caught, plain_errors():
        raise group
    assert caught.value is group
