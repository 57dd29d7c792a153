"""A second app on listeners of its own, for those who run the server: metrics, live views.

It is served from the moment the server listens to the very end of its drain: that is when it is looked at most. It
shares nothing with the first app's connections: they cannot take its place, and it holds up no shutdown.

What never lives here: what the app answers.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.typing import ConnectionState

from gateway.server import listeners as listening
from gateway.server.connection import Connection
from gateway.server.drain import Context
from gateway.server.limits import Limits


@dataclass(slots=True, eq=False)
class Beside:
    """An app without a lifespan, and where it is served."""

    app: Callable[[Any, Any, Any], Awaitable[None]]
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]]
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    async def serve(self, config: Config, limits: Limits) -> None:
        """Serve until ``stop`` or cancelled; then everything ends at once, and the listeners are closed."""
        wrapped = ASGIWrapper(self.app)
        context = Context(limits)
        with self._scope:
            async with trio.open_nursery() as nursery:

                def take(stream: trio.abc.Stream) -> None:
                    connection = Connection(wrapped, config, context, ConnectionState({}), stream)
                    context.add(connection)
                    nursery.start_soon(connection.run)

                for listener in self.listeners:
                    nursery.start_soon(listening.accept_from, listener, take, context.wait_for_room, config)

    def stop(self) -> None:
        """End it now: a process that takes over accepts from the same sockets."""
        self._scope.cancel()
