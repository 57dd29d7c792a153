from dataclasses import astuple
from pathlib import Path

import pytest

from benchmarks.loads import NoLoadError, h2load_command, parse_h2load, parse_wrk, percentile, wrk_command
from benchmarks.workloads import Load, Workload

GET = Workload(key="get", title="GET", connections=32)
POST = Workload(key="post", title="POST", connections=32, body='{"a": 1}')
H2 = Workload(key="h2", title="HTTP/2", connections=8, streams=10)

WRK = """Running 1s test @ http://127.0.0.1:18081/api/x
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   651.92us  768.09us   6.07ms   90.51%
    Req/Sec    48.97k    12.10k   60.63k    80.00%
  Latency Distribution
     50%  415.00us
     75%  465.00us
     90%    1.32ms
     99%    4.35ms
  48699 requests in 1.10s, 7.66MB read
"""
WRK_END = """Requests/sec:  48561.28
Transfer/sec:      7.64MB
"""

H2LOAD = """starting benchmark...
spawning thread #0: 8 total client(s). 20000 total requests
progress: 100% done

finished in 457.52ms, 43714.22 req/s, 3.42MB/s
requests: 5 total, 5 started, 5 done, 4 succeeded, 1 failed, 0 errored, 0 timeout
status codes: 4 2xx, 0 3xx, 0 4xx, 1 5xx
"""
H2LOAD_LOG = "1\t200\t720\n2\t200\t752\n3\t503\t9\n4\t200\t755\n5\t200\t3000\n"


def assert_same(load: Load, expected: Load) -> None:
    assert astuple(load) == pytest.approx(astuple(expected))


def test_output_of_wrk_gives_count_time_and_percentiles() -> None:
    assert_same(parse_wrk(WRK + WRK_END), Load(48_699, 1.1, p50=415e-6, p99=4.35e-3))


def test_bad_answers_in_the_output_of_wrk_are_errors_and_no_requests() -> None:
    complaints = (
        "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 600\n"  # as wrk has it
    )
    load = parse_wrk(WRK + complaints + WRK_END)
    assert load.requests == 48_099
    assert load.errors == 610


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("unable to connect to 127.0.0.1:1 Connection refused\n", "Connection refused"),
        ("", "nothing"),
        (f"{WRK}  Non-2xx or 3xx responses: 48699\n", "48699 were answered badly"),
    ],
)
def test_output_of_wrk_without_a_good_answer_is_refused_with_the_reason(output: str, told: str) -> None:
    with pytest.raises(NoLoadError, match=told):
        parse_wrk(output)


def test_output_of_h2load_gives_time_and_its_log_the_percentiles() -> None:
    assert_same(parse_h2load(H2LOAD, H2LOAD_LOG), Load(4, 0.45752, p50=752e-6, p99=3e-3, errors=1))


@pytest.mark.parametrize(("output", "log"), [("could not connect", ""), (H2LOAD, ""), (H2LOAD, "1\t500\t7\n")])
def test_output_of_h2load_without_a_good_answer_is_refused(output: str, log: str) -> None:
    with pytest.raises(NoLoadError):
        parse_h2load(output, log)


@pytest.mark.parametrize(("percent", "value"), [(1, 1), (50, 50), (99, 99), (100, 100)])
def test_percentile_is_the_nearest_rank(percent: int, value: int) -> None:
    assert percentile(range(1, 101), percent) == value
    assert percentile([7], percent) == 7


def test_wrk_posts_by_a_script_and_gets_without_one(tmp_path: Path) -> None:
    assert not any("script" in word for word in wrk_command(GET, "http://x/", scratch=tmp_path))
    command = wrk_command(POST, "http://x/", scratch=tmp_path)
    assert f"--script={tmp_path}/post.lua" in command
    assert '{"a": 1}' in (tmp_path / "post.lua").read_text()
    assert command[-1] == "http://x/"


def test_h2load_speaks_http1_where_the_workload_has_no_streams(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert "--h1" in h2load_command(POST, "http://x/", requests=5, log=log, scratch=tmp_path)
    assert (tmp_path / "post.body").read_text() == POST.body
    command = h2load_command(H2, "http://x/", requests=5, log=log, scratch=tmp_path)
    assert "--h1" not in command
    assert "--max-concurrent-streams=10" in command
