"""CPU time and memory, as Linux tells it.

User and system time of a process come from its CPU-time clock (clock_getcpuclockid(3)), in nanoseconds.
/proc/<pid>/stat would have them to a clock tick, 10 ms: as much as a change of one per cent makes in a second.
"""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """What of /proc/<pid>/stat is wanted here."""

    pid: int
    session: int


def parse_stat(line: str) -> ProcessStat:
    """Read one /proc/<pid>/stat. The second field may hold anything, blanks and parentheses too: see proc(5)."""
    return ProcessStat(pid=int(line.partition(" ")[0]), session=int(line.rpartition(")")[2].split()[3]))


def parse_busy(text: str) -> float:
    """Seconds that all cores together were busy, from /proc/stat: its first line without idle and iowait."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_guest = map(int, text.partition("\n")[0].split()[1:])
    return (user + nice + system + irq + softirq + steal) / TICKS


def members(sessions: Iterable[int], proc: Path = PROC) -> list[int]:
    """Give the living processes of these sessions.

    A session and not a tree of processes: a worker stays in it whose parent has gone.
    """
    wanted = set(sessions)
    found = []
    for path in proc.glob("[0-9]*/stat"):
        try:
            stat = parse_stat(path.read_text(encoding="utf-8", errors="replace"))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if stat.session in wanted:
            found.append(stat.pid)
    return sorted(found)


def cpu_seconds(sessions: Iterable[int]) -> float:
    """User and system time of all living processes of these sessions, their threads that have ended included."""
    return sum(map(process_seconds, members(sessions)))


def process_seconds(pid: int) -> float:
    """User and system time of a process; 0 for one that has gone."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) makes of it on Linux
    except OSError:
        return 0.0


def resident(sessions: Iterable[int], field: str = "VmRSS", proc: Path = PROC) -> int:
    """Bytes that all processes of these sessions have in memory; with ``VmHWM``, the most that each has had.

    What several of them share, such as their code, counts for each.
    """
    total = 0
    for pid in members(sessions, proc):
        try:
            total += parse_status((proc / str(pid) / "status").read_text(encoding="utf-8", errors="replace"), field)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
    return total


def parse_status(text: str, field: str) -> int:
    """Read a size in bytes from /proc/<pid>/status; 0 where there is none, as for a process that is a zombie."""
    line = next((line for line in text.splitlines() if line.startswith(f"{field}:")), f"{field}: 0 kB")
    return int(line.split()[1]) * 1024


def forget_peaks(sessions: Iterable[int], proc: Path = PROC) -> None:
    """Let the most memory that they have had be what they have now: see clear_refs in proc(5)."""
    for pid in members(sessions, proc):
        with suppress(OSError):  # it ended while we looked
            (proc / str(pid) / "clear_refs").write_text("5", encoding="ascii")


def busy_seconds() -> float:
    """Seconds that all cores together have been busy since the machine started."""
    return parse_busy((PROC / "stat").read_text(encoding="ascii"))
