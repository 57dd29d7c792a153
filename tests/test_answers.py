import json
from dataclasses import dataclass

import pytest

from gateway import answers, errors
from gateway.errors import BackendTimeout, ConnectFailed, GatewayError, MethodNotAllowed, NoRoute, Phase

STAMP = "2026-11-23T12:00:00.000Z"


@dataclass
class Told:
    """An answer as a client reads it."""

    status: int
    headers: dict[bytes, bytes]
    body: dict[str, object]


def explain(
    failure: GatewayError,
    *,
    path: str = "/api/service1/x",
    service: str | None = None,
    timings: dict[Phase, float] | None = None,
) -> Told:
    answer = answers.explain(failure, path=path, timestamp=STAMP, request_id="abc", service=service, timings=timings)
    headers = dict(answer.headers)
    assert len(headers) == len(answer.headers)
    assert headers[b"content-length"] == b"%d" % len(answer.body)
    return Told(answer.status, headers, json.loads(answer.body))


def every_failure(kind: type[GatewayError] = GatewayError) -> list[type[GatewayError]]:
    return [kind, *(below for each in kind.__subclasses__() for below in every_failure(each))]


def made(kind: type[GatewayError]) -> GatewayError:
    return MethodNotAllowed("why", allow=b"GET") if kind is MethodNotAllowed else kind("why")


def test_failure_without_a_service_tells_neither_service_nor_phase_nor_timings() -> None:
    told = explain(NoRoute("no service answers to this path"), path="/nowhere")
    assert told.body == {
        "error": "not_found",
        "message": "no service answers to this path",
        "path": "/nowhere",
        "timestamp": STAMP,
        "status_code": 404,
        "request_id": "abc",
    }


def test_failure_of_a_service_tells_whose_in_which_phase_and_what_used_up_the_time() -> None:
    failure = BackendTimeout("the backend did not answer within 30 s", phase=Phase.FIRST_BYTE)
    timings = {Phase.QUEUE: 0.0000004, Phase.CONNECT: 0.0012345, Phase.FIRST_BYTE: 30.0}
    told = explain(failure, service="service1", timings=timings)
    assert told.body == {
        "error": "gateway_timeout",
        "message": "service1: the backend did not answer within 30 s",
        "path": "/api/service1/x",
        "timestamp": STAMP,
        "status_code": 504,
        "request_id": "abc",
        "service": "service1",
        "phase": "first_byte",
        "timings_ms": {"queue": 0.0, "connect": 1.234, "first_byte": 30000.0},
    }


@pytest.mark.parametrize("kind", every_failure())
def test_every_failure_has_an_answer_with_its_own_status_and_code(kind: type[GatewayError]) -> None:
    told = explain(made(kind))
    assert told.status == kind.status == told.body["status_code"]
    assert told.body["error"] == kind.code
    assert told.headers[b"content-type"] == b"application/json"
    assert told.headers[b"x-request-id"] == b"abc"
    assert told.headers[b"proxy-status"] == b'api-gateway; error=%b; details="why"' % kind.proxy_error.encode()


@pytest.mark.parametrize("kind", every_failure())
def test_only_503_tells_when_to_come_back(kind: type[GatewayError]) -> None:
    assert explain(made(kind)).headers.get(b"retry-after") == (b"1" if kind.status == 503 else None)


def test_only_405_tells_which_methods_are_allowed() -> None:
    assert explain(MethodNotAllowed("why", allow=b"GET, HEAD")).headers[b"allow"] == b"GET, HEAD"
    assert b"allow" not in explain(errors.BadRequest("why")).headers


def test_detail_that_only_the_log_may_tell_is_not_in_the_answer() -> None:
    failure = ConnectFailed("no connection to the backend: connection refused", detail="10.0.0.7:8001 refused")
    answer = answers.explain(failure, path="/x", timestamp=STAMP, request_id="abc", service="service1")
    assert b"10.0.0.7" not in answer.body + b"".join(value for _, value in answer.headers)


@pytest.mark.parametrize(
    ("message", "details"),
    [
        ('it said "no"', rb'"it said \"no\""'),
        ("a\\b", rb'"a\\b"'),
        ("über", b'"?ber"'),
        ("a\r\nSet-Cookie: x=1", b'"a??Set-Cookie: x=1"'),
    ],
)
def test_proxy_status_stays_one_structured_field_whatever_the_message_holds(message: str, details: bytes) -> None:
    told = explain(errors.BadResponse(message))
    assert told.headers[b"proxy-status"] == b"api-gateway; error=http_protocol_error; details=" + details
    assert told.body["message"] == message
