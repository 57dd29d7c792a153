"""The background task that asks every service for its health.

One task per service, for as long as ``run`` lasts, each with its own clock: a service that hangs delays neither the
others nor their next check. The tempting way, a nursery per sweep, would wait for its slowest member before it began
the next sweep; a check that cannot even be cancelled would stop all checking for good.

A backend's failure is a result. Anything else that comes out of a check is a defect: it ends ``run`` with its
exception, and all verdicts are ``stale`` from then on.

What never lives here: what a result means (``health``), and anything that a request waits for.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import replace
from typing import NoReturn

import httpx
import trio

from gateway.config import Service
from gateway.health import SLACK, Check, History, Verdict, fresh_for
from gateway.transport.reasons import why_no_connection

MAX_BODY = 10_240
"""Bytes of an answer that are read, so that the connection can be used again. Of a longer answer the rest is not."""

_HEADERS = {"User-Agent": "api-gateway/health", "Accept": "*/*"}

_NO_CONNECTION = "no connection"
# What a transport raised, in words that hold no address; the first that fits.
_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (httpx.ConnectTimeout, "no connection in time"),
    (httpx.PoolTimeout, "no free connection in time"),
    (httpx.TimeoutException, "no answer in time"),
    (httpx.ConnectError, _NO_CONNECTION),
    (httpx.ProtocolError, "its answer was not HTTP, or was not whole"),
    (httpx.NetworkError, "the connection broke off"),
    (httpx.HTTPError, "the check could not be made"),
    (OSError, _NO_CONNECTION),
)


class Monitor:
    """Checks ``services`` every ``interval`` seconds, for ``timeout`` seconds at most each.

    ``transports`` has a transport for every service's name. Raises ValueError where a time is not positive.
    """

    def __init__(
        self,
        services: Iterable[Service],
        transports: Mapping[str, httpx.AsyncBaseTransport],
        *,
        interval: float,
        timeout: float,
    ) -> None:
        if not (interval > 0 and timeout > 0):
            raise ValueError("the interval and the timeout of health checks must be positive")
        self._watched = [(service, transports[service.name]) for service in services]
        self._interval = interval
        self._timeout = timeout
        self._fresh_for = fresh_for(interval=interval, timeout=timeout)
        self._histories = {service.name: History(self._fresh_for) for service, _ in self._watched}

    def __repr__(self) -> str:
        return f"<Monitor {', '.join(self._histories)} every {self._interval:g} s>"

    def verdict(self, name: str, now: float) -> Verdict:
        """What is known of the service as of ``now``, in seconds of trio's clock. Never waits. Raises KeyError."""
        return self._histories[name].verdict(now)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Check until cancelled; started once every service has had its first check, or should have had it.

        A defect comes out in an ExceptionGroup, with a note that names the service. Cancelled, every check under way
        ends, its connection closed.
        """
        now = trio.current_time()
        self._histories = {name: History(self._fresh_for, began=now) for name in self._histories}
        try:
            async with trio.open_nursery() as nursery:
                firsts = [trio.Event() for _ in self._watched]
                for (service, transport), first in zip(self._watched, firsts, strict=True):
                    nursery.start_soon(self._watch, service, transport, first, name=f"health of {service.name}")
                with trio.move_on_after(self._timeout + SLACK):
                    for first in firsts:
                        await first.wait()
                task_status.started()
                await trio.sleep_forever()
        finally:
            now = trio.current_time()
            self._histories = {name: replace(history, ended=now) for name, history in self._histories.items()}

    async def _watch(self, service: Service, transport: httpx.AsyncBaseTransport, first: trio.Event) -> NoReturn:
        due = trio.current_time()
        while True:
            try:
                check = await self._check(service, transport)
            except Exception as defect:
                defect.add_note(f"while checking the health of service {service.name!r}")
                raise
            self._histories[service.name] = self._histories[service.name].after(check)
            first.set()
            # From the last start and not from the end, so that slow answers do not make checks rarer. After a pause of
            # the whole process the missed ones are not made up for.
            due = max(due + self._interval, check.ended)
            await trio.sleep_until(due)

    async def _check(self, service: Service, transport: httpx.AsyncBaseTransport) -> Check:
        request = httpx.Request("GET", service.origin + service.base_path + service.health_path, headers=_HEADERS)
        started = trio.current_time()
        status: int | None = None
        error: str | None = f"no whole answer within {self._timeout:g} s"
        with trio.move_on_after(self._timeout):
            try:
                status = await _ask(transport, request)
            except (httpx.HTTPError, OSError) as failure:
                error = _in_words(failure)
        ended = trio.current_time()
        if status is None:
            return Check(ended, error=error)
        return Check(ended, ended - started, None if 200 <= status < 400 else f"it answered with status {status}")


async def _ask(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> int:
    """The status of the answer, once its body has come whole or MAX_BODY of it. Raises what the transport raises."""
    response = await transport.handle_async_request(request)
    stream = response.stream
    if not isinstance(stream, httpx.AsyncByteStream):
        raise TypeError("the transport is not an asynchronous one")
    chunks = aiter(stream)
    try:
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size >= MAX_BODY:
                break
    finally:
        # A stream that is a generator must not be left for the garbage collector to end.
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
        await stream.aclose()
    return response.status_code


def _in_words(failure: Exception) -> str:
    words = next(words for kind, words in _WORDS if isinstance(failure, kind))
    return f"{words}: {why_no_connection(failure)}" if words == _NO_CONNECTION else words
