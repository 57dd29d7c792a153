import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from gateway.server.workers import Crew, Timing, how_it_ended, supervise

WORKER = """
import contextlib, json, os, select, signal, socket, struct, sys, threading, time

line = socket.socket(fileno=int(sys.argv[1]))
length, seat, table = struct.unpack("!III", line.recv(12, socket.MSG_WAITALL))
order = json.loads(line.recv(length, socket.MSG_WAITALL))
if order.get("mute"):
    time.sleep(60)
if order.get("broken"):
    sys.exit(3)
listener = socket.socket(fileno=order["listener"])

leaving = threading.Lock()
listener.setblocking(False)

def serve():
    while True:
        select.select([listener], [], [])
        with leaving, contextlib.suppress(BlockingIOError):
            client, _ = listener.accept()
            client.sendall(json.dumps({"pid": os.getpid(), "seat": seat, **order}).encode())
            threading.Thread(target=echo, args=[client], daemon=True).start()

def echo(client):
    while data := client.recv(100):
        client.sendall(data)

threading.Thread(target=serve, daemon=True).start()
line.sendall(b"ready\\n")
if "lives" in order:
    time.sleep(order["lives"])
    sys.exit(4)
word = line.recv(100)
if order.get("stays"):
    time.sleep(60)
leaving.acquire()
os._exit(order.get("status", 0))
"""
"""A worker that starts in some 20 ms: it tells whoever connects who it is, and echoes."""


