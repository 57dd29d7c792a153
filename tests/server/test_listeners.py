"""Sockets bound and closed, how they are named, and accepting when the process has no room."""

import contextlib
import errno
import logging
import os
import resource
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypercorn.config import Config

from gateway.server.accepting import PromptListener
from gateway.server.listeners import RETRY_AFTER, Bound, accept_from, bind, close, describe, listen
from gateway.server.shares import FairListener, Shares, open_table
from gateway.server.tls import Certificates, TlsListener
from gateway.testing.network import MemoryNetwork

from .conftest import quiet_config

Files = tuple[str, str, ssl.SSLContext]


def sockets() -> set[str]:
    """The sockets that the process holds, by their inodes."""
    found = set()
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208 -- names are all that is asked for
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            found.add(os.readlink(f"/proc/self/fd/{number}"))  # noqa: PTH115 -- no path of a file
    return {name for name in found if name.startswith("socket:")}


@contextlib.contextmanager
def opened(config: Config) -> Iterator[list[Bound]]:
    bound = bind(config)
    try:
        yield bound
    finally:
        close(bound)


# ---- binding


def test_each_name_is_bound_and_nothing_listens_yet() -> None:
    with opened(quiet_config(bind=["127.0.0.1:0", "127.0.0.1:0"])) as bound:
        assert [one.secure for one in bound] == [False, False]
        for one in bound:
            with socket.socket() as client, pytest.raises(ConnectionRefusedError):
                client.connect(one.sock.getsockname())


def test_ipv6_is_bound_with_or_without_brackets() -> None:
    try:
        with opened(quiet_config(bind=["[::1]:0", "::1:0"])) as bound:
            assert [one.sock.family for one in bound] == [socket.AF_INET6] * 2
            assert bound[0].sock.getsockname()[0] == "::1"
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        pytest.skip("no IPv6 here")


def test_insecure_names_count_only_beside_tls(certificates: Files) -> None:
    names = {"bind": ["127.0.0.1:0"], "insecure_bind": ["127.0.0.1:0"]}
    with opened(quiet_config(**names)) as bound:
        assert [one.secure for one in bound] == [False]
    with opened(quiet_config(**names, certfile=certificates[0], keyfile=certificates[1])) as bound:
        assert [one.secure for one in bound] == [True, False]


@pytest.mark.parametrize(
    "fault",
    ["{taken}", "no-such-host.invalid:0", "192.0.2.1:0", "unix:/no/such/folder/socket", "fd://9999", "127.0.0.1:99999"],
)
def test_fault_in_one_name_leaves_none_open(fault: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        before = sockets()
        name = fault.format(taken=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises((OSError, OverflowError)) as caught:
            bind(quiet_config(bind=["127.0.0.1:0", "127.0.0.1:0", name]))
        assert sockets() - before == set()  # while the error still holds on to every frame
        assert caught.value.__traceback__ is not None


def test_inherited_descriptor_is_taken_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        number = os.dup(inherited.fileno())
        with opened(quiet_config(bind=[f"fd://{number}"])) as bound:
            assert bound[0].sock.fileno() == number
            assert bound[0].sock.getsockname() == inherited.getsockname()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)


# ---- Unix sockets


def test_unix_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    config = quiet_config(bind=[f"unix:{path}"])
    for _ in range(2):
        with opened(config) as bound:
            assert bound[0].sock.getsockname() == str(path)
        assert path.is_socket()


def test_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    before = sockets()
    with pytest.raises(OSError, match="in use"):
        bind(quiet_config(bind=[f"unix:{path}"]))
    assert sockets() - before == set()
    assert path.read_text() == "data"


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o700), (0o007, 0o770), (0o000, 0o777)])
def test_unix_socket_has_the_rights_that_the_umask_leaves(tmp_path: Path, umask: int, mode: int) -> None:
    path = tmp_path / "socket"
    ours = os.umask(0o022)
    try:
        with opened(quiet_config(bind=[f"unix:{path}"], umask=umask)):
            assert stat.S_IMODE(path.stat().st_mode) == mode
        with pytest.raises(FileNotFoundError):
            bind(quiet_config(bind=["unix:/no/such/folder/socket"], umask=umask))
        assert os.umask(0o022) == 0o022, "the process's own is as before"
    finally:
        os.umask(ours)


