import os
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.procfs import TICKS, busy_seconds, cpu_seconds, members, parse_busy, parse_stat, process_seconds


def stat(name: str, pid: int, session: int) -> str:
    return f"{pid} ({name}) S 1 7 {session} 0 -1 4194560 100 0 0 0 11 22 99 99 20 0 1 0 1234 0 0\n"


@pytest.mark.parametrize("name", ["nginx", "a b", "x) S 1 7 9 (y"])
def test_stat_is_read_whatever_the_process_is_called(name: str) -> None:
    parsed = parse_stat(stat(name, 42, 7))
    assert (parsed.pid, parsed.session) == (42, 7)


def test_members_of_the_sessions_are_found_wherever_their_parents_are(tmp_path: Path) -> None:
    for pid, session in ((1, 1), (10, 7), (11, 7), (12, 8), (13, 9)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(stat("x", pid, session))
    (tmp_path / "99").mkdir()  # ended: its stat is gone
    assert members([7], tmp_path) == [10, 11]
    assert members([7, 8], tmp_path) == [10, 11, 12]
    assert members([6], tmp_path) == []


def test_process_that_has_gone_has_used_nothing() -> None:
    child = subprocess.Popen(["true"])  # noqa: S607 -- the one on the path
    child.wait()
    assert process_seconds(child.pid) == 0.0


def test_busy_time_leaves_out_idle_iowait_and_what_is_counted_twice_for_guests() -> None:
    values = [TICKS * n for n in (1, 2, 3, 1000, 1000, 4, 5, 6, 1, 2)]
    assert parse_busy(f"cpu  {' '.join(map(str, values))}\ncpu0 1 1 1 1 1 1 1 1 1 1\n") == 21


def test_own_time_moves_when_time_is_spent() -> None:
    session = os.getsid(0)
    before, busy = cpu_seconds([session]), busy_seconds()
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    assert cpu_seconds([session]) - before >= 0.099
    assert busy_seconds() - busy >= 0.05
