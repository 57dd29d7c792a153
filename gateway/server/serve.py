"""``serve()``: the life of one server, from binding to the end of the drain.

What lives here: the order of things, and the two nurseries (lifespan, connections). What never will: protocol.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework, ConnectionState, LifespanState

from gateway.server import listeners as listening
from gateway.server.connection import Connection
from gateway.server.drain import Context
from gateway.server.failures import plain_errors
from gateway.server.lifespan import Lifespan
from gateway.server.limits import Limits


async def serve(  # noqa: PLR0913 -- what a server can be told; all but two have a default
    app: ASGIFramework,
    config: Config,
    *,
    limits: Limits | None = None,
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]] | None = None,
    shutdown: Callable[[], Awaitable[object]] | None = None,
    on_drain: Callable[[], None] | None = None,
    on_cut: Callable[[], None] | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an ASGI app until ``shutdown`` returns, then drain; return when that is done.

    ``listeners`` replaces what ``config`` binds; their streams need no socket. ``task_status.started`` gives the
    addresses. ``on_drain`` is called when the shutdown begins, ``on_cut`` when the time for requests in flight is
    over. No connection can end the server: what fails on one is logged. What does end it is raised as it is: an
    address in use (OSError), an app that fails to start or to shut down (LifespanFailureError), or that crashes in its
    lifespan while serving (its own exception).

    On cancellation everything stops at once, requests in flight included.
    """
    limits = limits or Limits()
    bound = listening.bind(config) if listeners is None else []
    wrapped = ASGIWrapper(app)
    context = Context(limits)
    state: LifespanState = {}
    serving = trio.CancelScope()
    lifespan = Lifespan(wrapped, config, state, on_crash=serving.cancel)

    with plain_errors():
        async with trio.open_nursery() as nursery:
            # 1. Start the app. Nothing listens before it says that it has started.
            nursery.start_soon(lifespan.run)
            try:
                await lifespan.wait_for_startup()
            except BaseException:
                listening.close(bound)
                raise
            # 2. Listen.
            if listeners is None:
                listeners = listening.listen(bound, config)
            binds = listening.describe(listeners)
            for bind in binds:
                await config.log.info("Running on %s", bind)

            with serving:
                async with trio.open_nursery() as connections, trio.open_nursery() as accepting:

                    def take(stream: trio.abc.Stream) -> None:
                        connection = Connection(wrapped, config, context, ConnectionState(state), stream)
                        context.add(connection)
                        connections.start_soon(connection.run)

                    for listener in listeners:
                        accepting.start_soon(listening.accept_from, listener, take, context.wait_for_room, config)
                    task_status.started(binds)
                    # 3. Serve.
                    await (shutdown or trio.sleep_forever)()
                    # 4. Tell everybody that the end has begun, and go on accepting for a while.
                    if on_drain is not None:
                        on_drain()
                    await context.drain()
                    await trio.sleep(limits.drain_delay)
                    # 5. Accept no more; idle connections close.
                    accepting.cancel_scope.cancel()
                    connections.start_soon(partial(_finish, connections, context, on_cut))
            # 8. Let the app shut down.
            await lifespan.wait_for_shutdown()
            nursery.cancel_scope.cancel()


async def _finish(connections: trio.Nursery, context: Context, on_cut: Callable[[], None] | None) -> None:
    await context.retire()
    # 6. What is in flight may finish.
    with trio.move_on_after(context.limits.drain_timeout):
        await context.wait_for_none()
    # 7. What has not is told to end, and what still has not is cancelled. Nobody waits for a client that does not read.
    if context.connections:
        if on_cut is not None:
            on_cut()
        with trio.move_on_after(context.limits.cut_timeout):
            await context.wait_for_none()
        for connection in list(context.connections):
            connection.abort()
    connections.cancel_scope.cancel()
