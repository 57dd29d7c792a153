"""Where the gateway's time goes: py-spy's samples, told as microseconds per request.

    python -m benchmarks profile                  small GET at 32 connections
    python -m benchmarks profile --work h2

The CPU time per request is measured first, without the profiler; the samples then tell how it is shared out. A sample
counts for the innermost Python frame: what C code does, system calls above all, counts for the function that called it.
What never lives here: what each part is for; see ``parts``.
"""

import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.parts import PARTS, part_of
from benchmarks.processes import LOAD_CORE, pinned
from benchmarks.report import conditions, table
from benchmarks.run import Runner
from benchmarks.subjects import Stage
from benchmarks.workloads import Workload

RATE = 500
"""Samples per second."""
WAITING = frozenset({"Condition.wait"})
"""Functions that only wait, though py-spy takes them for busy: a thread of ours that has nothing to write."""

MAIN = 0.9
"""What is under way for a larger part of the samples than this is no step of a request, but what runs them all."""

FRAME = re.compile(r"(?P<function>.+) \((?P<file>.+?)(?::\d+)?\)")

Frame = tuple[str, str]
"""File and function."""


class NoProfileError(Exception):
    """There is no profiler, or it failed. ``str(error)`` is one line."""


@dataclass
class Profile:
    """Samples, by innermost frame and by every frame that was under way."""

    cost: float = 0.0
    """Microseconds per request, measured without the profiler."""
    where: str = ""
    """What was asked, on which machine, beside how much else."""
    samples: int = 0
    own: Counter[Frame] = field(default_factory=Counter)
    cumulative: Counter[Frame] = field(default_factory=Counter)


def parse(text: str) -> Profile:
    """Read py-spy's raw format: frames from the outermost on, by semicolons, and behind a blank how often."""
    profile = Profile()
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [(match["file"], match["function"]) for match in map(FRAME.fullmatch, stack.split(";")) if match]
        if not frames or frames[-1][1] in WAITING:
            continue
        profile.samples += int(count)
        profile.own[frames[-1]] += int(count)
        for frame in set(frames):  # a function that calls itself is under way once
            profile.cumulative[frame] += int(count)
    return profile


def told(profile: Profile, top: int) -> str:
    """Three tables: by part, by function, by step."""
    if not profile.samples:
        return "No samples."
    parts: Counter[str] = Counter()
    for frame, count in profile.own.items():
        parts[part_of(*frame)] += count
    reasons = {part.title: part.reason for part in PARTS}
    by_part = [["part", "µs/request", "share", "why it stays"]]
    by_part += [[*cells(title, count, profile), reasons[title]] for title, count in parts.most_common()]
    return "\n\n".join(
        [
            f"{profile.where} {profile.cost:.0f} µs per request, {profile.samples:,} samples.",
            "**By part**: own time, all of it",
            table(by_part, words_last=True),
            f"**By function**: own time, the first {top}",
            table(rows(profile.own.most_common(top), profile)),
            f"**By step**: with all that it calls, the first {top} of ours",
            table(rows(steps(profile)[:top], profile)),
        ]
    )


def steps(profile: Profile) -> list[tuple[Frame, int]]:
    """Our functions by cumulative time, without those that are always under way, such as ``main``."""
    return [
        (frame, count)
        for frame, count in profile.cumulative.most_common()
        if frame[0].startswith("gateway/") and count < MAIN * profile.samples
    ]


def rows(counted: Sequence[tuple[Frame, int]], profile: Profile) -> list[list[str]]:
    """As a table has them."""
    return [["function", "µs/request", "share"]] + [
        cells(f"`{function}` in {file}", count, profile) for (file, function), count in counted
    ]


def cells(title: str, count: int, profile: Profile) -> list[str]:
    """The share of the samples, and what of the cost it is."""
    share = count / profile.samples
    return [title, f"{share * profile.cost:.1f}", f"{share:.1%}"]


def run(stage: Stage, workload: Workload, scratch: Path, say: Callable[[str], None], *, seconds: int = 8) -> Profile:
    """Start a gateway, measure it, profile it. Raises NoProfileError, and DidNotStartError as ``Stage`` does."""
    profiler = Path(sys.executable).parent / "py-spy"
    if not profiler.exists():
        raise NoProfileError("py-spy is not installed: uv sync --inexact --group bench")
    subject = stage.gateway(stage.backend().origin)
    results = Runner([subject], [workload], scratch, say).run(3)
    samples = results.of(workload, subject).values()
    if not samples:
        raise NoProfileError("; ".join(results.failures) or "no load generator is installed")
    load = threading.Thread(target=Runner([subject], [workload], scratch, say).run, args=(seconds + 1,))
    load.start()
    try:
        text = _record(profiler, subject.session, seconds, scratch / "profile.txt")
    finally:
        load.join()
    profile = parse(text)
    profile.cost = median(sample.cpu_per_request for sample in samples)
    profile.where = f"{workload.title}. {conditions(results)}"
    return profile


def _record(profiler: Path, pid: int, seconds: int, output: Path) -> str:
    words = [str(profiler), "record", "--pid", str(pid), "--rate", str(RATE), "--duration", str(seconds)]
    words += ["--format", "raw", "--threads", "--output", str(output)]
    done = subprocess.run(  # noqa: S603 -- the command is our own
        pinned(LOAD_CORE, words), check=False, capture_output=True, text=True, timeout=seconds + 60
    )
    if done.returncode or not output.exists():
        raise NoProfileError(f"py-spy: {(done.stderr.strip().splitlines() or ['no samples'])[-1]}")
    return output.read_text(encoding="utf-8")
