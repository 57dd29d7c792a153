"""What stock Hypercorn's trio worker does, over real sockets, and a server that faces the internet should not.

When one of these fails, Hypercorn has mended it, and the remedy that it names can go.
"""

import os
import signal
from functools import partial

from hyperframe.frame import DataFrame, GoAwayFrame, RstStreamFrame, SettingsFrame

from .conftest import PATIENCE, WHILE, Start, Stock, handshake, request, still

# ---- answers


def test_http2_answer_that_the_app_breaks_off_is_neither_reset_nor_ended(server: Stock) -> None:
    client = server.http2()
    client.send(client.head(1, "/broken"))
    assert client.sees(lambda: 1 in client.fields, PATIENCE)
    still(not client.sees(lambda: client.over(1)), "RST_STREAM in `RequestStream`")


def test_http2_connection_is_dead_after_100_broken_answers(server: Stock) -> None:
    client = server.http2(INITIAL_WINDOW_SIZE=1000)
    for stream_id in range(1, 201, 2):
        client.send(client.head(stream_id, "/broken"))
        assert client.sees(partial(client.fields.get, stream_id), PATIENCE)
    client.send(client.head(201))
    still(not client.gets_answer(201, WHILE), "RST_STREAM in `RequestStream`")
    assert client.closed


def test_http2_body_shorter_than_its_length_ends_cleanly(server: Stock) -> None:
    client = server.http2()
    client.send(client.head(1, "/short"))
    assert client.sees(lambda: client.over(1), PATIENCE)
    still(client.ended(1) and client.body(1) == b"ok", "the count of bytes in `RequestStream`")


def test_http2_field_with_cr_and_lf_goes_out(server: Stock) -> None:
    client = server.http2()
    client.send(client.head(1, "/crlf"))
    assert client.sees(lambda: client.over(1), PATIENCE)
    still(client.fields[1].get(b"x") == b"a\r\nset-cookie: b", "the check of fields in `ResponsePlan`")


# ---- uploads


def test_http2_upload_is_not_stopped_after_an_early_answer(server: Stock) -> None:
    client = server.http2()
    client.send(client.head(1, "/early", method="POST", end=False))
    assert client.gets_answer(1)
    still(not client.sees(lambda: client.has(RstStreamFrame, 1), 1.0), "RST_STREAM after EARLY_ANSWER_GRACE in `Http2`")


def test_100_continue_goes_out_though_the_app_does_not_ask(server: Stock) -> None:
    client = server.client()
    client.send(request("/early", "Expect: 100-continue", "Content-Length: 1000000", method="POST"))
    assert client.gets(b"413", PATIENCE)
    still(client.received.startswith(b"HTTP/1.1 100 "), "100 Continue at the first `receive`")


def test_http1_upload_is_reset_after_an_early_answer(server: Stock) -> None:
    client = server.client()
    try:
        client.send(request("/early", "Content-Length: 50000000", method="POST"), bytes(50_000_000))
    except ConnectionError:
        uploaded = False
    else:
        uploaded = True
    still(not uploaded, "`Connection.linger`")


def test_http1_app_that_does_not_read_a_queued_body_never_ends(server: Stock) -> None:
    client = server.client()
    client.send(request("/late", "Transfer-Encoding: chunked", method="POST"), b"1\r\nx\r\n" * 12, b"0\r\n\r\n")
    assert client.gets(b"413", PATIENCE)
    still(not server.becomes("early", 1), "`Inbox`")


def test_http2_stream_that_is_not_read_stops_the_others(server: Stock) -> None:
    client = server.http2()
    client.send(client.head(1, "/for-ever", method="POST", end=False), *[DataFrame(1, b"x")] * 12, client.head(3))
    still(not client.gets_answer(3, WHILE), "`Inbox`, and a reader that never waits for an app")


def test_http2_windows_and_frame_sizes_cannot_be_set(start: Start) -> None:
    client = start(h2_max_inbound_frame_size=2**15).http2()
    assert client.sees(lambda: client.has(SettingsFrame), PATIENCE)
    told = next(frame for frame in client.frames if isinstance(frame, SettingsFrame)).settings
    assert told[SettingsFrame.INITIAL_WINDOW_SIZE] == 2**16 - 1
    still(told[SettingsFrame.MAX_FRAME_SIZE] == 2**14, "the settings in `StreamwiseConnection`")


# ---- clients that do not read


def test_http2_window_of_zero_holds_no_app_back(server: Stock) -> None:
    client = server.http2(INITIAL_WINDOW_SIZE=0)
    client.send(client.head(1, "/32-megabytes"))
    still(server.becomes("sent", 32 * 2**20, PATIENCE), "`FrameSender`, where the app waits for the window")
    assert client.body(1) == b""


def test_http1_write_outlasts_the_apps_own_deadline(server: Stock) -> None:
    server.client().send(request("/large"))
    still(not server.becomes("large", 1, 1.0), "writes that can be cancelled in `Connection`")


def test_client_that_does_not_read_outlasts_sigterm(start: Start) -> None:
    server = start(graceful_timeout=0.1)
    server.client().send(request("/large"))
    assert server.becomes("calls", 1, PATIENCE)
    os.kill(server.pid, signal.SIGTERM)
    still(not server.ends(1.5), "`client_timeout`, and the abort at the end of the drain")


