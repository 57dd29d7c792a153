"""CPU time, as Linux tells it in /proc.

User and system time of a process are good to a clock tick, 10 ms on most machines: 1 % of a second's measurement.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """What of /proc/<pid>/stat is wanted here."""

    session: int
    ticks: int
    """User and system time, in clock ticks."""


def parse_stat(line: str) -> ProcessStat:
    """Read one /proc/<pid>/stat. The second field may hold anything, blanks and parentheses too: see proc(5)."""
    fields = line.rpartition(")")[2].split()
    return ProcessStat(session=int(fields[3]), ticks=int(fields[11]) + int(fields[12]))


def parse_busy(text: str) -> float:
    """Seconds that all cores together were busy, from /proc/stat: its first line without idle and iowait."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_guest = map(int, text.partition("\n")[0].split()[1:])
    return (user + nice + system + irq + softirq + steal) / TICKS


def cpu_seconds(sessions: Iterable[int], proc: Path = PROC) -> float:
    """User and system time of all living processes of these sessions.

    A session and not a tree of processes: a worker stays in it whose parent has gone.
    """
    wanted = set(sessions)
    ticks = 0
    for path in proc.glob("[0-9]*/stat"):
        try:
            stat = parse_stat(path.read_text(encoding="utf-8", errors="replace"))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if stat.session in wanted:
            ticks += stat.ticks
    return ticks / TICKS


def busy_seconds() -> float:
    """Seconds that all cores together have been busy since the machine started."""
    return parse_busy((PROC / "stat").read_text(encoding="ascii"))
