from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.profiles import NoProfileError, parse, run, steps, told
from benchmarks.subjects import Stage
from benchmarks.workloads import Workload

MAIN = "thread (7): MainThread;<module> (gateway/__main__.py:6)"
RAW = f"""\
{MAIN};unrolled_run (trio/_core/_run.py:9);forward (gateway/forward/tree.py:1);write (gateway/forward/tree.py:2) 60
{MAIN};unrolled_run (trio/_core/_run.py:10);forward (gateway/forward/tree.py:5);forward (gateway/forward/tree.py:1) 20
{MAIN};unrolled_run (trio/_core/_run.py:9) 15
{MAIN};Context.run (<frozen runpy>) 5
thread (8): log-writer;_run (gateway/observe.py:1);Condition.wait (threading.py:331) 900
"""


def test_samples_count_for_the_innermost_frame_and_once_for_every_one_under_way() -> None:
    profile = parse(RAW)
    assert profile.samples == 100
    assert profile.own["gateway/forward/tree.py", "write"] == 60
    assert profile.own["gateway/forward/tree.py", "forward"] == 20
    assert profile.own["trio/_core/_run.py", "unrolled_run"] == 15
    assert profile.own["<frozen runpy>", "Context.run"] == 5
    assert profile.cumulative["gateway/forward/tree.py", "forward"] == 80
    assert profile.cumulative["trio/_core/_run.py", "unrolled_run"] == 95


def test_steps_are_ours_and_not_those_that_are_always_under_way() -> None:
    assert steps(parse(RAW)) == [
        (("gateway/forward/tree.py", "forward"), 80),
        (("gateway/forward/tree.py", "write"), 60),
    ]


def test_tables_share_the_cost_of_a_request_out() -> None:
    text = told(replace(parse(RAW), cost=200.0, where="Here."), 1)
    assert text.startswith("Here. 200 µs per request, 100 samples.\n")
    assert "| forward: the exchange | 160.0 | 80.0% | the steps themselves" in text
    assert "| trio: tasks, scopes, deadlines | 30.0 | 15.0% |" in text
    assert "| `write` in gateway/forward/tree.py | 120.0 | 60.0% |" in text
    assert "| `forward` in gateway/forward/tree.py | 160.0 | 80.0% |" in text
    assert "unrolled_run" not in text  # it is the second by its own time


def test_no_samples_are_told() -> None:
    assert told(parse(""), 1) == "No samples."


def test_without_a_profiler_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    stage = Stage(None, tmp_path, print)  # type: ignore[arg-type] # it is not asked for anything
    with pytest.raises(NoProfileError, match="group bench"):
        run(stage, Workload(key="get", title="GET", connections=1), tmp_path, print)
