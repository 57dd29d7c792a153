import os
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.procfs import (
    TICKS,
    busy_seconds,
    cpu_seconds,
    forget_peaks,
    members,
    parse_busy,
    parse_stat,
    parse_status,
    process_seconds,
    resident,
)


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


@pytest.mark.parametrize(("field", "size"), [("VmRSS", 12_288), ("VmHWM", 20_480), ("VmSwap", 0)])
def test_size_is_read_from_the_line_of_its_field(field: str, size: int) -> None:
    text = "Name:\tVmRSS: 1\nVmSize:\t  900 kB\nVmHWM:\t   20 kB\nVmRSS:\t   12 kB\n"
    assert parse_status(text, field) == size


def test_memory_of_all_processes_of_a_session_is_summed(tmp_path: Path) -> None:
    for pid, session in ((10, 7), (11, 7), (12, 8)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(stat("x", pid, session))
        (tmp_path / str(pid) / "status").write_text(f"VmRSS: {pid} kB\n")
    assert resident([7], proc=tmp_path) == 21 * 1024
    forget_peaks([7], tmp_path)
    assert [(tmp_path / str(pid) / "clear_refs").exists() for pid in (10, 11, 12)] == [True, True, False]


def test_peak_is_forgotten_and_then_seen_again() -> None:
    session = os.getsid(0)
    held = bytearray(64 << 20)
    assert resident([session]) > len(held)
    del held
    forget_peaks([session])
    before = resident([session], "VmHWM")
    held = bytearray(64 << 20)
    assert resident([session], "VmHWM") - before > 60 << 20
    del held


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
