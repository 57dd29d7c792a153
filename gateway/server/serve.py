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
from gateway.server.beside import Beside
from gateway.server.connection import Connection
from gateway.server.drain import Addresses, Context, Leave
from gateway.server.failures import plain_errors
from gateway.server.lifespan import Lifespan
from gateway.server.limits import Limits
from gateway.server.refusals import Explain, say_no_more
from gateway.server.shares import Shares
from gateway.server.tls import Certificates


async def serve(  # noqa: PLR0913 -- what a server can be told; all but two have a default
    app: ASGIFramework,
    config: Config,
    *,
    limits: Limits | None = None,
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]] | None = None,
    shutdown: Callable[[], Awaitable[object]] | None = None,
    on_drain: Callable[[], None] | None = None,
    on_cut: Callable[[], None] | None = None,
    certificates: Certificates | None = None,
    proxies: Addresses = (),
    beside: Beside | None = None,
    shares: Shares | None = None,
    explain: Explain = say_no_more,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an ASGI app until ``shutdown`` returns, then drain; return when that is done.

    ``listeners`` replaces what ``config`` binds; their streams need no socket. ``task_status.started`` gives the
    addresses. ``shutdown`` may return ``Leave.REPLACED``; whatever else it returns is a stop. ``on_drain`` is called
    when the shutdown begins (of a server that is replaced: when its idle connections are closed), ``on_cut`` when the
    time for requests in flight is over. ``certificates`` can be reloaded meanwhile; by default they are ``config``'s,
    read once. Connections from an address in ``proxies`` begin with a PROXY header. ``beside`` is a second app.
    With ``shares`` the server is one of several processes that accept from the same sockets. ``explain`` gives the
    answers to what is refused at the door and never reaches the app.

    No connection can end the server: what fails on one is logged. What does end it is raised as it is: an address in
    use (OSError), an app that fails to start or to shut down (LifespanFailureError), or that crashes in its lifespan
    while serving (its own exception).

    On cancellation everything stops at once, requests in flight included.
    """
    limits = limits or Limits()
    if certificates is None and config.ssl_enabled:
        certificates = Certificates(config)
    bound = listening.bind(config) if listeners is None else []
    wrapped = ASGIWrapper(app)
    context = Context(limits, proxies=proxies, shares=shares, explain=explain)
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
                listeners = listening.listen(bound, config, certificates, shares)
            binds = listening.describe(listeners)
            for bind in binds:
                await config.log.info("Running on %s", bind)

            if beside is not None:
                nursery.start_soon(beside.serve, config, limits)

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
                    leave = await (shutdown or trio.sleep_forever)()
                    # 4. Tell everybody that the end has begun.
                    if leave is Leave.REPLACED:
                        _leave_to_others(beside)
                    else:
                        await _announce(context, on_drain)
                    # 5. Accept no more; idle connections close.
                    accepting.cancel_scope.cancel()
                    connections.start_soon(partial(_finish, connections, context, on_drain, on_cut, leave))
            # 8. Let the app shut down.
            await lifespan.wait_for_shutdown()
            nursery.cancel_scope.cancel()


def _leave_to_others(beside: Beside | None) -> None:
    # Not a word on readiness: the address is served as before, by the others.
    if beside is not None:
        beside.stop()


async def _announce(context: Context, on_drain: Callable[[], None] | None) -> None:
    # And go on accepting for a while: whoever sends connections here is to learn of it first.
    if on_drain is not None:
        on_drain()
    await context.drain()
    await trio.sleep(context.limits.drain_delay)


async def _finish(
    connections: trio.Nursery,
    context: Context,
    on_drain: Callable[[], None] | None,
    on_cut: Callable[[], None] | None,
    leave: object,
) -> None:
    if leave is Leave.REPLACED:
        await context.drain()
        with trio.move_on_after(context.limits.replace_delay):
            await context.wait_for_none()
        if on_drain is not None:
            on_drain()
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
