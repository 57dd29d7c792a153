"""One connection, no rights, and stock Hypercorn's process is gone: an exception in a connection's task ends them all.

Here each exception has its test. When one fails, Hypercorn has mended it, and the remedy that it names can go.
"""

import contextlib
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Self

from hyperframe.frame import DataFrame, GoAwayFrame, PriorityFrame, WindowUpdateFrame

from .conftest import PATIENCE, ROOT, Http2, Start, Stock, handshake, request, still


class Command:
    """The command ``hypercorn``. Who connects before its workers have started waits."""

    def __init__(self, folder: Path, workers: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, (folder / f"{workers}.log").open("wb") as log:
            self.port: int = listener.getsockname()[1]
            bind = ["--bind", f"fd://{listener.fileno()}", "--workers", str(workers), "--worker-class", "trio"]
            self.process = subprocess.Popen(  # noqa: S603 -- our own
                [sys.executable, "-m", "hypercorn", *bind, "tests.upstream.app:app"],
                cwd=ROOT,
                stderr=log,
                pass_fds=[listener.fileno()],
            )
        self.clients: list[Http2] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        for client in self.clients:
            client.socket.close()
        self.process.terminate()
        self.process.wait()

    def http2(self) -> Http2:
        self.clients.append(Http2(self.port))
        return self.clients[-1]

    def wait(self) -> int | None:
        """The exit status, or None: it lives."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return None


def test_sound_requests_are_answered(server: Stock) -> None:
    client, http2 = server.client(), server.http2()
    client.send(request("/"))
    http2.send(http2.head(1))
    assert client.gets(b"ok", PATIENCE)
    assert http2.gets_answer(1)
    assert not server.ends(0)


def test_k1_data_after_the_answer_ends_the_process(server: Stock) -> None:
    client = server.http2()
    client.send(client.head(1, "/early", method="POST", end=False))
    assert client.gets_answer(1)
    client.send(DataFrame(1, b"x"))
    server.dies_of("KeyError", "`Http2._data`, which drops what no stream waits for")


def test_k2_path_with_a_non_ascii_byte_ends_the_process(server: Stock) -> None:
    client = server.http2()
    client.send(client.head(1, "/caf\xe9"))
    server.dies_of("UnicodeDecodeError", "the check of the path in `check_http2_head`")


def test_k3_method_with_a_non_ascii_byte_ends_the_process(server: Stock) -> None:
    client = server.http2()
    client.send(client.head(1, method="G\xc9T"))
    server.dies_of("UnicodeDecodeError", "the check of the method in `check_http2_head`")


def test_k4_connect_without_path_ends_the_process(server: Stock) -> None:
    client = server.http2()
    client.send(client.head(1, None, method="CONNECT", scheme=None))
    server.dies_of("UnboundLocalError", "the check of CONNECT in `check_http2_head`")


def test_k5_priority_frames_end_the_process(server: Stock) -> None:
    client = server.http2()
    client.send(*(PriorityFrame(stream_id, stream_weight=1) for stream_id in range(1, 2101, 2)))
    server.dies_of("TooManyStreamsError", "`FrameSender`, which needs no tree of priorities")


def test_k6_upgrade_to_h2c_with_bad_settings_ends_the_process(server: Stock) -> None:
    lines = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: A")
    server.client().send(request("/", *lines))
    server.dies_of("binascii.Error", "the answer in HTTP/1.1 to h2c upgrades")


def test_k7_subprotocol_that_is_not_ascii_ends_the_process(server: Stock) -> None:
    server.client().send(handshake("/", Sec_WebSocket_Protocol="\xe9"))
    server.dies_of("UnicodeDecodeError", "`is_valid_handshake`")


def test_k8_websocket_data_before_the_app_accepts_ends_the_process(server: Stock) -> None:
    server.client().send(handshake("/") + b"\x81\x80\x00\x00\x00\x00")
    server.dies_of("LocalProtocolError", "`WebSocketStream`, where frames wait until the app accepts")


def test_k9_websocket_over_http2_data_after_the_close_ends_the_process(server: Stock) -> None:
    client = server.http2()
    version = ("sec-websocket-version", "13")
    client.send(client.head(1, "/close", version, method="CONNECT", protocol="websocket", end=False))
    assert client.sees(lambda: client.body(1), PATIENCE)
    client.send(DataFrame(1, b"\x88\x80\x00\x00\x00\x00"), DataFrame(1, b"\x81\x80\x00\x00\x00\x00"))
    server.dies_of("KeyError", "`Http2._data`, which drops what no stream waits for")


def test_k10_app_that_starts_with_1xx_ends_the_process(server: Stock) -> None:
    server.client().send(request("/101"))
    server.dies_of("LocalProtocolError", "`ResponsePlan`, which takes a start with 1xx for the app's error")


def test_k11_host_that_is_not_utf8_ends_the_process_where_names_are_set(start: Start) -> None:
    server = start(server_names=["a"])
    server.client().send(b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n")
    server.dies_of("UnicodeDecodeError", "the check of Host in `heads`")


def test_k12_goaway_while_answers_are_written_ends_the_process(server: Stock) -> None:
    # Two tasks meet in the socket at about every third try.
    with contextlib.suppress(ConnectionError):  # it is gone
        for _ in range(60):
            client = server.http2(INITIAL_WINDOW_SIZE=2**31 - 1)
            client.send(WindowUpdateFrame(0, 2**31 - 2**16))
            client.send(client.head(1, "/many-chunks"), client.head(3, "/many-chunks"))
            client.sees(partial(client.body, 1), PATIENCE)
            client.send(GoAwayFrame(0))
            if server.ends(0.02):
                break
    server.dies_of("BusyResourceError", "`FrameSender`, which alone writes and closes")


def test_k13_connection_with_a_non_ascii_byte_ends_the_process(server: Stock) -> None:
    server.client().send(handshake("/", Connection="Upgrade, \xe9"))
    server.dies_of("UnicodeDecodeError", "`is_valid_handshake`")


def test_k14_malformed_websocket_extension_ends_the_process(server: Stock) -> None:
    server.client().send(handshake("/", Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits=x"))
    server.dies_of("AttributeError", "`is_valid_handshake`")


def test_k15_websocket_handshake_with_a_body_ends_the_process(server: Stock) -> None:
    server.client().send(handshake("/", Content_Length="1") + b"x")
    server.dies_of("LocalProtocolError", "`is_valid_handshake`")


def test_one_dead_worker_ends_all_workers_and_the_exit_status_is_0(tmp_path: Path) -> None:
    with Command(tmp_path, workers=1) as single, Command(tmp_path, workers=2) as double:
        for command in (single, double):
            client = command.http2()
            client.send(client.head(1, "/caf\xe9"))
        still(single.wait() == 0, "the exit statuses of `supervise`")
        still(double.wait() is not None, "`supervise`, which replaces a worker that ends")
