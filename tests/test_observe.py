"""Records, lines and the writer that never holds anybody up."""

import io
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from select import PIPE_BUF
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Cause, Phase
from gateway.observe import (
    Collector,
    LineWriter,
    LoggingBridge,
    LogSink,
    Record,
    WallClock,
    json_line,
    open_log,
    record_line,
    record_to_dict,
    text_line,
)


def record(**changes: Any) -> Record:
    facts: dict[str, Any] = {
        "timestamp": "2026-01-02T03:04:05.678Z",
        "level": "INFO",
        "message": "request",
        "request_id": "r1",
        "method": "GET",
        "path": "/api/service1/x",
        "protocol": "HTTP/1.1",
        "client_ip": "192.0.2.1",
        "target_service": "service1",
        "target_url": "http://service1:8001/api/x",
        "status_code": 200,
        "bytes_in": 0,
        "bytes_out": 2,
        "duration_ms": 1.5,
        "timings_ms": {"queue": 0.5, "first_byte": 1.0},
        "cause": Cause.OK,
    }
    return Record(**facts | changes)


def test_time_stamps_follow_the_monotonic_clock_from_one_look_at_the_wall() -> None:
    clock = WallClock(wall=1_700_000_000.0, monotonic=100.0)
    assert clock.iso(100.0) == "2023-11-14T22:13:20.000Z"
    assert clock.iso(161.5) == "2023-11-14T22:14:21.500Z"
    assert WallClock.start(5.0).iso(5.0).startswith(str(datetime.now(UTC).year))


@pytest.mark.requirement("FR-009")
def test_log_line_has_the_agreed_fields_in_order() -> None:
    line = json_line(record_to_dict(record()))
    assert list(json.loads(line)) == [
        "timestamp",
        "level",
        "message",
        "request_id",
        "method",
        "path",
        "protocol",
        "client_ip",
        "target_service",
        "target_url",
        "status_code",
        "bytes_in",
        "bytes_out",
        "duration_ms",
        "timings_ms",
        "cause",
    ]


def test_log_line_of_a_failure_says_where_and_why() -> None:
    line = json.loads(
        json_line(record_to_dict(record(cause=Cause.BACKEND_TIMEOUT, phase=Phase.CONNECT, error="too late")))
    )
    assert (line["cause"], line["phase"], line["error"]) == ("backend_timeout", "connect", "too late")


@given(st.text(max_size=40))
def test_no_value_can_end_a_line_or_move_the_cursor(value: str) -> None:
    for form in (json_line, text_line):
        line = form(record_to_dict(record(path=value, message=value)))
        assert line.isprintable()


@pytest.mark.parametrize("form", [json_line, text_line])
def test_line_fits_into_a_pipe_whatever_the_client_asks_for(form: Callable[[Mapping[str, Any]], str]) -> None:
    path = "/" + '"' * 60_000
    method = "M" * 60_000
    long = record(method=method, path=path, message=f"GET {path} 200", target_url=f"http://backend{path}")
    line = form(record_to_dict(long))
    assert len(line.encode()) < PIPE_BUF
    assert "..." in line
    assert record_to_dict(record(path="/" + "a" * 449))["path"] == "/" + "a" * 449


WORDS = st.text(max_size=600) | st.none()


@given(words=st.tuples(*[st.text(max_size=600)] * 6), maybe=st.tuples(WORDS, WORDS, WORDS), spent=st.floats(0, 1e6))
def test_line_of_a_record_is_what_the_json_library_would_make_of_it(
    words: tuple[str, ...], maybe: tuple[str | None, ...], spent: float
) -> None:
    message, request_id, method, path, protocol, client_ip = words
    target_service, target_url, error = maybe
    one = record(
        message=message,
        request_id=request_id,
        method=method,
        path=path,
        protocol=protocol,
        client_ip=client_ip,
        target_service=target_service,
        target_url=target_url,
        error=error,
        phase=None if error is None else Phase.BODY,
        duration_ms=spent,
        timings_ms={Phase.QUEUE: spent, Phase.CONNECT: 0.0},
    )
    assert record_line(one) == json_line(record_to_dict(one))


def test_text_line_is_for_people() -> None:
    assert text_line(
        {"timestamp": "T", "level": "INFO", "message": "hello", "n": 1, "none": None, "map": {"a": 1}}
    ) == ('T INFO    hello n=1 map={"a": 1}')


def test_collector_keeps_what_it_is_given() -> None:
    collector = Collector()
    collector.exchange(record())
    collector.event("INFO", "started", port=8000)
    assert collector.records == [record()]
    assert collector.events == [{"level": "INFO", "message": "started", "port": 8000}]


# The sink


def test_sink_writes_nothing_below_its_level() -> None:
    lines: list[str] = []
    sink = LogSink(lines.append, log_format="json", level="WARNING", timestamp=lambda: "T")
    sink.exchange(record())
    sink.event("INFO", "quiet")
    sink.exchange(record(level="ERROR"))
    sink.event("WARNING", "loud", why="because")
    assert len(lines) == 2
    assert json.loads(lines[1]) == {"timestamp": "T", "level": "WARNING", "message": "loud", "why": "because"}


