"""The monitor on a virtual clock: what is checked when, and what is known at which second."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from math import inf

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from gateway.config import Service
from gateway.health import State, Verdict
from gateway.monitor import MAX_BODY, Monitor
from gateway.testing.network import MemoryNetwork
from gateway.transport import BackendTransport

SERVICE1 = Service(name="service1", host="service1.test", port=8001)
SERVICE2 = Service(name="service2", host="service2.test", port=8002)


async def ok(_request: httpx.Request) -> httpx.Response:
    return httpx.Response(200)


async def hang(_request: httpx.Request) -> httpx.Response:
    await trio.sleep(inf)
    raise AssertionError


def slow(seconds: float) -> Callable[[httpx.Request], Awaitable[httpx.Response]]:
    async def answer(_request: httpx.Request) -> httpx.Response:
        await trio.sleep(seconds)
        return httpx.Response(200)

    return answer


def failing(error: Exception) -> Callable[[httpx.Request], Awaitable[httpx.Response]]:
    async def fail(_request: httpx.Request) -> httpx.Response:
        raise error

    return fail


@dataclass
class Scripted(httpx.AsyncBaseTransport):
    """Answers by its script, then by the script's last line; keeps what it was asked, and when."""

    script: list[Callable[[httpx.Request], Awaitable[httpx.Response]]]
    asked_at: list[float] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        line = self.script[min(len(self.requests), len(self.script) - 1)]
        self.asked_at.append(trio.current_time())
        self.requests.append(request)
        return await line(request)


def monitor_of(*transports: httpx.AsyncBaseTransport, interval: float = 10.0, timeout: float = 2.0) -> Monitor:
    names = ("service1", "service2")[: len(transports)]
    return Monitor(
        (SERVICE1, SERVICE2)[: len(transports)],
        dict(zip(names, transports, strict=True)),
        interval=interval,
        timeout=timeout,
    )


class Running:
    """A monitor that began at second 0 of the clock."""

    def __init__(self, clock: MockClock, nursery: trio.Nursery, monitor: Monitor) -> None:
        assert clock.current_time() == 0.0
        nursery.start_soon(monitor.run)
        self._monitor = monitor

    async def at(self, second: float, name: str = "service1") -> Verdict:
        """The verdict at this second, after all that happens in it."""
        await trio.sleep_until(second)
        await wait_all_tasks_blocked()
        return self._monitor.verdict(name, trio.current_time())


# What is asked, and what the answer means


async def test_service_is_asked_on_its_health_path_as_itself(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    transport = Scripted([ok])
    service = Service(name="service1", host="service1.test", port=8001, base_path="/base", health_path="/ready?full")
    running = Running(autojump_clock, nursery, Monitor([service], {"service1": transport}, interval=10.0, timeout=2.0))
    assert await running.at(0.0) == Verdict(State.UP, since=0.0, checked_at=0.0, age=0.0, latency=0.0)
    (request,) = transport.requests
    assert (request.method, str(request.url)) == ("GET", "http://service1.test:8001/base/ready?full")
    assert request.headers.raw == [
        (b"Host", b"service1.test:8001"),
        (b"User-Agent", b"api-gateway/health"),
        (b"Accept", b"*/*"),
    ]


@pytest.mark.parametrize("status", [200, 204, 299, 301, 399])
async def test_2xx_and_3xx_mean_up(autojump_clock: MockClock, nursery: trio.Nursery, status: int) -> None:
    running = Running(autojump_clock, nursery, monitor_of(httpx.MockTransport(lambda _request: httpx.Response(status))))
    verdict = await running.at(1.0)
    assert (verdict.state, verdict.last_error) == (State.UP, None)


@pytest.mark.parametrize("status", [101, 400, 404, 500, 503])
async def test_any_other_status_means_down(autojump_clock: MockClock, nursery: trio.Nursery, status: int) -> None:
    running = Running(autojump_clock, nursery, monitor_of(httpx.MockTransport(lambda _request: httpx.Response(status))))
    verdict = await running.at(1.0)
    assert (verdict.state, verdict.last_error) == (State.DOWN, f"it answered with status {status}")
    assert verdict.latency == 0.0


SECRET = "http://user:secret@192.0.2.1:8001 service1.test"  # noqa: S105 -- it is none: the tests look for it


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ConnectTimeout(SECRET), "no connection in time"),
        (httpx.PoolTimeout(SECRET), "no free connection in time"),
        (httpx.ReadTimeout(SECRET), "no answer in time"),
        (httpx.ConnectError(SECRET), "no connection: it is unreachable"),
        (httpx.ReadError(SECRET), "the connection broke off"),
        (httpx.RemoteProtocolError(SECRET), "its answer was not HTTP, or was not whole"),
        (httpx.UnsupportedProtocol(SECRET), "the check could not be made"),
        (ConnectionRefusedError(111, SECRET), "no connection: connection refused"),
        (OSError(SECRET), "no connection: it is unreachable"),
    ],
)
async def test_failure_of_the_transport_means_down_in_words_without_an_address(
    autojump_clock: MockClock, nursery: trio.Nursery, error: Exception, words: str
) -> None:
    verdict = await Running(autojump_clock, nursery, monitor_of(Scripted([failing(error)]))).at(1.0)
    assert (verdict.state, verdict.last_error, verdict.latency) == (State.DOWN, words, None)


