"""The test kit: a network in memory, scripted backends, clients and an orphan check, all on trio's clock.

``docs/testing.md`` is the way in. ``gateway.testing.plugin`` has the fixtures for pytest, which finds them by itself.
``gateway.testing.app`` runs the gateway, ``gateway.testing.storm`` puts it into a storm.

The names below are imported when they are first asked for: pytest loads this package in every project where the
gateway is installed, and a project that does not use it should not pay for it, in time or in measured coverage.

What never lives here: what the gateway itself needs to run. Nothing outside this package imports it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.testing.app import TWO_SERVICES, RunningGateway, running_gateway
    from gateway.testing.backend import Backend, Connection, Script, hang, respond, response
    from gateway.testing.clients import RawClient, http_client, http_transport, raw_client
    from gateway.testing.http2 import H2Client, H2Stream, h2_client
    from gateway.testing.network import MemoryListener, MemoryNetwork, Network
    from gateway.testing.orphans import OrphansError, assert_no_orphans, task_tree
    from gateway.testing.peer import Message, NotHTTPError, Peer, PeerGoneError, Request, Response
    from gateway.testing.sockets import SocketNetwork
    from gateway.testing.streams import MemoryStream, memory_stream_pair
    from gateway.testing.virtual import Steps, run_virtual

_MODULES = {
    "app": ("TWO_SERVICES", "RunningGateway", "running_gateway"),
    "backend": ("Backend", "Connection", "Script", "hang", "respond", "response"),
    "clients": ("RawClient", "http_client", "http_transport", "raw_client"),
    "http2": ("H2Client", "H2Stream", "h2_client"),
    "network": ("MemoryListener", "MemoryNetwork", "Network"),
    "orphans": ("OrphansError", "assert_no_orphans", "task_tree"),
    "peer": ("Message", "NotHTTPError", "Peer", "PeerGoneError", "Request", "Response"),
    "sockets": ("SocketNetwork",),
    "streams": ("MemoryStream", "memory_stream_pair"),
    "virtual": ("Steps", "run_virtual"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "TWO_SERVICES",
    "Backend",
    "Connection",
    "H2Client",
    "H2Stream",
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
    "RunningGateway",
    "Script",
    "SocketNetwork",
    "Steps",
    "assert_no_orphans",
    "h2_client",
    "hang",
    "http_client",
    "http_transport",
    "memory_stream_pair",
    "raw_client",
    "respond",
    "response",
    "run_virtual",
    "running_gateway",
    "task_tree",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