def test_unix_socket_is_given_to_user_and_group(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with opened(quiet_config(bind=[f"unix:{path}"], user=os.getuid(), group=os.getgid())):
        assert (path.stat().st_uid, path.stat().st_gid) == (os.getuid(), os.getgid())
    before = sockets()
    with pytest.raises(OverflowError) as caught:
        bind(quiet_config(bind=[f"unix:{path}"], user=2**40, group=0))
    assert sockets() - before == set()
    assert caught.value.__traceback__ is not None


# ---- listening


async def test_each_socket_gets_the_listener_that_it_needs(certificates: Files) -> None:
    names = {"bind": ["127.0.0.1:0"], "insecure_bind": ["127.0.0.1:0"]}
    config = quiet_config(**names, certfile=certificates[0], keyfile=certificates[1])
    with opened(config) as bound:
        secure, plain = listen(bound, config, Certificates(config), None)
        assert isinstance(secure, TlsListener)
        assert isinstance(secure.transport_listener, PromptListener)
        assert type(plain) is PromptListener
        for one in bound:
            with socket.create_connection(one.sock.getsockname()):
                pass


async def test_listener_that_others_accept_from_too_is_fair() -> None:
    table = open_table()
    if table is None:
        pytest.skip("this system has no memory without a file")
    config = quiet_config()
    with opened(config) as bound:
        assert isinstance(listen(bound, config, None, Shares(table, 1))[0], FairListener)


async def test_address_that_is_in_use_only_when_it_comes_to_listening_leaves_none_open() -> None:
    """SO_REUSEADDR lets two have it until one of them listens: so do two servers that start at once."""
    before = sockets()
    config = quiet_config()
    with opened(config) as one:
        same = quiet_config(bind=["127.0.0.1:0", "{}:{}".format(*one[0].sock.getsockname())])
        other = bind(same)
        listen(one, config, None, None)
        with pytest.raises(OSError, match="in use"):
            listen(other, same, None, None)
        assert sockets() - before == {f"socket:[{os.fstat(one[0].sock.fileno()).st_ino}]"}


# ---- how they are named


async def test_listeners_are_named_by_scheme_and_address(certificates: Files, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    names = {"bind": ["127.0.0.1:0"], "insecure_bind": ["127.0.0.1:0", f"unix:{path}"]}
    config = quiet_config(**names, certfile=certificates[0], keyfile=certificates[1])
    with opened(config) as bound:
        ports = [one.sock.getsockname()[1] for one in bound[:2]]
        listeners = listen(bound, config, Certificates(config), None)
        assert describe(listeners) == [
            f"https://127.0.0.1:{ports[0]}",
            f"http://127.0.0.1:{ports[1]}",
            f"http://unix:{path}",
        ]


async def test_ipv6_is_named_in_brackets() -> None:
    try:
        listener = PromptListener(socket.create_server(("::1", 0), family=socket.AF_INET6))
    except OSError:
        pytest.skip("no IPv6 here")
    async with listener:
        assert describe([listener]) == [f"http://[::1]:{listener.socket.getsockname()[1]}"]


async def test_listeners_of_others_are_named_as_far_as_they_tell() -> None:
    class Nameless(trio.abc.Listener[Any]):
        def __repr__(self) -> str:
            return "nameless"

        async def accept(self) -> Any:
            await trio.sleep_forever()

        async def aclose(self) -> None:
            pass

    memory = MemoryNetwork().listen("gateway", 80)
    tls = trio.SSLListener(memory, ssl.create_default_context())
    assert describe([memory, tls, Nameless()]) == ["http://gateway:80", "https://gateway:80", "http://nameless"]
    await memory.aclose()


# ---- accepting


class Accepting:
    """``accept_from`` at work, and what came of it."""

    def __init__(self, nursery: trio.Nursery, config: Config, listener: trio.abc.Listener[Any]) -> None:
        self.nursery = nursery
        self.taken: list[Any] = []
        self.done: list[str] = []
        """``room`` and ``take``, in their order."""
        self.full = trio.Event()
        self.full.set()
        self.news = trio.Event()
        self.scope = trio.CancelScope()
        nursery.start_soon(self._run, listener, config)

    async def _run(self, listener: trio.abc.Listener[Any], config: Config) -> None:
        with self.scope:
            await accept_from(listener, self._take, self._room, config)

    def _take(self, stream: Any) -> None:
        self.taken.append(stream)
        self.news.set()
        self.done.append("take")

    async def _room(self) -> None:
        await self.full.wait()
        self.done.append("room")

    async def come(self, count: int) -> None:
        with trio.fail_after(5):
            while len(self.taken) < count:
                await self.news.wait()
                self.news = trio.Event()

    async def aclose(self) -> None:
        self.scope.cancel()
        for stream in self.taken:
            await stream.aclose()


@pytest.fixture
async def listener() -> AsyncIterator[PromptListener]:
    async with PromptListener(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener


def connections(listener: PromptListener, stack: contextlib.ExitStack, count: int) -> None:
    for _ in range(count):
        stack.enter_context(socket.create_connection(listener.socket.getsockname()))


async def test_each_stream_is_taken_and_room_is_asked_for_before_each(
    nursery: trio.Nursery, listener: PromptListener
) -> None:
    with contextlib.ExitStack() as stack:
        connections(listener, stack, 5)
        accepting = Accepting(nursery, quiet_config(), listener)
        await accepting.come(5)
        connections(listener, stack, 1)
        await accepting.come(6)
        asked_before = [before for before, now in pairwise(accepting.done) if now == "take"]
        assert asked_before == ["room"] * 6
        await accepting.aclose()


async def test_no_stream_is_taken_while_there_is_no_room(nursery: trio.Nursery, listener: PromptListener) -> None:
    with contextlib.ExitStack() as stack:
        connections(listener, stack, 2)
        accepting = Accepting(nursery, quiet_config(), listener)
        accepting.full = trio.Event()
        await trio.sleep(0.02)
        assert accepting.taken == []
        accepting.full.set()
        await accepting.come(2)
        await accepting.aclose()


async def test_streams_of_any_listener_are_taken(nursery: trio.Nursery) -> None:
    network = MemoryNetwork()
    accepting = Accepting(nursery, quiet_config(), network.listen("gateway", 80))
    clients = [await network.connect("gateway", 80) for _ in range(3)]
    await accepting.come(3)
    await accepting.aclose()
    for client in clients:
        await client.aclose()


async def test_cancelled_it_closes_the_listener(nursery: trio.Nursery, listener: PromptListener) -> None:
    accepting = Accepting(nursery, quiet_config(), listener)
    await trio.testing.wait_all_tasks_blocked()
    accepting.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert listener.socket.fileno() == -1


async def test_out_of_descriptors_it_tries_on_until_there_are_some(
    nursery: trio.Nursery, listener: PromptListener, caplog: pytest.LogCaptureFixture
) -> None:
    config = quiet_config(errorlog=logging.getLogger("tests.server"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        connections(listener, stack, 2)
        accepting = Accepting(nursery, config, listener)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            await trio.sleep(2.5 * RETRY_AFTER)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert accepting.taken == []
        await accepting.come(2)
        await accepting.aclose()
    assert [record.getMessage().startswith("Cannot accept") for record in caplog.records] == [True]


class Moody(trio.abc.Listener[Any]):
    """Accepts or fails as it is told, then waits."""

    def __init__(self, *moods: int | str) -> None:
        self.moods = list(moods)
        self.times: list[float] = []
        self.closed = False

    async def accept(self) -> Any:
        await trio.lowlevel.checkpoint()
        self.times.append(trio.current_time())
        if not self.moods:
            await trio.sleep_forever()
        mood = self.moods.pop(0)
        if isinstance(mood, int):
            raise OSError(mood, os.strerror(mood))
        return mood

    async def aclose(self) -> None:
        self.closed = True


async def test_each_spell_without_room_is_told_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[Any] = []

    async def room() -> None:
        pass

    moody = Moody(errno.EMFILE, errno.ENFILE, "a", errno.ENOBUFS, errno.ENOMEM, "b", "c")
    listener: trio.abc.Listener[Any] = moody
    config = quiet_config(errorlog=logging.getLogger("tests.server"))
    nursery.start_soon(accept_from, listener, taken.append, room, config)
    await trio.sleep(1)
    assert taken == ["a", "b", "c"]
    assert moody.times == pytest.approx([0, 0.1, 0.2, 0.2, 0.3, 0.4, 0.4, 0.4])
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("number", [errno.EBADF, errno.EINVAL, errno.ENOTSOCK])
async def test_listener_that_is_broken_is_closed_and_raised(number: int) -> None:
    async def room() -> None:
        pass

    listener = Moody("a", number)
    taken: list[Any] = []
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        await accept_from(listener, taken.append, room, quiet_config())
    assert caught.value.errno == number
    assert (taken, listener.closed) == (["a"], True)
