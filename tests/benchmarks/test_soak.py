"""The soak: how it judges, and the whole of it for some seconds."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
import trio
import trio.testing

from benchmarks.procfs import PROC
from benchmarks.soak_backend import ALONE, BY_PATH, Turning, by_path
from benchmarks.soak_clients import Seen
from benchmarks.soak_told import Soak, causes, drawing, rates, told
from benchmarks.soak_watch import NOTHING, Counters, Log, Sample, growth, read_metrics, take
from fixtures.faults import BACKEND_FAULTS
from fixtures.faults.stands import Player
from gateway.testing.network import MemoryNetwork

ROOT = Path(__file__).parents[2]
END = ("good", "200", "ok")


def line(name: str = "a", **facts: Any) -> bytes:
    exchange = {
        "level": "INFO",
        "message": "GET / 200",
        "request_id": name,
        "protocol": "HTTP/2",
        "target_service": "good",
        "status_code": 200,
        "duration_ms": 3.0,
        "timings_ms": {"queue": 1.0, "body": 2.0},
        "cause": "ok",
    }
    return json.dumps({**exchange, **facts}).encode() + b"\n"


STOPPED = b'{"level":"INFO","message":"the gateway has stopped"}\n'


def log_of(*lines: bytes) -> Log:
    log = Log()
    log.feed(b"".join([*lines, STOPPED]), "good")
    return log


def samples(*megabytes: float) -> list[Sample]:
    each = enumerate(int(value * 1e6) for value in megabytes)
    return [Sample(float(second), size, size // 2, size // 4, 20, 10 * second) for second, size in each]


def soak(*lines: bytes, **changes: Any) -> Soak:
    log = log_of(*(lines or [line()]))
    whole = Soak(
        seconds=600,
        warm_up=2,
        samples=samples(10, 50, 100, 100, 101, 101, 101),
        log=log,
        seen=Seen(),
        counters=replace(NOTHING, ends=Counter(log.ends)),
        baseline=10,
        left=10,
        stderr="",
    )
    return replace(whole, **changes)


# How it judges


def test_soak_without_a_fault_has_no_failure() -> None:
    assert list(soak().failures()) == []


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"samples": samples(10, 50, 100, 100, 101, 102, 103)}, "memory has grown by 3.0%"),
        ({"left": 11}, "11 descriptors are left, there were 10"),
        ({"counters": Counters(Counter({END: 1}), 1, 2, 0, 0)}, "1 requests and 2 connections never ended"),
        ({"counters": Counters(Counter({END: 1}), 0, 0, 0, 7)}, "7 lines of the log were lost"),
        (
            {"counters": Counters(Counter({END: 2}), 0, 0, 0, 0)},
            "log and counters differ in {('good', '200', 'ok'): 1}",
        ),
        ({"counters": NOTHING}, "log and counters differ in {('good', '200', 'ok'): 1}"),
        ({"seen": Seen(asked={"a", "b"})}, "1 requests never ended in the log, such as b (answered)"),
        (
            {"seen": Seen(bad=Counter(wrk=3, h2load=0), why=["Socket errors: read 3"])},
            "requests to the good service failed: {'wrk': 3}; Socket errors: read 3; in the log: {}",
        ),
        ({"seen": Seen(complaints=["wrk said: no"])}, "load generators that failed: wrk said: no"),
        ({"stderr": "Traceback"}, "on standard error: Traceback"),
    ],
)
def test_what_is_not_as_it_must_be_is_told(changes: dict[str, Any], failure: str) -> None:
    assert list(soak(**changes).failures()) == [failure]
    assert failure in told(soak(**changes))


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        ([line("a"), line("a")], "request ids that ended more than once: a"),
        ([b"{torn\n"], "lines of the log that are none: b'{torn'"),
        ([line(level="ERROR")], "errors of the gateway: "),
        ([line(duration_ms=4.5)], "phases that do not sum up: "),
    ],
)
def test_what_the_log_must_not_say_is_told(said: list[bytes], failure: str) -> None:
    (found,) = (each for each in soak(*said).failures() if not each.startswith("the log has no end"))
    assert found.startswith(failure)


def test_log_that_breaks_off_has_no_end() -> None:
    log = Log()
    log.feed(line(), "good")
    assert list(soak(log=log).failures()) == ["the log has no end"]


def test_short_soak_is_no_measure_of_memory() -> None:
    assert list(soak(samples=samples(10, 50, 100, 300), seconds=60).failures()) == []


def test_leak_shows_where_the_kernel_drops_pages_of_files_meanwhile() -> None:
    sizes = [(70, 40), (70, 40), (70, 40), (70, 41), (58, 42), (58, 42), (58, 42)]
    leaking = [Sample(float(at), rss * 10**6, 0, own * 10**6, 20, at) for at, (rss, own) in enumerate(sizes)]
    assert list(soak(samples=leaking).failures()) == ["memory has grown by 5.0%"]


def test_growth_is_between_the_first_fifth_and_the_last_and_one_odd_sample_does_not_count() -> None:
    values = [100.0] * 20
    assert growth([*values, 900.0]) == 0
    assert growth([*values[:15], *[110.0] * 5]) == pytest.approx(0.1)


def test_log_is_read_in_whatever_pieces_it_comes() -> None:
    whole = log_of(line("a"), line("b", target_service=None, status_code=404, cause="no_route"))
    pieces = Log()
    for byte in b"".join([line("a"), line("b", target_service=None, status_code=404, cause="no_route"), STOPPED]):
        pieces.feed(bytes([byte]), "good")
    assert pieces == whole
    assert whole.ends == {END: 1, ("gateway", "404", "no_route"): 1}
    assert whole.steady == {"HTTP/2 ok": 1}
    assert causes(soak(line("a"), line("b"), line("c", cause="client_gone"))) == [("ok", 2), ("client_gone", 1)]


def test_counters_are_read_from_the_page_for_prometheus() -> None:
    page = """# HELP gateway_requests_total Requests that have ended.
