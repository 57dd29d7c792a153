"""Hypercorn's task group over a nursery that is there already."""

from functools import partial
from typing import Any

import pytest
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.typing import ASGIReceiveEvent, ASGISendEvent, HTTPScope

from gateway.server.tasks import Tasks

from .conftest import quiet_config

SCOPE: Any = {"type": "http"}


async def test_tasks_run_in_the_nursery_that_was_given(autojump_clock: trio.testing.MockClock) -> None:
    done: list[str] = []

    async def work(name: str) -> None:
        await trio.sleep(1)
        done.append(name)

    async with trio.open_nursery() as nursery:
        tasks = Tasks(nursery)
        tasks.spawn(work, "a")
        tasks.spawn(work, "b")
        assert len(nursery.child_tasks) == 2
        assert done == []  # nothing runs before there is a wait
    assert sorted(done) == ["a", "b"]
    assert trio.current_time() == 1


async def test_tasks_end_with_the_nursery_that_was_given(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            Tasks(nursery).spawn(trio.sleep_forever)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert trio.current_time() == 1


async def test_failure_of_a_task_is_the_nurserys() -> None:
    async def fail() -> None:
        raise LookupError("failed")

    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            Tasks(nursery).spawn(fail)
    assert isinstance(caught.value.exceptions[0], LookupError)


async def test_app_is_fed_and_its_end_is_told(autojump_clock: trio.testing.MockClock) -> None:
    """Hypercorn's own ``spawn_app`` finds what it needs."""
    heard: list[Any] = []
    sent: list[ASGISendEvent | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        heard.extend([scope, await receive()])
        await send({"type": "http.response.body"})

    async def send(event: ASGISendEvent | None) -> None:
        sent.append(event)

    message: ASGIReceiveEvent = {"type": "http.disconnect"}
    scope: HTTPScope = SCOPE
    config: Config = quiet_config()
    async with trio.open_nursery() as nursery:
        put = await Tasks(nursery).spawn_app(ASGIWrapper(app), config, scope, partial(send))
        await put(message)
    assert heard == [scope, message]
    assert sent == [{"type": "http.response.body"}, None]
