from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks import loads
from benchmarks.run import Runner, rotated
from benchmarks.subjects import Stage, Subject
from benchmarks.workloads import Workload

GET = Workload(key="get", title="GET", connections=2)
H2 = Workload(key="h2", title="HTTP/2", connections=2, streams=2)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PATH: what is to be found there, a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def backend(tools: Path, tmp_path: Path) -> Iterator[Subject]:
    with ExitStack() as stack:
        yield Stage(stack, tmp_path, print).backend()


def wrk(tools: Path, *lines: str) -> None:
    script = tools / "wrk"
    script.write_text("\n".join(["#!/bin/sh", *(f"echo '{line}'" for line in lines)]))
    script.chmod(0o755)


def test_each_round_begins_with_another_subject() -> None:
    subjects = [Subject(key, key, 1, "", None) for key in "abc"]
    assert [rotated(subjects, number)[0].key for number in range(4)] == ["a", "b", "c", "a"]
    assert set(rotated(subjects, 2)) == set(subjects)


def test_backend_without_nginx_is_measured_and_what_it_does_not_speak_is_left_out(
    backend: Subject, tools: Path, tmp_path: Path
) -> None:
    wrk(tools, "  50%  1.00ms", "  99%  2.00ms", "  500 requests in 1.00s, 1MB read")
    results = Runner([backend], [GET, H2], tmp_path, print).run(2)
    assert [sample.rate for sample in results.of(GET, backend).values()] == [500, 500]
    assert results.of(H2, backend) == {}
    assert results.failures == []
    assert 0 <= results.others <= 1


def test_failure_of_a_load_generator_is_kept_and_the_run_goes_on(backend: Subject, tools: Path, tmp_path: Path) -> None:
    wrk(tools, "unable to connect")
    results = Runner([backend], [GET], tmp_path, print).run(2)
    assert results.failures == ["GET: direct failed: wrk said: unable to connect"] * 3  # warming up, and twice
    assert results.of(GET, backend) == {}


def test_subject_that_has_died_is_not_asked_again(tools: Path, tmp_path: Path) -> None:
    wrk(tools, "unable to connect")
    dead = Subject("dead", "dead", 0, "http://127.0.0.1:1/", None)
    assert len(Runner([dead], [GET], tmp_path, print).run(3).failures) == 1


def test_without_a_load_generator_nothing_is_measured(tools: Path, tmp_path: Path) -> None:
    assert loads.installed(GET) is None
    results = Runner([Subject("x", "x", 0, "http://127.0.0.1:1/", None)], [GET], tmp_path, print).run(1)
    assert (results.samples, results.failures) == ({}, [])
