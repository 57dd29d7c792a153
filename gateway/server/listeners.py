"""Listening: sockets from Hypercorn's Config, and the loop that accepts from them.

What lives here: binding, TLS, accepting, and what happens when the process has no room for one more connection. What
never will: what is said on a connection.
"""

from collections.abc import Callable, Sequence
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM
from typing import Any

import trio
from hypercorn.config import Config, Sockets
from hypercorn.utils import repr_socket_addr

Listener = trio.abc.Listener[Any]

OUT_OF_ROOM = frozenset({EMFILE, ENFILE, ENOBUFS, ENOMEM})
"""What accept(2) says when the process or the system has no descriptor or memory left. It passes by itself."""
RETRY_AFTER = 0.1
"""Seconds until the next accept(2) after such an error."""


def bind(config: Config) -> Sockets:
    """The sockets that ``config`` names, bound and not yet listening. Raises OSError, and closes what it had opened."""
    return config.create_sockets()


def close(sockets: Sockets) -> None:
    """Close them all."""
    for sock in (*sockets.secure_sockets, *sockets.insecure_sockets, *sockets.quic_sockets):
        sock.close()


def listen(sockets: Sockets, config: Config) -> tuple[list[Listener], list[str]]:
    """Start to listen. Gives the listeners, TLS ones wrapped, and how each is addressed."""
    context = config.create_ssl_context()
    listeners: list[Listener] = []
    binds = []
    for secure, group in ((True, sockets.secure_sockets), (False, sockets.insecure_sockets)):
        for sock in group:
            sock.listen(config.backlog)
            listener: Listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
            if secure:
                listener = trio.SSLListener(listener, context, https_compatible=True)
            listeners.append(listener)
            binds.append(f"{'https' if secure else 'http'}://{repr_socket_addr(sock.family, sock.getsockname())}")
    return listeners, binds


def describe(listeners: Sequence[Listener]) -> list[str]:
    """How listeners that the caller brought are addressed."""
    binds = []
    for listener in listeners:
        scheme = "https" if isinstance(listener, trio.SSLListener) else "http"
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
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in OUT_OF_ROOM:
                    raise
                if not starved:
                    await config.log.error("Cannot accept connections: %s. Trying on", error)
                starved = True
                await trio.sleep(RETRY_AFTER)
            else:
                starved = False
                take(stream)