gateway_requests_total{service="good",status="200",cause="ok"} 5
gateway_requests_total{service="gateway",status="404",cause="no_route"} 1
gateway_requests_in_flight{service="good"} 2
gateway_requests_in_flight{service="other"} 1
gateway_backend_connections{service="good",state="leased"} 3
gateway_backend_connections{service="good",state="idle"} 4
gateway_log_lines_dropped_total 6
gateway_uptime_seconds 1.5
"""
    ends = Counter({END: 5, ("gateway", "404", "no_route"): 1})
    assert read_metrics(page) == Counters(ends, in_flight=3, leased=3, idle=4, dropped=6)


def test_sample_tells_of_memory_and_descriptors() -> None:
    one = take(os.getpid(), 1.5, 7)
    with (PROC / "self" / "stat").open("rb"):
        another = take(os.getpid(), 1.5, 7)
    assert another.descriptors == one.descriptors + 1
    assert one.rss >= one.pss > 1e6
    assert one.rss >= one.anonymous > 1e6


def test_drawing_is_of_all_samples_and_within_its_bounds() -> None:
    document = fromstring(drawing(soak()))  # noqa: S314 -- we wrote it ourselves
    curves = [each.attrib["points"].split() for each in document.iter("{http://www.w3.org/2000/svg}polyline")]
    assert [len(points) for points in curves] == [7, 7, 6]
    for points in curves:
        for point in points:
            x, y = map(float, point.split(","))
            assert 0 <= x <= float(document.attrib["width"])
            assert 0 <= y <= float(document.attrib["height"])


def test_rate_is_that_of_spans() -> None:
    assert list(rates(samples(*[1.0] * 101))) == [(float(end), 10.0) for end in range(10, 101, 10)]
    assert list(rates([])) == []


# Its backend


async def test_connection_that_answers_well_after_a_fault_turns_to_the_next_fault(
    network: MemoryNetwork, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    player = Player(by_path, 1, connection=Turning)
    await nursery.start(player.serve, network.listen("faults", 80))
    async with await network.connect("faults", 80) as stream:
        heard = []
        for path in (b"nothing-special", b"late", b"late", b"body-cut"):
            await stream.send_all(b"GET /api/%b HTTP/1.1\r\nhost: a\r\n\r\n" % path)
            heard.append(bytes(await stream.receive_some()))
        heard.append(bytes(await stream.receive_some()))
    assert [each[:13] for each in heard[:3]] == [b"HTTP/1.1 200 "] * 3
    assert heard[3:] == [b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello", b""]
    assert trio.current_time() >= 20


def test_every_fault_of_a_backend_can_be_asked_for() -> None:
    assert {fault.name for fault in BACKEND_FAULTS} <= {name.decode() for name in BY_PATH} | set(ALONE)


# The whole


def test_gateway_under_load_and_faults_loses_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "soak", "--seconds", "3"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=100)  # noqa: S603 -- fixed
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All of it held." in done.stdout
    assert "MB resident" in done.stderr
