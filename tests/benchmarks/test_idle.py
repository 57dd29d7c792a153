import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from benchmarks.idle import clients, is_open, room, take_in

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 4\r\n\r\nbody"


@pytest.fixture
def port() -> Iterator[int]:
    """A server that answers once on each connection, and then holds it."""
    kept: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):  # the listener is shut down
            while True:
                accepted, _ = listener.accept()
                kept.append(accepted)
                accepted.recv(4096)
                accepted.sendall(ANSWER)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for sock in kept:
        sock.close()


def test_clients_are_answered_and_stay_until_the_block_ends(port: int) -> None:
    with clients(f"http://127.0.0.1:{port}/api", 5) as held:
        assert [is_open(sock) for sock in held] == [True] * 5
    assert [is_open(sock) for sock in held] == [False] * 5


def test_client_whose_other_side_has_gone_is_not_open() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        assert is_open(ours)
        theirs.close()
        assert not is_open(ours)


def test_answer_is_taken_in_to_its_last_byte_and_one_that_ends_early_is_told() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(ANSWER)
        take_in(ours)
        theirs.sendall(ANSWER[:-1])
        theirs.close()
        with pytest.raises(ConnectionError, match="bod"):
            take_in(ours)


@pytest.mark.parametrize(
    ("hard", "count"),
    [(resource.RLIM_INFINITY, 10_000), (65_536, 10_000), (20_000, 9_900), (1024, 412), (100, 0)],
)
def test_as_many_clients_are_held_as_the_gateway_takes_and_we_can_have(hard: int, count: int) -> None:
    assert room(hard) == count
