import os
import time
from pathlib import Path

import pytest

from benchmarks.procfs import TICKS, busy_seconds, cpu_seconds, parse_busy, parse_stat


def stat(name: str, session: int, user: int, system: int) -> str:
    return f"42 ({name}) S 1 7 {session} 0 -1 4194560 100 0 0 0 {user} {system} 99 99 20 0 1 0 1234 0 0\n"


@pytest.mark.parametrize("name", ["nginx", "a b", "x) S 1 7 9 (y"])
def test_stat_is_read_whatever_the_process_is_called(name: str) -> None:
    parsed = parse_stat(stat(name, 7, 11, 22))
    assert (parsed.session, parsed.ticks) == (7, 33)


def test_time_of_all_processes_of_the_sessions_is_summed(tmp_path: Path) -> None:
    for pid, session in ((1, 1), (10, 7), (11, 7), (12, 8), (13, 9)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(stat("x", session, TICKS, TICKS))
    (tmp_path / "99").mkdir()  # ended: its stat is gone
    assert cpu_seconds([7], tmp_path) == 4
    assert cpu_seconds([7, 8], tmp_path) == 6
    assert cpu_seconds([6], tmp_path) == 0


def test_busy_time_leaves_out_idle_iowait_and_what_is_counted_twice_for_guests() -> None:
    values = [TICKS * n for n in (1, 2, 3, 1000, 1000, 4, 5, 6, 1, 2)]
    assert parse_busy(f"cpu  {' '.join(map(str, values))}\ncpu0 1 1 1 1 1 1 1 1 1 1\n") == 21


def test_own_time_moves_when_time_is_spent() -> None:
    session = os.getsid(0)
    before, busy = cpu_seconds([session]), busy_seconds()
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    assert cpu_seconds([session]) - before >= 0.08
    assert busy_seconds() - busy >= 0.05