# ---- clients that leave


def test_departure_behind_pipelined_bytes_is_not_seen(server: Stock) -> None:
    client = server.client()
    client.send(request("/disconnect"))
    client.socket.close()
    assert server.becomes("disconnects", 1, PATIENCE)
    client = server.client()
    client.send(request("/disconnect"), request("/"))
    client.socket.close()
    still(not server.becomes("disconnects", 2), "the inbox that goes on reading in `Http1`")


def test_departure_behind_an_unknown_upgrade_is_not_seen(server: Stock) -> None:
    client = server.client()
    client.send(request("/disconnect", "Connection: Upgrade", "Upgrade: x"))
    client.socket.close()
    still(not server.becomes("disconnects", 1), "the inbox that goes on reading in `Http1`")


def test_http2_goaway_of_the_client_kills_its_streams(server: Stock) -> None:
    client = server.http2()
    client.send(client.head(1, "/slow"), GoAwayFrame(0))
    still(not client.gets_answer(1, 1.5), "GOAWAY in `Http2._handle_event`")
    assert client.closed


def test_websocket_close_code_of_the_client_is_lost(server: Stock) -> None:
    client = server.client()
    client.send(handshake("/"))
    assert client.gets(b"\r\n\r\n", PATIENCE)
    client.send(b"\x88\x82\x00\x00\x00\x00\x03\xe9")  # 1001
    assert client.sees(lambda: client.closed, PATIENCE)
    still(server.becomes("close codes", [1006], PATIENCE), "the close code in `WebSocketStream`")


# ---- clocks and limits


def test_read_timeout_fires_while_the_app_works(start: Start) -> None:
    server = start(read_timeout=0.1)
    client = server.client()
    client.send(request("/disconnect"))
    still(server.becomes("disconnects", 1, PATIENCE), "the one clock of `Connection`")
    assert not client.closed


def test_http2_connection_with_prior_knowledge_and_no_stream_is_never_idle(start: Start) -> None:
    server = start(keep_alive_timeout=0.1)
    client, http2 = server.client(), server.http2()
    assert client.sees(lambda: client.closed, PATIENCE)
    still(not http2.sees(lambda: http2.closed), "the clock that `Http2.initiate` sets")


def test_http2_last_request_of_a_connection_costs_the_others_their_answers(start: Start) -> None:
    client = start(keep_alive_max_requests=1).http2()
    client.send(client.head(1, "/slow"), client.head(3), client.head(5))
    assert client.sees(lambda: client.has(GoAwayFrame), PATIENCE)
    still(not client.gets_answer(1, 1.0), "`Http2.retire`")


def test_http2_rapid_reset_starts_an_app_for_each_stream(server: Stock) -> None:
    client = server.http2()
    for stream_id in range(1, 801, 2):
        client.send(client.head(stream_id), RstStreamFrame(stream_id, 8))
    client.send(client.head(801))
    still(client.gets_answer(801), "`Limits.max_resets`")
    still(server.seen()["calls"] == 401, "`Limits.max_resets`")


def test_http2_frame_announced_as_16_megabytes_is_taken_in(server: Stock) -> None:
    client = server.http2()
    client.send((2**24 - 1).to_bytes(3, "big") + b"\x00\x00\x00\x00\x00\x01", bytes(2_000_000))
    still(not client.sees(lambda: client.closed or client.has(GoAwayFrame)), "the check of lengths in `Http2`")


# ---- requests


def test_length_beside_transfer_encoding_is_taken(server: Stock) -> None:
    client = server.client()
    client.send(request("/", "Content-Length: 1", "Transfer-Encoding: chunked", method="POST"), b"0\r\n\r\n")
    still(client.gets(b"200", PATIENCE), "the framing's rules in `heads`")


def test_bare_lf_is_taken(server: Stock) -> None:
    client = server.client()
    client.send(b"GET / HTTP/1.1\nHost: a\n\n")
    still(client.gets(b"200", PATIENCE), "the grammar of `heads`")


def test_method_is_upper_cased(server: Stock) -> None:
    client = server.client()
    client.send(request("/method", method="get"))
    assert client.gets(b"\r\n\r\n", PATIENCE)
    still(client.gets(b"GET"), "nothing: `RequestStream` gives it as it came")


# ---- shutdown


def test_shutdown_tells_no_client_until_it_is_idle(server: Stock) -> None:
    client, http2 = server.client(), server.http2()
    client.send(request("/upload", "Content-Length: 1", method="POST"))
    http2.send(http2.head(1, "/upload", method="POST", end=False))
    assert server.becomes("calls", 2, PATIENCE)
    os.kill(server.pid, signal.SIGTERM)
    while server.listens():
        pass
    still(not http2.sees(lambda: http2.has(GoAwayFrame)), "GOAWAY in `Http2.retire`")
    client.send(b"x")
    assert client.gets(b"ok", PATIENCE)
    still(b"connection: close" not in client.received.lower(), "`connection: close` in `Http1`")
