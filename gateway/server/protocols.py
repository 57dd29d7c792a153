"""Which protocol is spoken on a connection: by ALPN, or by what the client says first.

What lives here: the choice. What never will: a protocol. ``Upgrade: h2c`` is ignored, as RFC 9113 section 3.1 allows:
it was never used much, and it was a way round a proxy's rules.
"""

from typing import TYPE_CHECKING

from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H2ProtocolAssumedError

from gateway.server.http1 import Http1
from gateway.server.http2 import Http2
from gateway.server.transport import Address

if TYPE_CHECKING:
    from gateway.server.connection import Connection


class Protocols(ProtocolWrapper):
    """Hypercorn's wrapper, over our protocols. All but ``initiate``, ``received`` and ``timed_out`` is synchronous."""

    protocol: Http1 | Http2

    def __init__(
        self, connection: "Connection", client: Address, server: Address, *, secure: bool, alpn: str | None
    ) -> None:
        self.connection = connection
        self.client = client
        self.server = server
        self.ssl = secure
        self.protocol = Http2(connection, client, server, secure=secure) if alpn == "h2" else self._http1()

    def _http1(self) -> Http1:
        return Http1(self.connection, self.client, self.server, secure=self.ssl)

    async def received(self, data: bytes) -> None:
        """Bytes came. They are not wrapped into Hypercorn's events, which cost as much as to find where a head ends."""
        try:
            self.protocol.received(data)
        except H2ProtocolAssumedError as assumed:
            self.protocol = Http2(self.connection, self.client, self.server, secure=self.ssl)
            await self.protocol.initiate()
            self.protocol.received(assumed.data)

    @property
    def wants_data(self) -> bool:
        """Whether more bytes may come. Where not, the client is held back until ``Connection.read_on``."""
        return self.protocol.wants_data

    @property
    def read_size(self) -> int:
        """Bytes to take in at once."""
        return self.protocol.read_size

    def client_left(self) -> None:
        """The connection is gone: tell the apps."""
        self.protocol.client_left()

    async def timed_out(self) -> bool:
        """The clock that the protocol had set has run out. True: it has set another; else the connection is closed."""
        return await self.protocol.timed_out()

    def prepare_to_retire(self) -> None:
        """See Drainable."""
        self.protocol.prepare_to_retire()

    def retire(self) -> None:
        """See Drainable."""
        self.protocol.retire()
