from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.instructions import REQUESTS, NotCountedError, comparison, counted, total, under
from benchmarks.subjects import Subject
from benchmarks.workloads import Workload

GET = Workload(key="get", title="GET", connections=2)
H2 = Workload(key="h2", title="HTTP/2", connections=2, streams=2)

# As h2load does: a line of the log for each request, and the sum in the output.
H2LOAD = """#!/bin/sh
for word; do case $word in --requests=*) count=${{word#*=}};; --log-file=*) log=${{word#*=}};; esac; done
number=0
while [ $number -lt $count ]; do number=$((number + 1)); printf '1\\t{status}\\t7\\n' >> "$log"; done
echo "finished in 1.00s, 1 req/s"
echo "requests: $count total"
"""
CONTROL = """#!/bin/sh
echo "$1 $2" >> {folder}/calls
if [ "$1" = --dump ]; then echo 'summary: 9' > {folder}/counts.1; echo 'totals: {total}' >> {folder}/counts.1; fi
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    return folder


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def subject(key: str = "base", url2: str | None = "http://x/") -> Subject:
    return Subject(key, key, 42, "http://x/", url2)


@pytest.mark.parametrize(("text", "count"), [("events: Ir\ntotals: 123\n", 123), ("summary: 7\n", 0), ("", 0)])
def test_total_is_that_of_the_file_or_none(text: str, count: int) -> None:
    assert total(text) == count


def test_requests_are_counted_between_on_and_off_and_the_warm_up_is_not(tools: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    assert under(folder)[-1] == f"--callgrind-out-file={folder}/counts"
    program(tools / "h2load", H2LOAD.format(status=200))
    program(tools / "callgrind_control", CONTROL.format(folder=folder, total=5000 * REQUESTS))
    assert counted(subject(), GET, folder) == 5000
    assert (folder / "calls").read_text() == "--instr=on 42\n--instr=off 42\n--dump 42\n"


def test_comparison_has_both_and_their_ratio(tools: Path, tmp_path: Path) -> None:
    sides = [replace(subject("base"), session=4000), replace(subject("head"), session=3000)]
    program(tools / "h2load", H2LOAD.format(status=200))
    dump = f"echo totals: $(($2 * {REQUESTS})) > {tmp_path}/$([ $2 = 4000 ] && echo base || echo head)/counts.1"
    program(tools / "callgrind_control", f'#!/bin/sh\nif [ "$1" = --dump ]; then {dump}; fi\n')
    for side in sides:
        under(tmp_path / side.key)
    text = comparison(sides, [GET], tmp_path, lambda _words: None)
    assert text.splitlines()[0] == "| instructions per request | base | head | ratio |"
    assert text.splitlines()[2] == "| GET | 4,000 | 3,000 | 0.750 |"


def test_answers_that_are_bad_are_not_counted(tools: Path, tmp_path: Path) -> None:
    program(tools / "h2load", H2LOAD.format(status=503))
    with pytest.raises(NotCountedError, match="GET: base"):
        counted(subject(), GET, tmp_path)


def test_without_the_tools_or_the_protocol_nothing_is_counted(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(NotCountedError, match="h2load"):
        counted(subject(), GET, tmp_path)
    with pytest.raises(NotCountedError, match="base is not for HTTP/2"):
        counted(subject(url2=None), H2, tmp_path)