@dataclass
class Running:
    """A supervisor that runs in this process, as a test sees it."""

    listener: socket.socket
    log: list[dict[str, Any]] = field(default_factory=list)
    orders: list[dict[str, Any] | None] = field(default_factory=list)
    """What each SIGHUP changes to; None: it cannot be used."""
    status: int | None = None
    ended: trio.Event = field(default_factory=trio.Event)
    news: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    def note(self, level: str, message: str, /, **facts: object) -> None:
        self.log.append({"level": level, "message": message, **facts})
        self.news.unpark_all()

    def told(self, message: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["message"] == message]

    async def until(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(10):
            while not condition():
                await self.news.park()

    async def until_told(self, message: str, times: int = 1) -> list[dict[str, Any]]:
        await self.until(lambda: len(self.told(message)) >= times)
        return self.told(message)

    async def connect(self) -> tuple[trio.SocketStream, dict[str, Any]]:
        with trio.fail_after(10):
            stream = await trio.open_tcp_stream(*self.listener.getsockname())
            return stream, json.loads(await stream.receive_some(1000))

    async def ask(self) -> dict[str, Any]:
        stream, answer = await self.connect()
        await stream.aclose()
        return answer

    def pids(self) -> set[int]:
        """Of the workers that got ready and have not ended."""
        ended = self.told("a worker has left") + self.told("a worker has died")
        return {line["worker"] for line in self.told("a worker is ready")} - {line["worker"] for line in ended}

    async def stopped(self, number: int = signal.SIGTERM) -> int:
        os.kill(os.getpid(), number)
        with trio.fail_after(10):
            await self.ended.wait()
        assert self.status is not None
        return self.status


@asynccontextmanager
async def supervised(
    count: int = 2,
    *,
    patience: float = 5,
    timing: Timing | None = None,
    python: str = sys.executable,
    **order: Any,
) -> AsyncIterator[Running]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = Running(listener)

        def crew(count: int, order: dict[str, Any]) -> Crew:
            told = json.dumps({**order, "listener": listener.fileno()}).encode()
            return Crew(
                count=count,
                command=lambda number: [python, "-I", "-S", "-c", WORKER, str(number)],
                order=lambda _place: told,
                descriptors=lambda _place: [listener.fileno()],
                patience=patience,
                close=listener.close,
            )

        def reload() -> Crew | None:
            changed = running.orders.pop(0)
            return None if changed is None else crew(changed.pop("count", count), changed)

        async def run() -> None:
            running.status = await supervise(crew(count, order), reload=reload, log=running.note, timing=timing)
            running.ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            with trio.fail_after(30):
                yield running
            nursery.cancel_scope.cancel()
    for line in running.told("a worker is ready"):
        with pytest.raises(ProcessLookupError):
            os.kill(line["worker"], 0)


async def test_workers_accept_from_one_socket_and_leave_when_told() -> None:
    async with supervised(3) as running:
        await running.until_told("a worker is ready", 3)
        answers = [await running.ask() for _ in range(5)]
        assert {answer["pid"] for answer in answers} <= running.pids()
        assert os.getpid() not in running.pids()
        address = running.listener.getsockname()
        assert await running.stopped() == 0
        with pytest.raises(OSError, match=r"refused|failed"):
            await trio.open_tcp_stream(*address)
    assert [line["message"] for line in running.log[3:]] == [
        "SIGTERM: all workers are to leave",
        *["a worker has left"] * 3,
        "all workers have left",
    ]


async def test_nothing_is_tried_again_where_the_first_worker_cannot_start() -> None:
    async with supervised(1, broken=True) as running:
        await running.ended.wait()
        assert running.status == 1
    assert [(line["message"], line["how"]) for line in running.log] == [("a worker has died", "exit status 3")]


async def test_command_that_is_not_there_is_told_and_tried_no_more() -> None:
    async with supervised(python="/nowhere/python") as running:
        await running.ended.wait()
        assert running.status == 1
    assert [line["message"] for line in running.log] == ["a worker cannot be started"]


async def test_worker_that_does_not_get_ready_is_killed() -> None:
    async with supervised(timing=Timing(start=0.1), mute=True) as running:
        await running.ended.wait()
        assert running.status == 1
    assert [line["message"] for line in running.log] == [
        "a worker does not get ready: it is killed",
        "a worker has died",
    ]


async def test_killed_worker_is_replaced_and_the_connections_of_the_other_are_untouched() -> None:
    async with supervised(2) as running:
        await running.until_told("a worker is ready", 2)
        stream, answer = await running.connect()
        victim = next(iter(running.pids() - {answer["pid"]}))
        os.kill(victim, signal.SIGKILL)
        answers = [await running.ask() for _ in range(20)]  # nobody is refused meanwhile
        assert victim not in {answer["pid"] for answer in answers[5:]}
        await running.until_told("a worker is ready", 3)
        assert (len(running.pids()), victim in running.pids()) == (2, False)
        await stream.send_all(b"still here?")
        assert await stream.receive_some(100) == b"still here?"
        await stream.aclose()
        assert await running.stopped() == 0
    assert running.told("a worker has died") == [
        {"level": "ERROR", "message": "a worker has died", "worker": victim, "how": "killed by SIGKILL"}
    ]
    assert running.told("a worker is replaced after a while") == []


async def test_worker_that_dies_young_is_replaced_after_delays_that_double() -> None:
    timing = Timing(first_delay=0.02, longest_delay=0.08)
    async with supervised(1, timing=timing, lives=0.01) as running:
        await running.until_told("a worker is replaced after a while", 4)
        assert await running.stopped() in {0, 1}  # by whether one was alive when it was told to leave
    delays = [line["seconds"] for line in running.told("a worker is replaced after a while")]
    assert delays[:4] == [0.02, 0.04, 0.08, 0.08]


async def test_worker_that_lived_long_is_replaced_at_once_each_time() -> None:
    async with supervised(1, timing=Timing(steady=0.01), lives=0.05) as running:
        await running.until_told("a worker is ready", 5)
        await running.stopped()
    assert running.told("a worker is replaced after a while") == []


async def test_hangup_replaces_every_worker_and_nobody_is_refused() -> None:
    async with supervised(2, version=1) as running:
        await running.until_told("a worker is ready", 2)
        old = running.pids()
        stream, answer = await running.connect()
        running.orders.append({"version": 2})
        os.kill(os.getpid(), signal.SIGHUP)
        while not running.told("all workers are replaced"):
            await running.ask()
        await running.until_told("a worker has left", 2)
        assert running.pids().isdisjoint(old)
        assert {(await running.ask())["version"] for _ in range(5)} == {2}
        assert answer["version"] == 1
        await stream.aclose()
        assert await running.stopped(signal.SIGINT) == 0
    # Each new one was ready before an old one left.
    lines = [line["message"] for line in running.log if line["message"] in {"a worker is ready", "a worker has left"}]
    serving = 0
    for index, line in enumerate(lines[:6]):
        serving += 1 if line == "a worker is ready" else -1
        assert index == 0 or serving >= 2 or index >= 4


async def test_storm_of_hangups_replaces_the_workers_twice_at_most() -> None:
    async with supervised(2, version=0) as running:
        await running.until_told("a worker is ready", 2)
        for version in range(1, 11):
            running.orders.append({"version": version})
            os.kill(os.getpid(), signal.SIGHUP)
            while running.orders:
                await trio.lowlevel.checkpoint()
        while (await running.ask())["version"] != 10:
            pass
        await running.until(lambda: running.told("all workers are replaced") and len(running.pids()) == 2)
        assert len(running.told("a worker is ready")) <= 6
        assert await running.stopped() == 0


async def test_hangup_changes_the_number_of_workers() -> None:
    async with supervised(2) as running:
        await running.until_told("a worker is ready", 2)
        for count, ready, left in ((3, 5, 2), (1, 6, 5)):
            running.orders.append({"count": count})
            os.kill(os.getpid(), signal.SIGHUP)
            await running.until_told("a worker is ready", ready)
            await running.until_told("a worker has left", left)
            assert len(running.pids()) == count
        assert await running.stopped() == 0
    assert [line["workers"] for line in running.told("all workers are replaced")] == [3, 1]


@pytest.mark.parametrize("orders", [[None], [{"broken": True}]])
async def test_hangup_to_what_does_not_work_leaves_all_as_it_is(orders: list[dict[str, Any] | None]) -> None:
    async with supervised(2) as running:
        await running.until_told("a worker is ready", 2)
        old = running.pids()
        running.orders = orders
        os.kill(os.getpid(), signal.SIGHUP)
        if orders[0] is None:
            await running.ask()
        else:
            await running.until_told("the new worker did not start: the old ones stay")
        assert running.pids() == old
        os.kill(old.pop(), signal.SIGKILL)
        await running.until_told("a worker is ready", 3)  # by the old order
        assert "broken" not in await running.ask()
        assert await running.stopped() == 0


async def test_worker_that_overstays_is_killed_and_the_status_tells() -> None:
    async with supervised(2, patience=0.1, stays=True) as running:
        await running.until_told("a worker is ready", 2)
        assert await running.stopped() == 1
    assert len(running.told("a worker overstays: it is killed")) == 2


async def test_worker_that_leaves_badly_makes_the_status_bad() -> None:
    async with supervised(1, status=5) as running:
        await running.until_told("a worker is ready")
        assert await running.stopped() == 1
    assert [line["how"] for line in running.told("a worker has died")] == ["exit status 5"]


async def test_second_signal_does_not_wait() -> None:
    taken: list[int] = []
    # It does to the supervisor what it does to any process; here there is a handler for it.
    before = signal.signal(signal.SIGTERM, lambda number, _frame: taken.append(number))
    try:
        async with supervised(2, stays=True, patience=60) as running:
            await running.until_told("a worker is ready", 2)
            os.kill(os.getpid(), signal.SIGTERM)
            await running.until_told("SIGTERM: all workers are to leave")
            assert await running.stopped() == 1
    finally:
        signal.signal(signal.SIGTERM, before)
    assert taken == [signal.SIGTERM]
    assert [line["how"] for line in running.told("a worker has died")] == ["killed by SIGKILL"] * 2


async def test_signal_while_the_first_worker_starts_is_obeyed_when_it_has() -> None:
    async with supervised(2) as running:
        await wait_all_tasks_blocked()
        assert await running.stopped() == 0
    assert len(running.told("a worker has left")) == 1


async def test_cancelled_supervisor_leaves_no_worker() -> None:
    async with supervised(2, stays=True) as running:
        await running.until_told("a worker is ready", 2)


async def test_each_worker_has_a_seat_of_its_own() -> None:
    async with supervised(2) as running:
        await running.until_told("a worker is ready", 2)
        seats: set[int] = set()
        while len(seats) < 2:
            seats.add((await running.ask())["seat"])
        assert seats == {1, 2}
        assert await running.stopped() == 0


@pytest.mark.parametrize(("code", "words"), [(0, "exit status 0"), (-9, "killed by SIGKILL")])
def test_end_of_a_process_in_words(code: int, words: str) -> None:
    assert how_it_ended(code) == words
