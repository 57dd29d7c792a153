"""The run: every workload on every subject, round after round, each for about a second."""

import os
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from benchmarks import loads
from benchmarks.loads import NoLoadError
from benchmarks.processes import LOAD_CORE, answers, pinned
from benchmarks.procfs import busy_seconds, cpu_seconds, forget_peaks, resident
from benchmarks.subjects import Subject
from benchmarks.workloads import PATH, Idle, Load, Memory, Sample, Workload

FIRST_GUESS = 500
"""Requests to warm a subject up with, and to learn how many h2load can send in a second."""
PATIENCE = 20.0
"""Seconds of real time after which a load generator is killed."""


@dataclass
class Results:
    """All that was measured, by workload, subject and round."""

    workloads: Sequence[Workload]
    subjects: Sequence[Subject]
    samples: dict[tuple[str, str], dict[int, Sample]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    idle: Idle | None = None
    others: float = 0.0
    """The part of the machine that other processes used meanwhile, 0 to 1."""

    def of(self, workload: Workload | str, subject: Subject | str) -> dict[int, Sample]:
        """The samples by round."""
        work, key = (each if isinstance(each, str) else each.key for each in (workload, subject))
        return self.samples.get((work, key), {})


class Runner:
    """Measures; ``say`` is told how it goes on."""

    def __init__(
        self, subjects: Sequence[Subject], workloads: Sequence[Workload], scratch: Path, say: Callable[[str], None]
    ) -> None:
        self.results = Results(workloads, subjects)
        self._scratch = scratch
        self._say = say
        self._dead: set[str] = set()
        self._warm: set[str] = set()
        self._rates: dict[tuple[str, str], float] = {}
        """By subject and workload, as far as h2load must know them."""

    def run(self, rounds: int) -> Results:
        """Warm up, then measure. What fails is told and left out."""
        for subject in self.results.subjects:
            for workload in self.results.workloads:
                self._warm_up(subject, workload)
        ours, busy, start = self._ours(), busy_seconds(), time.monotonic()
        for number in range(rounds):
            for workload in self.results.workloads:
                for subject in rotated(self.results.subjects, number):
                    self._measure(number, rounds, workload, subject)
        others = (busy_seconds() - busy) - (self._ours() - ours)
        self.results.others = max(0.0, others) / (time.monotonic() - start) / (os.cpu_count() or 1)
        return self.results

    def _warm_up(self, subject: Subject, workload: Workload) -> None:
        """The first second of a process is not like those that follow: it compiles, specialises and connects."""
        url = subject.asked(workload)
        if url is None:
            return
        if loads.installed(workload) == "h2load":
            self._try(subject, workload, lambda: self._h2load(workload, url, FIRST_GUESS))
        elif loads.installed(workload) == "wrk" and subject.key not in self._warm:
            self._try(subject, workload, lambda: self._wrk(workload, url))
            self._warm.add(subject.key)

    def _measure(self, number: int, rounds: int, workload: Workload, subject: Subject) -> None:
        url = subject.asked(workload)
        generator = loads.installed(workload)
        if url is None or generator is None or subject.key in self._dead:
            return
        forget_peaks([subject.session])
        memory, before = resident([subject.session]), cpu_seconds([subject.session])
        if generator == "wrk":
            load = self._try(subject, workload, lambda: self._wrk(workload, url))
        else:
            requests = self._requests(workload, subject)
            load = self._try(subject, workload, lambda: self._h2load(workload, url, requests))
        if load is None:
            return
        cpu = cpu_seconds([subject.session]) - before
        sample = Sample(load, cpu, Memory(memory, resident([subject.session], "VmHWM")))
        self.results.samples.setdefault((workload.key, subject.key), {})[number] = sample
        self._say(
            f"round {number + 1}/{rounds}  {workload.title:<45} {subject.title:<24}"
            f" {sample.rate:>7.0f}/s {sample.cpu_per_request:>5.0f} us"
            + (f"  {load.errors} ERRORS" if load.errors else "")
        )

    def _requests(self, workload: Workload, subject: Subject) -> int:
        """As many as h2load can send in a second, and as the subject takes."""
        rate = self._rates.get((subject.key, workload.key), FIRST_GUESS)
        most = subject.per_connection * workload.connections * 0.9 if workload.http2 else inf
        return int(min(max(FIRST_GUESS, rate), most))

    def _try(self, subject: Subject, workload: Workload, load: Callable[[], Load]) -> Load | None:
        try:
            done = load()
        except (NoLoadError, subprocess.TimeoutExpired) as error:
            failure = f"{workload.title}: {subject.title} failed: {error}"
            self.results.failures.append(failure)
            self._say(failure)
            if not answers(subject.url + PATH):
                self._dead.add(subject.key)
            return None
        self._rates[subject.key, workload.key] = done.requests / done.seconds
        return done

    def _wrk(self, workload: Workload, url: str) -> Load:
        return loads.parse_wrk(_output(loads.wrk_command(workload, url, scratch=self._scratch)))

    def _h2load(self, workload: Workload, url: str, requests: int) -> Load:
        log = self._scratch / "h2load.log"
        log.unlink(missing_ok=True)
        output = _output(loads.h2load_command(workload, url, requests=requests, log=log, scratch=self._scratch))
        return loads.parse_h2load(output, log.read_text(encoding="ascii") if log.exists() else "")

    def _ours(self) -> float:
        """CPU seconds of all subjects, of the load generators so far, and of ourselves."""
        usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        own = sum(usage.ru_utime + usage.ru_stime for usage in usages)
        return own + cpu_seconds(subject.session for subject in self.results.subjects)


def rotated(subjects: Sequence[Subject], number: int) -> list[Subject]:
    """Begin with another one in each round, so that none is always the first or always behind the same one."""
    start = number % len(subjects)
    return [*subjects[start:], *subjects[:start]]


def _output(command: list[str]) -> str:
    done = subprocess.run(  # noqa: S603 -- the commands are our own
        pinned(LOAD_CORE, command), check=False, capture_output=True, text=True, timeout=PATIENCE
    )
    return done.stdout + done.stderr
