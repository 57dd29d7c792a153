"""TLS for the clients of the server: the certificate that new connections see, and how it is replaced.

What never lives here: the handshake itself (a slow one must not keep others from being accepted), TLS to backends.
"""

import ssl
from typing import Any

import trio
from hypercorn.config import Config


class Certificates:
    """Hypercorn's TLS context for new connections, which can be made afresh while the server runs.

    Afresh, and not by loading the new files into the old context: that would keep the old certificate beside the new
    one where they differ in the kind of their key, and offer it to whoever asks for that kind.

    Raises OSError or ssl.SSLError where the files cannot be used, ValueError where ``config`` names none.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.context = self._made()

    def reload(self) -> None:
        """Read the files again. Raises as the constructor; then nothing has changed."""
        self.context = self._made()

    def _made(self) -> ssl.SSLContext:
        context = self._config.create_ssl_context()
        if context is None:
            raise ValueError("no certificate and key are set")
        return context


class TlsListener(trio.abc.Listener[trio.SSLStream[Any]]):
    """Wraps what it accepts with the certificate of that moment. Connections that are open keep theirs."""

    def __init__(self, transport_listener: trio.abc.Listener[Any], certificates: Certificates) -> None:
        self.transport_listener = transport_listener
        self._certificates = certificates

    async def accept(self) -> trio.SSLStream[Any]:
        """Wait for a connection. The handshake is left to whoever takes it."""
        stream = await self.transport_listener.accept()
        return trio.SSLStream(stream, self._certificates.context, server_side=True, https_compatible=True)

    async def aclose(self) -> None:
        """Close the listener underneath."""
        await self.transport_listener.aclose()
