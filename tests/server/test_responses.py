"""What an app may say about its answer, and how that goes out, with h11 as the client who reads it."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import h11
import pytest
from hypercorn.config import Config
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.server import responses
from gateway.server.responses import DateField, lowered, own_fields, plan_response, serialize_response_head

from .conftest import GET, Start

Fields = list[tuple[bytes, bytes]]


# ---- what is refused

REFUSED: dict[str, tuple[int, Fields]] = {
    "no final status": (199, []),
    "100": (100, []),
    "101": (101, []),
    "103": (103, []),
    "status of two digits": (99, []),
    "status of four digits": (1000, []),
    "negative status": (-200, []),
    "CRLF in a value": (200, [(b"x", b"a\r\nb: c")]),
    "CR in a value": (200, [(b"x", b"a\rb")]),
    "LF in a value": (200, [(b"x", b"a\nb")]),
    "NUL in a value": (200, [(b"x", b"a\0b")]),
    "CRLF in a name": (200, [(b"x: y\r\nz", b"a")]),
    "LF in a name": (200, [(b"x\nz", b"a")]),
    "space in a name": (200, [(b"x y", b"a")]),
    "colon in a name": (200, [(b"x:", b"a")]),
    "empty name": (200, [(b"", b"a")]),
    "name of white space": (200, [(b" \t", b"a")]),
    "non-ASCII name": (200, [(b"\xe9", b"a")]),
    "pseudo-header": (200, [(b":status", b"200")]),
    "CRLF in what is dropped": (200, [(b"connection", b"close\r\nx: y")]),
    "CRLF in a coding": (200, [(b"transfer-encoding", b"a\r\nb")]),
    "length that is a word": (200, [(b"content-length", b"x")]),
    "empty length": (200, [(b"content-length", b"")]),
    "signed length": (200, [(b"content-length", b"+1")]),
    "negative length": (200, [(b"content-length", b"-1")]),
    "list of lengths": (200, [(b"content-length", b"1, 1")]),
    "length as Python writes it": (200, [(b"content-length", b"1_0")]),
    "two lengths": (200, [(b"content-length", b"1"), (b"Content-Length", b"2")]),
    "malformed length of a 204": (204, [(b"content-length", b"x")]),
    "length that no number can hold": (200, [(b"content-length", b"9" * 5000)]),
}


@pytest.mark.parametrize(("status", "fields"), REFUSED.values(), ids=REFUSED)
def test_answer_that_is_none_or_would_be_read_as_another_is_refused(status: int, fields: Fields) -> None:
    with pytest.raises(ValueError, match=r"status|name|value|Content-Length|digits"):
        plan_response("GET", status, fields)


def test_name_that_was_refused_is_refused_again() -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="not the name of a field"):
            plan_response("GET", 200, [(b"x y", b"a")])


# ---- over the wire


@pytest.mark.parametrize(
    ("status", "headers"),
    [(200, [(b"x", b"a\r\nb: c")]), (200, [(b"x y", b"a")]), (200, [(b"content-length", b"x")]), (99, []), (101, [])],
)
async def test_answer_that_cannot_be_sent_is_a_500(
    start: Start, status: int, headers: list[tuple[bytes, bytes]]
) -> None:
    async def wrong(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": status, "headers": headers})

    server = await start(wrong)
    client = await server.http1()
    await client.send(GET)
    assert (await client.answer())[0] == 500
    assert (await (await server.http2()).get()).status == 500


# ---- what passes


def test_fields_pass_with_their_names_values_and_order() -> None:
    fields = [(b"X-B", b"1 2"), (b"set-cookie", b"a"), (b"x-b", b"\xe9\t."), (b"Set-Cookie", b"b"), (b"E", b"")]
    assert plan_response("GET", 200, fields).headers == fields


def test_white_space_around_names_and_values_is_left_out() -> None:
    assert plan_response("GET", 200, [(b" X ", b"\t1 \r\n")]).headers == [(b"X", b"1")]


def test_bytes_like_names_and_values_become_bytes() -> None:
    fields: Iterable[Any] = iter([(bytearray(b"X"), memoryview(b"1"))])
    assert plan_response("GET", 200, fields).headers == [(b"X", b"1")]


@pytest.mark.parametrize(
    "name", [b"Connection", b"Transfer-Encoding", b"Keep-Alive", b"Proxy-Connection", b"Upgrade", b"upGRADE"]
)
def test_framing_and_connection_are_the_servers_to_say(name: bytes) -> None:
    assert plan_response("GET", 200, [(name, b"x"), (b"Y", b"z")]).headers == [(b"Y", b"z")]


@pytest.mark.parametrize(
    ("values", "close"), [([b"Close"], True), ([b"x, close"], True), ([b"close", b"x"], True), ([b"keep-alive"], False)]
)
def test_app_may_ask_for_the_connection_to_be_closed(values: list[bytes], *, close: bool) -> None:
    assert plan_response("GET", 200, [(b"Connection", value) for value in values]).close is close


def test_length_is_kept_once() -> None:
    plan = plan_response("GET", 200, [(b"Content-Length", b"05"), (b"X", b"y"), (b"content-length", b"5")])
    assert (plan.length, plan.headers) == (5, [(b"Content-Length", b"05"), (b"X", b"y")])
    assert plan_response("GET", 200, []).length is None


@pytest.mark.parametrize(
    ("method", "status", "bodiless", "length"),
    [
        ("GET", 200, False, 4),
        ("GET", 500, False, 4),
        ("GET", 205, False, 4),
        ("HEAD", 200, True, 4),
        ("GET", 304, True, 4),
        ("GET", 204, True, None),
        ("HEAD", 204, True, None),
        ("head", 200, False, 4),
    ],
)
def test_body_goes_with_all_but_head_204_and_304(
    method: str, status: int, length: int | None, *, bodiless: bool
) -> None:
    plan = plan_response(method, status, [(b"content-length", b"4")])
    assert (plan.bodiless, plan.length) == (bodiless, length)
    assert plan.headers == ([] if length is None else [(b"content-length", b"4")])


@pytest.mark.parametrize(("name", "dated"), [(b"date", True), (b"DATE", True), (b"x-date", False)])
def test_date_of_the_app_is_seen(name: bytes, *, dated: bool) -> None:
    plan = plan_response("GET", 200, [(name, b"then")])
    assert (plan.dated, plan.headers) == (dated, [(name, b"then")])


def test_names_are_lowered_whether_they_were_seen_before_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "_known_names", {})
    fields = [(b"X-%d" % n, b"V") for n in range(3000)]
    for _ in range(2):
        kept = plan_response("GET", 200, fields).headers
        assert lowered(kept) == [(b"x-%d" % n, b"V") for n in range(3000)]
    assert lowered([(b"Never-Seen", b"V")]) == [(b"never-seen", b"V")]


def test_app_that_thinks_up_names_costs_no_memory_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[bytes, bytes] = {}
    monkeypatch.setattr(responses, "_known_names", known)
    for n in range(3000):
        plan_response("GET", 200, [(b"x-%d" % n, b"")])
    assert 0 < len(known) <= 1024


# ---- how it goes out


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, b"HTTP/1.1 200 OK\r\n"),
        (404, b"HTTP/1.1 404 Not Found\r\n"),
        (418, b"HTTP/1.1 418 I'm a Teapot\r\n"),
        (299, b"HTTP/1.1 299 \r\n"),  # RFC 9112 section 4: the space stays where there is no phrase
        (999, b"HTTP/1.1 999 \r\n"),
    ],
)
def test_status_line_has_its_phrase_where_there_is_one(status: int, line: bytes) -> None:
    assert serialize_response_head(status, []) == line + b"\r\n"


def test_fields_go_out_as_they_stand() -> None:
    block = serialize_response_head(200, [(b"X-B", b"1"), (b"x-b", b""), (b"Y", b"\xe9")])
    assert block == b"HTTP/1.1 200 OK\r\nX-B: 1\r\nx-b: \r\nY: \xe9\r\n\r\n"


names = st.binary(max_size=6) | st.sampled_from(
    [b"content-length", b"Connection", b"transfer-encoding", b"Date", b"set-cookie", b"X", b" x\r\n", b"x\r\ny"]
)
values = st.binary(max_size=8) | st.sampled_from([b"3", b"03", b"close", b"chunked", b"a\r\nb: c", b"\n", b"\r"])
answers = st.lists(st.tuples(names, values), max_size=6)
statuses = st.integers(195, 210) | st.integers(-1, 1001) | st.sampled_from([304, 404, 500])


@settings(max_examples=600)
@given(status=statuses, fields=answers)
@example(status=200, fields=[(b"x\r\n", b"\r\ny\r\n")])
@example(status=200, fields=[(b"x", b"a\r\n\r\nHTTP/1.1 200 OK")])
@example(status=777, fields=[(b"x", b"\xff"), (b"X", b"")])
def test_whatever_an_app_says_is_one_head_or_a_value_error(status: int, fields: Fields) -> None:
    try:
        plan = plan_response("GET", status, fields)
    except ValueError:
        return
    block = serialize_response_head(plan.status, plan.headers)
    lines = block.split(b"\r\n")
    assert lines[-2:] == [b"", b""]
    assert len(lines) == len(plan.headers) + 3
    assert not re.search(rb"[\r\n\0]", b"".join(lines))
    if re.search(rb"[\x0b\x0c]", block):  # in a value h11 is stricter than RFC 9110 asks a recipient to be
        return
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.receive_data(block)
    if len(str(plan.length)) > 20:
        return  # more than h11 counts to
    answer = client.next_event()
    assert isinstance(answer, h11.Response)
    assert answer.status_code == status
    assert answer.headers.raw_items() == plan.headers


# ---- what the server adds


def test_date_is_now_and_in_the_form_of_rfc_9110() -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    name, value = DateField().now()
    assert name == b"date"
    assert re.fullmatch(rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", value)
    assert before <= parsedate_to_datetime(value.decode()) <= datetime.now(UTC)


def test_date_moves_on_with_the_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    # The world's clock: trio's own cannot say what day it is.
    clock = iter([0.0, 0.9, 1.0, 86_400.5])
    monkeypatch.setattr(responses, "time", lambda: next(clock))
    field = DateField()
    assert [field.now()[1] for _ in range(4)] == [
        b"Thu, 01 Jan 1970 00:00:00 GMT",
        b"Thu, 01 Jan 1970 00:00:00 GMT",
        b"Thu, 01 Jan 1970 00:00:01 GMT",
        b"Fri, 02 Jan 1970 00:00:00 GMT",
    ]


def configured(**changes: Any) -> Config:
    config = Config()
    for name, value in changes.items():
        setattr(config, name, value)
    return config


def test_server_adds_a_date_where_there_is_none_and_nothing_else() -> None:
    assert [name for name, _ in own_fields(Config(), dated=False)] == [b"date"]
    assert own_fields(Config(), dated=True) == []
    assert own_fields(configured(include_date_header=False), dated=False) == []


def test_alt_svc_is_added_where_configured() -> None:
    config = configured(alt_svc_headers=['h3=":443"', "clear"])
    assert own_fields(config, dated=True) == [(b"alt-svc", b'h3=":443"'), (b"alt-svc", b"clear")]