def test_library_logging_comes_out_in_the_same_form_with_its_traceback() -> None:
    collector = Collector()
    logger = logging.getLogger("tests.bridge")
    logger.addHandler(bridge := LoggingBridge(collector))
    logger.propagate = False
    try:
        logger.warning("plain %s", "words")
        try:
            raise ValueError("broken")  # noqa: TRY301 -- a traceback is wanted
        except ValueError:
            logger.exception("failed")
    finally:
        logger.removeHandler(bridge)
        logger.propagate = True
    plain, failed = collector.events
    assert plain == {"level": "WARNING", "message": "plain words", "logger": "tests.bridge"}
    assert failed["level"] == "ERROR"
    assert "ValueError: broken" in failed["traceback"]


def test_open_log_leads_libraries_into_the_same_stream() -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        sink, writer = open_log(log_format="json", level="INFO", timestamp=lambda: "T", stream=stream)
        logging.getLogger("some.library").info("hello")
        sink.event("INFO", "world")
        writer.close()
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["hello", "world"]


# The writer. Its thread lives on the real clock, so these tests wait for events and never for a time to pass.


@contextmanager
def open_pipe(reader_blocks: bool = True) -> Iterator[tuple[int, io.TextIOWrapper]]:  # noqa: FBT001, FBT002 -- one flag
    reading, writing = os.pipe()
    os.set_blocking(reading, reader_blocks)
    stream = io.TextIOWrapper(io.FileIO(writing, "w"), write_through=True)
    try:
        yield reading, stream
    finally:
        os.close(reading)
        with suppress(OSError):  # its reader is gone, which is what some tests are about
            stream.close()


def test_writer_writes_all_lines_in_order_by_its_end() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream)
    for number in range(500):
        writer.write(str(number))
    writer.close()
    assert stream.getvalue().splitlines() == [str(number) for number in range(500)]


def test_writer_never_hands_a_pipe_more_than_it_takes_in_one_go() -> None:
    class Written(io.StringIO):
        def __init__(self) -> None:
            super().__init__()
            self.pieces: list[str] = []

        def write(self, text: str) -> int:
            self.pieces.append(text)
            return len(text)

    stream = Written()
    writer = LineWriter(stream, interval=10)
    lines = ["x" * (number * 37 % 900) for number in range(200)]
    for line in ["\u00fc" * 2000, *lines, "x" * 9_999]:
        writer.write(line)
    writer.close()
    *pieces, last = stream.pieces
    assert "".join(pieces).splitlines() == ["\u00fc" * 2000, *lines]
    assert all(piece.endswith("\n") and len(piece.encode()) <= 4096 for piece in pieces)
    assert len(pieces) < 50
    assert last == "x" * 9_999 + "\n"  # this one may be torn; half of it would help nobody


def test_stalled_reader_costs_lines_but_never_time_and_the_loss_is_told() -> None:
    with open_pipe() as (reading, stream):
        writer = LineWriter(stream, limit=10, interval=0.001)
        # More than a pipe holds: the thread is stuck in its write, the queue fills, the rest is dropped.
        written = 0
        while writer.dropped < 100:
            writer.write("x" * 9_999)
            written += 1
        got = b""
        while b"log lines dropped" not in got:
            got += os.read(reading, 1 << 20)
        writer.close()
        lines = got.decode().splitlines()
        whole = [line for line in lines if line == "x" * 9_999]
        told = sum(json.loads(line)["dropped"] for line in lines if line.startswith("{") and line.endswith("}"))
        assert told >= 100
        assert len(whole) + told <= written


def test_reader_that_never_comes_back_does_not_keep_the_process() -> None:
    with open_pipe() as (_reading, stream):
        writer = LineWriter(stream, limit=100, interval=0.001)
        while not writer.dropped:
            writer.write("x" * 9_999)
        writer.close(patience=0.01)
        assert any(thread.name == "log-writer" and thread.daemon for thread in threading.enumerate())


def test_broken_stream_costs_lines_and_the_count_is_kept() -> None:
    class Full(io.StringIO):
        def __init__(self) -> None:
            super().__init__()
            self.full = True
            self.failed = threading.Event()

        def write(self, text: str) -> int:
            if self.full:
                self.failed.set()
                raise OSError(28, "No space left on device")
            return super().write(text)

    stream = Full()
    writer = LineWriter(stream, interval=0.001)
    writer.write("lost")
    assert stream.failed.wait(5)
    stream.full = False
    writer.write("kept")
    writer.close()
    assert writer.dropped >= 1
    kept, told = stream.getvalue().splitlines()
    assert kept == "kept"
    assert json.loads(told)["dropped"] == writer.dropped == 1
