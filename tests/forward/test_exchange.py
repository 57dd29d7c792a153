"""Where the requests for one service go."""

import httpx

from gateway.clocks import Limits
from gateway.config import Service
from gateway.forward import Upstream
from gateway.headers import TrustedProxies
from gateway.testing import Backend, MemoryNetwork, respond
from gateway.transport import Answer, BackendTransport, Hooks, Request


def upstream(transport: httpx.AsyncBaseTransport) -> Upstream:
    return Upstream(
        service=Service(name="a", host="backend", port=8001),
        transport=transport,
        limits=Limits(),
        max_body_size=1,
        trusted=TrustedProxies(),
        date=lambda _now: b"",
    )


async def test_requests_go_to_the_origin_of_the_service_by_any_transport() -> None:
    asked: list[str] = []

    def note(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(204)

    answer = await upstream(httpx.MockTransport(note)).carry(Request(b"GET", b"/x", [], b"", 0), Hooks())
    assert (answer.head.status, asked) == (204, ["http://backend:8001/x"])


async def test_our_own_transport_is_spoken_to_without_httpx(network: MemoryNetwork) -> None:
    transport = BackendTransport(connect=network.connect)
    async with Backend(network, "backend", 8001, respond(status=204)):
        answer = await upstream(transport).carry(Request(b"GET", b"/x", [(b"host", b"a")], b"", 0), Hooks())
        assert isinstance(answer, Answer)
        assert (answer.head.status, answer.take_buffered()) == (204, b"")
        await transport.aclose()
