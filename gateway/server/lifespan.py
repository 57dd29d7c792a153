"""The app's lifespan, told so that no failure of it goes unseen.

What lives here: the task that runs the app with the ``lifespan`` scope, and what its end means. What never will:
connections and requests.
"""

from collections.abc import Callable

import trio
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan as HypercornLifespan
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, LifespanState
from hypercorn.utils import LifespanTimeoutError

from gateway.server.failures import sole_error


class Lifespan(HypercornLifespan):
    """Hypercorn's, but a failure is kept as ``error`` for the main line to raise, instead of being logged away.

    An app that raises before it asked for its first message knows no lifespan, and is served without one (ASGI
    lifespan specification). One that raises later has taken part, so that is a failure: what it had started is gone.
    """

    def __init__(self, app: AppWrapper, config: Config, state: LifespanState, on_crash: Callable[[], None]) -> None:
        super().__init__(app, config, state)
        self.error: Exception | None = None
        self._on_crash = on_crash
        self._took_part = False

    async def run(self) -> None:
        """Run the app's side until it ends. Never raises an Exception: it goes to ``error``, and ``on_crash`` tells."""
        try:
            await self.app(
                {"type": "lifespan", "asgi": {"spec_version": "2.0", "version": "3.0"}, "state": self.state},
                self.asgi_receive,
                self.asgi_send,
                trio.to_thread.run_sync,
                trio.from_thread.run,
            )
        except Exception as error:  # noqa: BLE001 -- the app's code may raise anything; the main line raises it again
            if self._took_part:
                self.error = sole_error(error)
                self._on_crash()
            else:
                await self.config.log.warning("The app knows no lifespan (%r): it is served without one", error)
        finally:
            self.supported = False
            self.startup.set()
            self.shutdown.set()
            self.app_send_channel.close()
            self.app_receive_channel.close()

    async def asgi_receive(self) -> ASGIReceiveEvent:
        """The app's ``receive``."""
        self._took_part = True
        return await super().asgi_receive()

    async def wait_for_startup(self) -> None:
        """Until the app says that it has started. Raises what it failed with, or LifespanTimeoutError."""
        await self._tell("startup", self.startup, self.config.startup_timeout)

    async def wait_for_shutdown(self) -> None:
        """Until the app says that it has shut down. Raises what it failed with, or LifespanTimeoutError."""
        await self._tell("shutdown", self.shutdown, self.config.shutdown_timeout)

    async def _tell(self, stage: str, done: trio.Event, timeout: float) -> None:  # noqa: ASYNC109 -- Hypercorn's config
        message: ASGIReceiveEvent = (
            {"type": "lifespan.startup"} if stage == "startup" else {"type": "lifespan.shutdown"}
        )
        if self.supported:
            with trio.move_on_after(timeout) as scope:
                try:
                    await self.app_send_channel.send(message)
                    await done.wait()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass  # it ended before it took the message: `error` says whether that was a failure
            if scope.cancelled_caught:
                raise LifespanTimeoutError(stage)
        if self.error is not None:
            raise self.error