async def test_real_transport_tells_a_closed_port_from_a_black_hole(
    autojump_clock: MockClock, nursery: trio.Nursery, network: MemoryNetwork
) -> None:
    network.black_hole("service2.test", 8002)
    transports = [BackendTransport(connect=network.connect) for _ in range(2)]
    running = Running(autojump_clock, nursery, monitor_of(*transports))
    assert (await running.at(2.0)).last_error == "no connection: connection refused"
    assert (await running.at(2.0, "service2")).last_error == "no whole answer within 2 s"


async def test_checks_of_a_healthy_service_share_a_connection(
    autojump_clock: MockClock, nursery: trio.Nursery, network: MemoryNetwork
) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        async for request in stream:
            assert request.endswith(b"\r\n\r\n")
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    nursery.start_soon(trio.serve_listeners, serve, [network.listen("service1.test", 8001)])
    running = Running(autojump_clock, nursery, monitor_of(BackendTransport(connect=network.connect)))
    verdict = await running.at(20.0)
    assert (verdict.state, verdict.checked_at) == (State.UP, 20.0)
    assert network.connects == [("service1.test", 8001)]


# When


async def test_hanging_service_is_down_at_its_timeout_and_the_other_is_checked_on_time(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    hanging, other = Scripted([hang]), Scripted([ok])
    running = Running(autojump_clock, nursery, monitor_of(hanging, other))
    assert (await running.at(0.0, "service2")).state is State.UP
    assert (await running.at(1.875)).state is State.UNKNOWN
    assert await running.at(2.0) == Verdict(
        State.DOWN, since=2.0, checked_at=2.0, age=0.0, last_error="no whole answer within 2 s"
    )
    for second in (10.0, 20.0, 30.0):
        assert (await running.at(second, "service2")).checked_at == second
        assert (await running.at(second + 1.875)).checked_at == second - 8.0
        verdict = await running.at(second + 2.0)
        assert (verdict.state, verdict.checked_at, verdict.since) == (State.DOWN, second + 2.0, 2.0)
    assert hanging.asked_at == other.asked_at == [0.0, 10.0, 20.0, 30.0]


async def test_slow_answers_do_not_make_checks_rarer(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    transport = Scripted([slow(1.5)])
    running = Running(autojump_clock, nursery, monitor_of(transport))
    assert (await running.at(1.5)).latency == 1.5
    await running.at(35.0)
    assert transport.asked_at == [0.0, 10.0, 20.0, 30.0]


async def test_check_that_outlasts_its_interval_is_followed_at_once_and_never_doubled(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    transport = Scripted([hang])
    await Running(autojump_clock, nursery, monitor_of(transport, interval=1.0, timeout=3.0)).at(10.0)
    assert transport.asked_at == [0.0, 3.0, 6.0, 9.0]


async def test_service_goes_down_and_up_with_its_checks(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    running = Running(
        autojump_clock, nursery, monitor_of(Scripted([ok, ok, failing(httpx.ReadError("")), hang, slow(0.5)]))
    )
    told = [await running.at(second) for second in (0.0, 10.0, 20.0, 32.0, 40.5)]
    assert [(verdict.state, verdict.since) for verdict in told] == [
        (State.UP, 0.0),
        (State.UP, 0.0),
        (State.DOWN, 20.0),
        (State.DOWN, 20.0),
        (State.UP, 40.5),
    ]


async def test_checks_leave_no_task_behind(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    running = Running(
        autojump_clock,
        nursery,
        monitor_of(Scripted([hang, ok]), Scripted([slow(1.0), failing(httpx.ConnectError(""))])),
    )
    await running.at(5.0)
    tasks = trio.lowlevel.current_statistics().tasks_living
    await running.at(1005.0)
    assert trio.lowlevel.current_statistics().tasks_living == tasks


# Started


@pytest.mark.parametrize(("script", "second"), [([ok], 0.0), ([slow(1.5)], 1.5), ([hang], 2.0)])
async def test_monitor_has_started_when_the_first_checks_have_ended(
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    script: list[Callable[[httpx.Request], Awaitable[httpx.Response]]],
    second: float,
) -> None:
    monitor = monitor_of(Scripted(script), Scripted([ok]))
    assert monitor.verdict("service1", 0.0) == Verdict(State.UNKNOWN)
    await nursery.start(monitor.run)
    assert autojump_clock.current_time() == second
    assert monitor.verdict("service1", second).state is not State.UNKNOWN


async def test_monitor_without_services_starts_and_waits_to_be_cancelled(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    await nursery.start(monitor_of().run)
    assert len(nursery.child_tasks) == 1
    await trio.sleep(100.0)
    assert len(nursery.child_tasks) == 1


# Checks that hang for good, and checks that die


async def deaf(_request: httpx.Request) -> httpx.Response:
    """Takes a minute, and cannot be cancelled."""
    with trio.CancelScope(shield=True):
        await trio.sleep(60.0)
    return httpx.Response(200)


async def test_check_that_cannot_be_cancelled_is_stale_to_the_second_and_delays_no_other(
    autojump_clock: MockClock,
    nursery: trio.Nursery,
) -> None:
    deafened = Scripted([ok, deaf, ok])
    other = Scripted([ok])
    running = Running(autojump_clock, nursery, monitor_of(deafened, other))
    assert (await running.at(13.0)).state is State.UP
    assert await running.at(13.125) == Verdict(State.STALE, since=13.0, checked_at=0.0, age=13.125, latency=0.0)
    assert (await running.at(69.0)).state is State.STALE
    assert other.asked_at == [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
    assert (await running.at(60.0, "service2")).state is State.UP
    # Its answer came far too late to count; the next one counts.
    assert (await running.at(70.0)).state is State.UP
    assert deafened.asked_at == [0.0, 10.0, 70.0]


async def test_first_check_that_cannot_be_cancelled_does_not_keep_the_monitor_from_starting(
    autojump_clock: MockClock,
    nursery: trio.Nursery,
) -> None:
    monitor = monitor_of(Scripted([deaf]), Scripted([ok]))
    await nursery.start(monitor.run)
    assert autojump_clock.current_time() == 3.0
    assert monitor.verdict("service1", 3.0).state is State.UNKNOWN


async def test_defect_ends_the_monitor_and_names_the_service(autojump_clock: MockClock) -> None:
    monitor = monitor_of(Scripted([ok, failing(RuntimeError("boom"))]), Scripted([ok]))
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="boom")) as caught:
        await monitor.run()
    assert autojump_clock.current_time() == 10.0
    assert caught.value.exceptions[0].__notes__ == ["while checking the health of service 'service1'"]
    for name in ("service1", "service2"):
        verdict = monitor.verdict(name, 10.5)
        assert (verdict.state, verdict.since) == (State.STALE, 10.0)


async def test_synchronous_transport_is_a_defect_and_no_failure_of_the_backend(autojump_clock: MockClock) -> None:
    class OneWay(httpx.SyncByteStream):
        pass

    async def synchronous(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=OneWay())

    with pytest.RaisesGroup(TypeError):
        await monitor_of(Scripted([synchronous])).run()
    assert autojump_clock.current_time() == 0.0


async def test_cancelled_monitor_ends_at_once_and_what_it_knew_is_stale(autojump_clock: MockClock) -> None:
    monitor = monitor_of(Scripted([hang]), Scripted([ok]))
    with trio.move_on_after(1.0):
        await monitor.run()
    assert autojump_clock.current_time() == 1.0
    assert monitor.verdict("service1", 1.5) == Verdict(State.STALE, since=1.0)
    assert monitor.verdict("service2", 1.5) == Verdict(State.STALE, since=1.0, checked_at=0.0, age=1.5, latency=0.0)


async def test_monitor_that_runs_again_begins_anew(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    monitor = monitor_of(Scripted([ok, hang]))
    with trio.move_on_after(1.0):
        await monitor.run()
    nursery.start_soon(monitor.run)
    await trio.sleep(1.0)
    assert monitor.verdict("service1", autojump_clock.current_time()) == Verdict(State.UNKNOWN, since=1.0)


# Bodies


@dataclass
class Body(httpx.AsyncByteStream):
    """A body of ``pieces``, each after a pause; counts what was read of it."""

    pieces: list[bytes]
    pause: float = 0.0
    read: int = 0
    ended: bool = False
    closed: bool = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            for piece in self.pieces:
                await trio.sleep(self.pause)
                self.read += 1
                yield piece
        finally:
            self.ended = True

    async def aclose(self) -> None:
        self.closed = True


async def check_body(autojump_clock: MockClock, nursery: trio.Nursery, body: Body) -> Verdict:
    async def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=body)

    verdict = await Running(autojump_clock, nursery, monitor_of(Scripted([answer]))).at(2.0)
    assert body.ended
    assert body.closed
    return verdict


async def test_short_body_is_read_to_its_end(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    body = Body([b"x"] * 3)
    assert (await check_body(autojump_clock, nursery, body)).state is State.UP
    assert body.read == 3


async def test_endless_body_is_read_to_the_limit_and_closed(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    body = Body([b"x" * 1024] * 1000)
    assert (await check_body(autojump_clock, nursery, body)).state is State.UP
    assert body.read == MAX_BODY // 1024


async def test_latency_counts_to_the_end_of_the_body(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    assert (await check_body(autojump_clock, nursery, Body([b"x", b"y"], pause=0.5))).latency == 1.0


async def test_body_that_does_not_end_in_time_means_down(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    verdict = await check_body(autojump_clock, nursery, Body([b"x"] * 1000, pause=0.75))
    assert (verdict.state, verdict.checked_at) == (State.DOWN, 2.0)
    assert verdict.last_error == "no whole answer within 2 s"


# The rest


@pytest.mark.parametrize(("interval", "timeout"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (1.0, -1.0)])
def test_time_that_is_not_positive_is_a_defect(interval: float, timeout: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        monitor_of(Scripted([ok]), interval=interval, timeout=timeout)


def test_verdict_on_a_stranger_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        monitor_of(Scripted([ok])).verdict("service3", 0.0)


def test_repr_tells_what_is_watched() -> None:
    assert repr(monitor_of(Scripted([ok]), Scripted([ok]))) == "<Monitor service1, service2 every 10 s>"
