"""Listening: sockets from Hypercorn's Config, and the loop that accepts from them.

What lives here: binding, TLS, accepting, and what happens when the process has no room for one more connection. What
never will: what is said on a connection.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM
from pathlib import Path
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.utils import repr_socket_addr

from gateway.server.accepting import PromptListener
from gateway.server.shares import FairListener, Shares
from gateway.server.tls import Certificates, TlsListener

Listener = trio.abc.Listener[Any]

OUT_OF_ROOM = frozenset({EMFILE, ENFILE, ENOBUFS, ENOMEM})
"""What accept(2) says when the process or the system has no descriptor or memory left. It passes by itself."""
RETRY_AFTER = 0.1
"""Seconds until the next accept(2) after such an error."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A socket that is bound and does not listen yet."""

    sock: socket.socket
    secure: bool


def bind(config: Config) -> list[Bound]:
    """The sockets that ``config`` names. Raises OSError, with nothing left open.

    Hypercorn's ``create_sockets`` would leave the one open that failed.
    """
    secure = config.ssl_enabled
    wanted = [(name, secure) for name in config.bind]
    if secure:
        wanted += [(name, False) for name in config.insecure_bind]
    bound: list[Bound] = []
    try:
        for name, is_secure in wanted:
            bound.append(Bound(_bind_one(name, config), is_secure))
    except BaseException:
        close(bound)
        raise
    return bound


def _bind_one(name: str, config: Config) -> socket.socket:
    """``host:port``, ``[v6]:port``, ``unix:/path`` or ``fd://N``, as Hypercorn writes them."""
    if name.startswith("fd://"):
        return socket.socket(fileno=int(name[5:]))
    if name.startswith("unix:"):
        return _bind_unix(name[5:], config)
    host, _, port = name.rpartition(":")
    if not port.isdigit():
        host, port = name, "8000"
    host = host.strip("[]")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, int(port)))
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_unix(path: str, config: Config) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if Path(path).is_socket():
            Path(path).unlink()  # left behind by a process before this one
    sock = socket.socket(socket.AF_UNIX)
    umask = os.umask(config.umask) if config.umask is not None else None
    try:
        sock.bind(path)
        if config.user is not None and config.group is not None:
            os.chown(path, config.user, config.group)
    except BaseException:
        sock.close()
        raise
    finally:
        if umask is not None:
            os.umask(umask)
    return sock


def close(bound: Sequence[Bound]) -> None:
    """Close them all."""
    for one in bound:
        one.sock.close()


def listen(
    bound: Sequence[Bound], config: Config, certificates: Certificates | None, shares: Shares | None
) -> list[Listener]:
    """Start to listen. TLS listeners are wrapped. With ``shares`` other processes accept from the same sockets.

    Raises OSError, with none of ``bound`` left open. That an address is in use may show only here: SO_REUSEADDR lets
    two sockets have it as long as neither listens.
    """
    listeners: list[Listener] = []
    try:
        for one in bound:
            one.sock.listen(config.backlog)
    except BaseException:
        close(bound)
        raise
    for one in bound:
        listener: Listener = PromptListener(one.sock) if shares is None else FairListener(one.sock, shares)
        if one.secure and certificates is not None:
            listener = TlsListener(listener, certificates)
        listeners.append(listener)
    return listeners


def describe(listeners: Sequence[Listener]) -> list[str]:
    """How each of them is addressed, as a URL without a path."""
    binds = []
    for listener in listeners:
        scheme = "https" if isinstance(listener, TlsListener | trio.SSLListener) else "http"
        inner = getattr(listener, "transport_listener", listener)
        sock = getattr(inner, "socket", None)
        if sock is not None:
            address = repr_socket_addr(sock.family, sock.getsockname())
        else:
            local = getattr(inner, "local_address", None)
            address = f"{local[0]}:{local[1]}" if local is not None else repr(inner)
        binds.append(f"{scheme}://{address}")
    return binds


async def accept_from(
    listener: Listener, take: Callable[[trio.abc.Stream], None], room: Callable[[], Any], config: Config
) -> None:
    """Accept until cancelled, handing each stream to ``take``; ``room`` waits while there are too many of them.

    Out of descriptors, it tries again every RETRY_AFTER seconds and says so once. On cancellation the listener is
    closed.
    """
    starved = False
    async with listener:
        while True:
            await room()
            try:
                take(await listener.accept())
                if isinstance(listener, PromptListener):
                    for _ in range(listener.at_once - 1):
                        await room()
                        stream = listener.accept_now()
                        if stream is None:
                            break
                        take(stream)
            except OSError as error:
                if error.errno not in OUT_OF_ROOM:
                    raise
                if not starved:
                    await config.log.warning("Cannot accept connections: %s. Trying on", error)
                starved = True
                await trio.sleep(RETRY_AFTER)
            else:
                starved = False
