"""The test kit: a network in memory, scripted backends, clients and an orphan check, all on trio's clock.

``gateway.testing.app`` runs the gateway itself on such a network; it is not imported here, so that the rest can be used
without it. ``gateway.testing.plugin`` has the fixtures for pytest.

What never lives here: what the gateway itself needs to run. Nothing outside this package imports it.
"""

from gateway.testing.backend import Backend, Connection, Script, hang, respond, response
from gateway.testing.clients import RawClient, http_client, raw_client
from gateway.testing.network import MemoryListener, MemoryNetwork, Network
from gateway.testing.orphans import OrphansError, assert_no_orphans, task_tree
from gateway.testing.peer import Message, NotHTTPError, Peer, PeerGoneError, Request, Response
from gateway.testing.sockets import SocketNetwork
from gateway.testing.streams import MemoryStream, memory_stream_pair

__all__ = [
    "Backend",
    "Connection",
    "MemoryListener",
    "MemoryNetwork",
    "MemoryStream",
    "Message",
    "Network",
    "NotHTTPError",
    "OrphansError",
    "Peer",
    "PeerGoneError",
    "RawClient",
    "Request",
    "Response",
    "Script",
    "SocketNetwork",
    "assert_no_orphans",
    "hang",
    "http_client",
    "memory_stream_pair",
    "raw_client",
    "respond",
    "response",
    "task_tree",
]
