import httpx
import pytest
import trio

from gateway.testing.storm.transport import BODY, lost_slots, memory_backend, socket_backend, storm
from gateway.transport import BackendTransport


async def test_storm_ends_every_request_once_some_answered_some_cancelled(autojump_clock: trio.abc.Clock) -> None:
    asked = 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        await trio.sleep(2.0)
        return httpx.Response(200, content=BODY)

    ends = await storm(httpx.MockTransport(answer), "http://backend/", pause=1.0, requests=300)
    assert ends.keys() == {"answered", "cancelled"}
    assert sum(ends.values()) == 300
    assert min(ends.values()) > 30
    assert asked <= 300


async def test_failures_of_the_transport_are_told_apart(autojump_clock: trio.abc.Clock) -> None:
    fails: list[type[httpx.TransportError]] = [httpx.PoolTimeout, httpx.ReadError, httpx.ConnectError]

    async def fail(request: httpx.Request) -> httpx.Response:
        fails.append(fails.pop(0))
        raise fails[-1]("as it was told")

    ends = await storm(httpx.MockTransport(fail), "http://backend/", pause=1.0, requests=300)
    assert ends.keys() <= {"pool timeout", "broken", "cancelled"}
    assert 0 < ends["pool timeout"] < ends["broken"]


async def test_answer_that_the_backend_never_gave_fails_the_storm() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b"somebody else's")

    with pytest.RaisesGroup(pytest.RaisesExc(AssertionError, match="nobody gave"), allow_unwrapped=True):
        await storm(httpx.MockTransport(answer), "http://backend/", requests=1)


async def test_backend_in_memory_has_each_of_its_moods(autojump_clock: trio.abc.Clock) -> None:
    outcomes = set()
    async with memory_backend(1.0) as network:
        client = httpx.AsyncClient(transport=BackendTransport(connect=network.connect))
        for _ in range(200):
            start = trio.current_time()
            try:
                response = await client.get("http://backend/")
            except httpx.ReadError:
                outcomes.add("broke off")
            else:
                assert response.content == BODY
                outcomes.add("closing" if response.headers.get("connection") == "close" else "keeping")
            outcomes.add("slow" if trio.current_time() > start else "prompt")
        await client.aclose()
    assert outcomes == {"broke off", "closing", "keeping", "slow", "prompt"}


@pytest.mark.parametrize("kind", [BackendTransport, httpx.AsyncHTTPTransport])
async def test_slot_counts_as_lost_as_long_as_its_answer_is_not_read(
    kind: type[BackendTransport | httpx.AsyncHTTPTransport],
) -> None:
    async with socket_backend(pause=0.0) as url, kind() as transport:
        request = httpx.Request("GET", url)
        for _ in range(20):  # the backend breaks one in twenty
            try:
                response = await transport.handle_async_request(request)
            except httpx.TransportError:
                continue
            break
        assert lost_slots(transport) == 1
        await response.aclose()
        assert lost_slots(transport) == 0
