"""The app's side of its start and its end, and what its failures become."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.utils import LifespanFailureError, LifespanTimeoutError

from gateway.server.lifespan import Lifespan

from .conftest import quiet_config

App = Callable[[Any, Any, Any], Awaitable[None]]


class Played:
    """A lifespan, the task of its app, and how often a crash was told."""

    def __init__(self, nursery: trio.Nursery, app: App, **settings: Any) -> None:
        self.state: dict[str, Any] = {}
        self.crashes = 0
        self.ended = trio.Event()
        self.lifespan = Lifespan(ASGIWrapper(app), quiet_config(**settings), self.state, self._crashed)
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        await self.lifespan.run()
        self.ended.set()

    def _crashed(self) -> None:
        self.crashes += 1


async def test_app_is_told_of_start_and_end_and_each_waits_for_its_word(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])
        for stage in ("startup", "shutdown"):
            seen.append((await receive())["type"])
            await trio.sleep(5)
            scope["state"][stage] = trio.current_time()
            await send({"type": f"lifespan.{stage}.complete"})

    played = Played(nursery, app)
    await played.lifespan.wait_for_startup()
    assert trio.current_time() == 5
    assert played.state == {"startup": 5}
    await trio.sleep(1)
    assert seen == ["lifespan", "lifespan.startup"]
    await played.lifespan.wait_for_shutdown()
    assert trio.current_time() == 11
    assert seen == ["lifespan", "lifespan.startup", "lifespan.shutdown"]
    await played.ended.wait()
    assert (played.crashes, played.lifespan.error) == (0, None)


@pytest.mark.parametrize("stage", ["startup", "shutdown"])
@pytest.mark.parametrize("how", ["raise", "say", "raise in a nursery"])
async def test_what_the_app_fails_with_is_raised_as_it_is(nursery: trio.Nursery, stage: str, how: str) -> None:
    async def fail(send: Any) -> None:
        if how == "say":
            await send({"type": f"lifespan.{stage}.failed", "message": "no luck"})
        raise LookupError("no luck")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != f"lifespan.{stage}":
            await send({"type": "lifespan.startup.complete"})
        if how != "raise in a nursery":
            await fail(send)
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.sleep_forever)
            inner.start_soon(fail, send)

    played = Played(nursery, app)
    if stage == "shutdown":
        await played.lifespan.wait_for_startup()
    wait = played.lifespan.wait_for_startup if stage == "startup" else played.lifespan.wait_for_shutdown
    with pytest.raises(LifespanFailureError if how == "say" else LookupError, match="no luck"):
        await wait()
    assert played.crashes == 1


async def test_app_that_crashes_while_serving_is_told_of_at_once_and_raised_at_the_end(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await trio.sleep(3)
        raise LookupError("crashed")

    played = Played(nursery, app)
    await played.lifespan.wait_for_startup()
    await played.ended.wait()
    assert (played.crashes, trio.current_time()) == (1, 3)
    with pytest.raises(LookupError, match="crashed"):
        await played.lifespan.wait_for_shutdown()
    assert trio.current_time() == 3  # there is nobody left to wait for


@pytest.mark.parametrize("stage", ["startup", "shutdown"])
@pytest.mark.parametrize("takes_it", [True, False], ids=["takes the message", "never asks"])
async def test_app_that_does_not_answer_is_waited_for_as_long_as_configured(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, stage: str, *, takes_it: bool
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if stage == "shutdown":
            await receive()
            await send({"type": "lifespan.startup.complete"})
        if takes_it:
            await receive()
        await trio.sleep_forever()

    played = Played(nursery, app, startup_timeout=7, shutdown_timeout=9)
    if stage == "shutdown":
        await played.lifespan.wait_for_startup()
    wait = played.lifespan.wait_for_startup if stage == "startup" else played.lifespan.wait_for_shutdown
    with pytest.raises(LifespanTimeoutError, match=stage):
        await wait()
    assert trio.current_time() == (7 if stage == "startup" else 9)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["raise", "return"])
async def test_app_that_knows_no_lifespan_is_served_without(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if how == "raise":
            raise AssertionError("http alone")

    played = Played(nursery, app, errorlog=logging.getLogger("tests.server"))
    await played.lifespan.wait_for_startup()
    await played.lifespan.wait_for_shutdown()
    assert (played.crashes, played.lifespan.error) == (0, None)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [("http alone" in line and "without" in line) for line in told] == ([True] if how == "raise" else [])


async def test_app_whose_part_ends_with_its_start_is_served_on(nursery: trio.Nursery) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})

    played = Played(nursery, app)
    await played.lifespan.wait_for_startup()
    await played.ended.wait()
    await played.lifespan.wait_for_shutdown()
    assert (played.crashes, played.lifespan.error) == (0, None)


async def test_app_that_ends_while_it_is_asked_to_start_keeps_nobody_waiting(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(2)  # and never asks for the message that waits for it

    played = Played(nursery, app)
    await played.lifespan.wait_for_startup()
    assert trio.current_time() == 2
    assert played.lifespan.error is None


async def test_app_that_is_cancelled_has_not_failed(autojump_clock: trio.testing.MockClock) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        played = Played(nursery, app)
        await played.lifespan.wait_for_startup()
        nursery.cancel_scope.cancel()
    assert (played.crashes, played.lifespan.error) == (0, None)
