"""Accepting several connections in one turn."""

import errno
import socket

import pytest
import trio

from gateway.server.accepting import PromptListener


def listening(backlog: int = 100) -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=backlog)


async def test_connections_that_wait_are_taken_without_waiting() -> None:
    sock = listening()
    address = sock.getsockname()
    async with PromptListener(sock) as listener:
        assert listener.accept_now() is None
        clients = [socket.create_connection(address) for _ in range(5)]
        with trio.fail_after(5):
            taken = [await listener.accept()]
            while len(taken) < 5:
                stream = listener.accept_now()
                if stream is not None:
                    taken.append(stream)
        assert listener.accept_now() is None
        for client in clients:
            client.close()
        for stream in taken:
            assert await stream.receive_some(1) == b""
            await stream.aclose()


async def test_listener_that_is_closed_wakes_who_waits_for_a_connection() -> None:
    listener = PromptListener(listening())

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await listener.aclose()


class Moody:
    """A listening socket whose accept(2) fails as it is told."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)

    def setblocking(self, _flag: bool) -> None:  # noqa: FBT001 -- socket's own interface
        """Nothing blocks here."""

    def accept(self) -> tuple[socket.socket, object]:
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, "told so")
        raise BlockingIOError


def test_connection_that_failed_while_it_waited_is_passed_over() -> None:
    moody = Moody(errno.ECONNABORTED, errno.EPROTO)
    assert PromptListener(moody).accept_now() is None  # type: ignore[arg-type] # as much of a socket as is needed
    assert moody.errors == []


def test_lack_of_descriptors_is_told() -> None:
    with pytest.raises(OSError, match="told so"):
        PromptListener(Moody(errno.EMFILE)).accept_now()  # type: ignore[arg-type] # as above
