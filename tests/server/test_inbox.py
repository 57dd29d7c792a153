import tracemalloc
from typing import Any

import pytest
import trio

from gateway.server.inbox import GATHER, Inbox


@pytest.fixture
def taken() -> list[int]:
    return []


@pytest.fixture
def inbox(taken: list[int]) -> Inbox:
    return Inbox(taken.append)


def event(body: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_small_pieces_are_handed_over_as_one(inbox: Inbox, taken: list[int]) -> None:
    for piece in (b"a", b"b", b"c"):
        inbox.put(piece)
    assert inbox.size == 3
    assert await inbox.get() == event(b"abc", more=True)
    assert (inbox.size, taken) == (0, [3])


async def test_large_pieces_stay_apart(inbox: Inbox) -> None:
    large = bytes(GATHER)
    inbox.put(large)
    inbox.put(b"rest")
    inbox.end()
    assert await inbox.get() == event(large, more=True)
    assert await inbox.get() == event(b"rest", more=False)


async def test_no_body_is_one_empty_last_piece(inbox: Inbox) -> None:
    inbox.end()
    assert await inbox.get() == event(b"", more=False)


async def test_after_the_body_the_app_waits_for_the_disconnect(inbox: Inbox, autojump_clock: Any) -> None:
    inbox.put(b"all")
    inbox.end()
    assert await inbox.get() == event(b"all", more=False)
    async with trio.open_nursery() as nursery:

        async def leave() -> None:
            await trio.sleep(5)
            inbox.leave()

        nursery.start_soon(leave)
        assert await inbox.get() == {"type": "http.disconnect"}
        assert trio.current_time() == 5
    assert await inbox.get() == {"type": "http.disconnect"}


async def test_client_that_leaves_takes_its_unread_body_along(inbox: Inbox) -> None:
    inbox.put(b"half")
    inbox.leave()
    inbox.put(b"late")
    assert inbox.size == 0
    assert await inbox.get() == {"type": "http.disconnect"}


async def test_memory_does_not_follow_how_small_the_pieces_are(inbox: Inbox, taken: list[int]) -> None:
    size = 131_072
    tracemalloc.start()
    for number in range(size // 2):
        inbox.put(b"%02d" % (number % 100))
    # What the inbox and its caller made, and not what runs beside them: coverage, a thread of another test.
    ours = [tracemalloc.Filter(inclusive=True, filename_pattern="*inbox.py")]
    made = tracemalloc.take_snapshot().filter_traces(ours).statistics("filename")
    tracemalloc.stop()
    assert size <= sum(one.size for one in made) < 1.5 * size
    inbox.end()
    body = b""
    while len(body) < size:
        body += (await inbox.get())["body"]  # type: ignore[typeddict-item]  # it is no disconnect
    assert body[:6] + body[-2:] == b"00010235"
    assert sum(taken) == size


async def test_it_is_ready_for_a_piece_for_the_end_and_for_a_departure(inbox: Inbox) -> None:
    assert not inbox.is_ready()
    inbox.put(b"a")
    assert inbox.is_ready()
    await inbox.get()
    assert not inbox.is_ready()
    inbox.end()
    assert inbox.is_ready()
    other = Inbox(lambda _size: None)
    other.leave()
    assert other.is_ready()
