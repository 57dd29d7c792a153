"""Two states of the gateway, side by side, to see whether a change has made it cheaper.

    python -m benchmarks ab --base REV                  REV and the working tree, small GET at 32 connections
    python -m benchmarks ab --base REV --work h2        over HTTP/2
    python -m benchmarks ab --base REV --head REV       two revisions
    python -m benchmarks ab --base REV --instructions   counted, not timed: what else goes on does not matter

Both run at the same time on the same core, and are asked in turn, a second each; which one goes first changes with
each round. So what else the machine does hits both alike, and the ratio within a round is what counts. What never
lives here: a figure worth publishing; these come from the whole run.
"""

import io
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.report import table
from benchmarks.run import Results
from benchmarks.subjects import ROOT, Stage, Subject
from benchmarks.workloads import WORKLOADS, Sample, Workload

WORK = {"get": "get-32", "get1": "get-1", "get100": "get-100", "get1000": "get-1000", "post": "post-32", "h2": "h2-80"}
"""Short names of the workloads, for those who type them all day."""

BASE, HEAD = "base", "head"


class NoSuchRevisionError(Exception):
    """Git has no such revision, or no gateway in it. ``str(error)`` is what it says."""


@dataclass(frozen=True, slots=True)
class State:
    """One state of the gateway."""

    title: str
    root: Path
    """Where its package is."""


WORKING_TREE = State("working tree", ROOT)


def workload(name: str) -> Workload:
    """The workload of a short name."""
    return next(each for each in WORKLOADS if each.key == WORK[name])


def check_out(revision: str, scratch: Path, *, repository: Path = ROOT) -> State:
    """Put the gateway of a revision into a folder of its own. Raises NoSuchRevisionError.

    An archive and not a worktree: git is told nothing of it, so nothing is left behind when we are killed.
    """
    short = _git(repository, "rev-parse", "--short", "--verify", f"{revision}^{{commit}}").decode().strip()
    with tarfile.open(fileobj=io.BytesIO(_git(repository, "archive", short, "gateway"))) as archive:
        archive.extractall(scratch / short, filter="data")
    return State(short, scratch / short)


def both(states: Sequence[State], stage: Stage, under: Callable[[str], Sequence[str]] | None = None) -> list[Subject]:
    """Start the backend, and the gateways of these states before it. Raises DidNotStartError.

    ``under`` gives what to put before the command of a gateway, by its key.
    """
    origin = stage.backend().origin
    return [
        stage.gateway(origin, root=state.root, key=key, title=state.title, under=under(key) if under else ())
        for key, state in zip((BASE, HEAD), states, strict=True)
    ]


def comparison(results: Results) -> str:
    """A table: both, and the ratios within the rounds; then how much else went on, and what failed."""
    rows: list[list[str]] = [["", "", "CPU µs/request (range)", "requests/s (range)", "p50 ms", "p99 ms", "errors"]]
    for each in results.workloads:
        sides = [results.of(each, subject) for subject in results.subjects]
        for subject, samples in zip(results.subjects, sides, strict=True):
            rows.append([each.title, subject.title, *_cells(list(samples.values()))])
        rows.append(["", "ratio", _ratio(sides, cost, ".3f"), _ratio(sides, rate, ".3f"), "", "", ""])
    told = f"{max((len(each) for each in results.samples.values()), default=0)} rounds. "
    told += f"Other processes used {results.others:.0%} of the machine meanwhile."
    return "\n".join([table(rows), "", told, *(f"- {failure}" for failure in results.failures)])


def spread(values: Sequence[float], form: str) -> str:
    """The median, and behind it the middle half of the values (nearest ranks); empty where there are none."""
    if not values:
        return ""
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 4], ordered[-1 - len(ordered) // 4]
    return f"{median(ordered):{form}} ({low:{form}}-{high:{form}})"


def cost(sample: Sample) -> float:
    """CPU time per request, in microseconds."""
    return sample.cpu_per_request


def rate(sample: Sample) -> float:
    """Requests per second."""
    return sample.rate


def _ratio(sides: Sequence[dict[int, Sample]], value: Callable[[Sample], float], form: str) -> str:
    base, head = sides
    return spread([value(head[number]) / value(base[number]) for number in base.keys() & head.keys()], form)


def _cells(samples: Sequence[Sample]) -> list[str]:
    if not samples:
        return ["", "", "", "", ""]
    return [
        spread(list(map(cost, samples)), ".1f"),
        spread(list(map(rate, samples)), ",.0f"),
        f"{median(sample.load.p50 for sample in samples) * 1e3:.2f}",
        f"{median(sample.load.p99 for sample in samples) * 1e3:.2f}",
        str(sum(sample.load.errors for sample in samples)),
    ]


def _git(repository: Path, *words: str) -> bytes:
    command = ["git", "-C", str(repository), "-c", "safe.directory=*", *words]
    done = subprocess.run(command, check=False, capture_output=True)  # noqa: S603 -- a revision is one word to git
    if done.returncode:
        raise NoSuchRevisionError(done.stderr.decode(errors="replace").strip() or f"git: {words}")
    return done.stdout
