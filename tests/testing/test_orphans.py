import os
import re
import socket

import pytest
import trio
from trio.testing import MockClock

from gateway.testing.network import MemoryNetwork
from gateway.testing.orphans import OrphansError, assert_no_orphans, task_tree


async def forgotten_task() -> None:
    await trio.sleep_forever()


async def forgotten_parent() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(forgotten_task, name="the child")


async def test_nothing_left_passes_and_what_was_there_before_may_stay(
    network: MemoryNetwork, nursery: trio.Nursery
) -> None:
    network.listen("service1", 8001)
    before = await network.connect("service1", 8001)
    nursery.start_soon(forgotten_task)
    async with assert_no_orphans(network, slots=lambda: 3):
        (await network.connect("service1", 8001)).close()
        for stream in network.open_streams:
            if stream is not before and stream.remote_address != before.local_address:
                stream.close()
    nursery.cancel_scope.cancel()


async def test_task_left_behind_is_told_with_its_children_and_where_they_wait(nursery: trio.Nursery) -> None:
    with pytest.raises(OrphansError) as caught:
        async with assert_no_orphans():
            nursery.start_soon(forgotten_parent)
    told = str(caught.value).splitlines()
    assert told[:2] == ["left behind:", "2 tasks:"]
    assert re.fullmatch(r" +\S+\.forgotten_parent", told[2])
    assert re.fullmatch(r" +tests/testing/test_orphans\.py:\d+ in forgotten_parent", told[3])
    assert told[4].strip() == "the child"
    assert told[4].index("the child") == re.search(r"\S", told[2]).start() + 2  # type: ignore[union-attr] # it matched above
    assert re.fullmatch(r" +tests/testing/test_orphans\.py:\d+ in forgotten_task", told[5])
    nursery.cancel_scope.cancel()


async def test_stream_left_open_is_told(network: MemoryNetwork) -> None:
    network.listen("service1", 8001)
    with pytest.raises(OrphansError) as caught:
        async with assert_no_orphans(network):
            client = await network.connect("service1", 8001)
    assert str(caught.value) == "\n".join(
        ["left behind:", "2 streams:", *(f"  {stream!r}" for stream in network.open_streams)]
    )
    client.close()


async def test_descriptor_left_open_is_told_a_socket_with_both_ends() -> None:
    left: list[socket.socket] = []
    pipe: list[int] = []

    async def forget(server: socket.socket) -> None:
        async with assert_no_orphans():
            left.extend([socket.create_connection(server.getsockname()), socket.socket()])
            pipe.extend(os.pipe())

    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(OrphansError) as caught:
            await forget(server)
        told = str(caught.value)
        assert "4 descriptors:" in told
        assert re.search(rf"{left[0].fileno()}: socket:\[\d+\] ", told)
        assert f"{left[0].getsockname()} ⇄ {server.getsockname()}" in told
        assert f"{left[1].fileno()}: socket:[" in told
        assert f"{pipe[0]}: pipe:[" in told
        for sock in left:
            sock.close()
        for end in pipe:
            os.close(end)


async def test_count_that_is_not_back_is_told_with_both_figures() -> None:
    leased = [1]
    with pytest.raises(OrphansError, match="slots: 2, before 1"):
        async with assert_no_orphans(slots=lambda: len(leased), queued=lambda: 0):
            leased.append(2)


async def test_what_is_on_its_way_out_may_go(nursery: trio.Nursery) -> None:
    async def takes_some_steps() -> None:
        for _ in range(5):
            await trio.lowlevel.checkpoint()

    async with assert_no_orphans():
        nursery.start_soon(takes_some_steps)


async def test_grace_is_given_and_no_more(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async with assert_no_orphans(grace=1):
        nursery.start_soon(trio.sleep, 0.5)
    assert trio.current_time() == pytest.approx(0.5, abs=0.02)
    with pytest.raises(OrphansError, match="1 tasks"):
        async with assert_no_orphans(grace=1):
            nursery.start_soon(trio.sleep, 1.5)
    assert trio.current_time() == pytest.approx(1.5, abs=0.04)


async def test_failure_of_the_block_comes_out_instead(nursery: trio.Nursery) -> None:
    async def fail() -> None:
        async with assert_no_orphans():
            nursery.start_soon(trio.sleep_forever)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    nursery.cancel_scope.cancel()


async def test_task_tree_tells_every_task(nursery: trio.Nursery) -> None:
    nursery.start_soon(forgotten_parent)
    await trio.testing.wait_all_tasks_blocked()
    told = task_tree()
    assert told.startswith("<init>\n")
    assert "forgotten_parent" in told
    assert re.search(r"the child\n +tests/testing/test_orphans\.py:\d+ in forgotten_task", told)
    nursery.cancel_scope.cancel()
