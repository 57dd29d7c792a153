import pytest
import trio
from trio.testing import MockClock

from gateway.errors import Cause
from gateway.testing.app import RunningGateway, running_gateway
from gateway.testing.backend import Backend
from gateway.testing.network import MemoryNetwork
from gateway.testing.peer import Request
from gateway.testing.storm.moods import MOODS, body_of, mood_of, script_of
from gateway.testing.storm.play import settings_for


async def ask(gateway: RunningGateway, mood: str, method: bytes = b"GET") -> None:
    body = b"content-length: 2\r\n\r\nhi" if method == b"POST" else b"\r\n"
    target = b"/api/service1/e1?mood=" + mood.replace(" ", "+").encode()
    async with await gateway.raw_client() as client:
        await client.send(b"%b %b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n%b" % (method, target, body))
        await client.read_to_end()


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("mood", MOODS)
async def test_request_ends_as_its_mood_says(
    network: MemoryNetwork, mood: str, method: bytes, autojump_clock: MockClock
) -> None:
    script = script_of(MOODS, 0.1, str)
    async with (
        Backend(network, "service1", 8001, script),
        running_gateway(network, settings_for(0.1)) as gateway,
    ):
        await ask(gateway, mood, method)
        (record,) = await gateway.logged(1)
        assert record.cause in MOODS[mood].causes
        if record.cause is Cause.BACKEND_TIMEOUT:
            assert record.duration_ms == 3000


@pytest.mark.parametrize("mood", [name for name, mood in MOODS.items() if mood.leaves])
async def test_mood_that_leaves_closes_a_connection_that_it_did_not_say_it_would(
    network: MemoryNetwork, mood: str, autojump_clock: MockClock
) -> None:
    async with (
        Backend(network, "service1", 8001, script_of(MOODS, 0.1, str)) as backend,
        running_gateway(network, settings_for(0.1)) as gateway,
    ):
        async with await gateway.raw_client() as client:
            target = b"/api/service1/e1?mood=" + mood.replace(" ", "+").encode()
            await client.send(b"GET %b HTTP/1.1\r\nhost: a\r\n\r\n" % target)
            assert b"connection: close" not in (await client.read_response()).head.lower()
        await trio.sleep(0.2)
        assert backend.connections[0].finished.is_set()


@pytest.mark.parametrize(("state", "healthy"), [("", "up"), ("failing", "down"), ("hanging", "down")])
async def test_health_check_is_answered_as_told(
    network: MemoryNetwork, state: str, healthy: str, autojump_clock: MockClock
) -> None:
    async with (
        Backend(network, "service1", 8001, script_of(MOODS, 0.1, lambda: state)),
        running_gateway(network, settings_for(0.1), probes=True) as gateway,
    ):
        verdict = gateway.app.gateway.verdict("service1", trio.current_time())
        assert verdict.state == healthy


def test_mood_is_named_in_the_query_and_well_where_it_is_not() -> None:
    named = Request.parse(b"GET /e1?mood=slow+head HTTP/1.1\r\n\r\n")
    assert mood_of(named) == "slow head"
    assert mood_of(Request.parse(b"GET /e1 HTTP/1.1\r\n\r\n")) == "well"


def test_body_says_whose_it_is() -> None:
    assert body_of(b"/api/e17?mood=cut", 3) == b"e17;xxx"
