"""Who may write when: the turns of the streams of one connection, with a socket and a state machine that are played."""

from typing import Any

import pytest
import trio
import trio.testing

from gateway.server import Limits
from gateway.server.failures import ClientGone
from gateway.server.h2_sender import TURN, FrameSender, Stalled

FRAME = 16_384


class Link:
    """A connection whose socket takes a write whenever the test says so."""

    def __init__(self) -> None:
        self.limits = Limits(response_buffer=100_000, client_timeout=7)
        self.gone = False
        self.writes: list[bytes] = []
        self._go = trio.lowlevel.ParkingLot()

    async def write(self, data: bytes) -> None:
        await self._go.park()
        self.writes.append(data)

    async def let_write(self) -> None:
        await trio.testing.wait_all_tasks_blocked()
        self._go.unpark()
        await trio.testing.wait_all_tasks_blocked()

    def read_on(self) -> None:
        pass


class Machine:
    """HTTP/2 as far as the sender sees it: a frame is as many bytes of its stream's number."""

    max_outbound_frame_size = FRAME

    def __init__(self) -> None:
        self.windows: dict[int, int] = {}
        self.frames: list[tuple[int, int]] = []
        self._out = b""

    def local_flow_control_window(self, stream_id: int) -> int:
        return self.windows.get(stream_id, 2**30)

    def send_data(self, stream_id: int, data: bytes, *, end_stream: bool) -> None:  # noqa: ARG002 -- h2's signature
        if stream_id in self.windows:
            self.windows[stream_id] -= len(data)
        self.frames.append((stream_id, len(data)))
        self._out += bytes([stream_id]) * len(data)

    def data_to_send(self) -> bytes:
        out, self._out = self._out, b""
        return out


class Played:
    """A sender at work, and apps that pour."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.link = Link()
        self.machine = Machine()
        link: Any = self.link
        machine: Any = self.machine
        self.sender = FrameSender(link, machine)
        self.unwanted: set[int] = set()
        self.ended: dict[int, BaseException | None] = {}
        nursery.start_soon(self.sender.run, lambda: False)

    def pour(self, stream_id: int, size: int) -> None:
        async def app() -> None:
            try:
                await self.sender.pour(stream_id, bytes(size), end=False, wanted=lambda: stream_id not in self.unwanted)
            except ClientGone as error:
                self.ended[stream_id] = error
            else:
                self.ended[stream_id] = None

        self.nursery.start_soon(app)


@pytest.fixture
def played(nursery: trio.Nursery) -> Played:
    return Played(nursery)


async def test_streams_take_turns(played: Played) -> None:
    for stream_id in (1, 3, 5):
        played.pour(stream_id, 500_000)
    for _ in range(30):
        await played.link.let_write()
    assert played.ended == {1: None, 3: None, 5: None}
    in_a_row, before = 0, 0
    rows = []
    for stream_id, size in played.machine.frames:
        if stream_id != before:
            rows.append(in_a_row)
            in_a_row, before = 0, stream_id
        in_a_row += size
    # But for the first, who found nobody waiting, and the last, who has nobody to wait for.
    assert max(rows[2:-2]) <= TURN
    assert len(rows) > 15


async def test_those_who_need_little_do_not_wait_for_a_write_each(played: Played) -> None:
    played.pour(1, 120_000)  # the socket is full now
    for stream_id in range(3, 103, 2):
        played.pour(stream_id, 1000)
    await played.link.let_write()
    assert played.ended.keys() == {1, *range(3, 103, 2)}
    await played.link.let_write()
    await played.link.let_write()
    assert len(b"".join(played.link.writes)) == 120_000 + 50 * 1000


async def test_turn_of_a_stream_that_is_not_wanted_any_more_is_the_next_ones(played: Played) -> None:
    played.pour(1, 100_000)
    await trio.testing.wait_all_tasks_blocked()
    played.pour(3, 1000)
    await trio.testing.wait_all_tasks_blocked()
    played.pour(5, 1000)
    await trio.testing.wait_all_tasks_blocked()
    played.unwanted.add(3)
    await played.link.let_write()
    assert isinstance(played.ended[3], ClientGone)
    assert played.ended[5] is None


async def test_stream_whose_window_is_shut_gives_its_turn_away(played: Played) -> None:
    played.pour(1, 100_000)
    await trio.testing.wait_all_tasks_blocked()
    played.pour(3, 1000)
    await trio.testing.wait_all_tasks_blocked()
    played.pour(5, 1000)
    await trio.testing.wait_all_tasks_blocked()
    played.machine.windows[3] = 0
    await played.link.let_write()
    assert played.ended == {1: None, 5: None}
    played.machine.windows[3] = 1000
    played.sender.window_opened(3)
    await trio.testing.wait_all_tasks_blocked()
    assert played.ended[3] is None


async def test_patience_with_a_window_begins_anew_with_every_byte_that_it_lets_pass(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    played = Played(nursery)
    played.machine.windows[1] = 0
    played.pour(1, 3)
    for _ in range(2):
        await trio.sleep(6)
        played.machine.windows[1] += 1
        played.sender.window_opened(1)
        await trio.sleep(0.5)
        played.sender.window_opened(0)  # of another stream: that does not count
    await trio.sleep(6)
    assert played.ended == {}
    await trio.sleep(2)
    assert isinstance(played.ended[1], Stalled)
    assert autojump_clock is not None
