"""One accepted connection: its bytes, its clocks, and the wall between it and all the others."""

from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.protocol import ProtocolWrapper
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import AppWrapper, ConnectionState

from gateway.server.drain import Context
from gateway.server.transport import abort, addresses, close


class Connection(TCPServer):
    """Hypercorn's connection, walled off: whatever fails in here is logged and ends here."""

    def __init__(
        self, app: AppWrapper, config: Config, context: Context, state: ConnectionState, stream: Any
    ) -> None:
        super().__init__(app, config, context, state, stream)
        self.shared = context

    async def run(self) -> None:
        try:
            await self._run()
        except Exception:  # noqa: BLE001 -- nothing that happens on one connection may reach another
            await self.config.log.exception("A connection failed")
        finally:
            close(self.stream)
            self.shared.discard(self)

    async def _run(self) -> None:
        alpn = "http/1.1"
        secure = isinstance(self.stream, trio.SSLStream)
        if secure:
            try:
                with trio.fail_after(self.shared.limits.handshake_timeout):
                    await self.stream.do_handshake()
            except (trio.BrokenResourceError, trio.TooSlowError):
                return
            alpn = self.stream.selected_alpn_protocol() or alpn
        client, server = addresses(self.stream)
        async with TaskGroup() as task_group:
            self._task_group = task_group
            self.protocol = ProtocolWrapper(
                self.app, self.config, self.context, task_group, ConnectionState(dict(self.state)), secure,
                client, server, self.protocol_send, alpn,
            )
            await self.protocol.initiate()
            await self.idle_task.restart(self._task_group, self._idle_timeout)
            await self._read_data()

    def prepare_to_retire(self) -> None:
        pass

    def retire(self) -> None:
        pass

    def abort(self) -> None:
        abort(self.stream)
