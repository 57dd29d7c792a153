"""Instructions per request, counted by valgrind's callgrind: a figure that no other process on the machine can move.

The gateway runs some forty times slower meanwhile. It counts what the process does in user space; what its system
calls cost inside the kernel, and what a miss of the cache costs, it does not see: small steps are steered by it, and
the claim is made from CPU time. What never lives here: the measurement of time.
"""

import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.loads import NoLoadError, h2load_command, parse_h2load
from benchmarks.report import table
from benchmarks.subjects import Subject
from benchmarks.workloads import Workload

UNDER = ("valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no")
"""Put before a command. What comes before ``counted`` is not counted, and so goes on only some five times slower."""
WARM_UP = 400
REQUESTS = 1000
EACH = 5
"""Requests for each connection at least: else it would be the opening of connections that is counted."""
PATIENCE = 300.0
"""Seconds of real time after which a load generator is killed."""


class NotCountedError(Exception):
    """Nothing was counted. ``str(error)`` is one line."""


def under(folder: Path) -> list[str]:
    """The words to put before a command that is to be counted; ``folder`` takes callgrind's files."""
    folder.mkdir()
    return [*UNDER, f"--callgrind-out-file={folder}/counts"]


def counted(subject: Subject, workload: Workload, folder: Path) -> float:
    """Send requests to what runs ``under(folder)``, and give the instructions of each. Raises NotCountedError."""
    requests = max(REQUESTS, EACH * workload.connections)
    _load(subject, workload, max(WARM_UP, workload.connections), folder)
    _control(subject, "--instr=on")
    _load(subject, workload, requests, folder)
    _control(subject, "--instr=off")
    before = set(folder.glob("counts.*"))
    _control(subject, "--dump")
    written = set(folder.glob("counts.*")) - before
    return (
        max(map(total, (path.read_text(encoding="ascii", errors="replace") for path in written)), default=0) / requests
    )


def total(text: str) -> int:
    """The sum in a file of callgrind's; 0 where there is none."""
    found = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def comparison(
    subjects: Sequence[Subject], workloads: Sequence[Workload], scratch: Path, say: Callable[[str], None]
) -> str:
    """Count all workloads on both, one after the other, and give a table. Raises NotCountedError."""
    rows = [["instructions per request", *(subject.title for subject in subjects), "ratio"]]
    for workload in workloads:
        counts = []
        for subject in subjects:
            counts.append(counted(subject, workload, scratch / subject.key))
            say(f"{workload.title:<45} {subject.title:<24} {counts[-1]:>12,.0f} instructions")
        base, head = counts
        rows.append([workload.title, *(f"{count:,.0f}" for count in counts), f"{head / base:.3f}"])
    return table(rows)


def _load(subject: Subject, workload: Workload, requests: int, scratch: Path) -> None:
    log = scratch / "h2load.log"
    log.unlink(missing_ok=True)
    url = subject.asked(workload)
    if url is None:
        raise NotCountedError(f"{subject.title} is not for {workload.title}")
    output = _said(h2load_command(workload, url, requests=requests, log=log, scratch=scratch))
    try:
        load = parse_h2load(output, log.read_text(encoding="ascii") if log.exists() else "")
    except NoLoadError as error:
        raise NotCountedError(f"{workload.title}: {subject.title}: {error}") from error
    if load.requests != requests:
        raise NotCountedError(f"{workload.title}: {subject.title}: {requests - load.requests} requests failed")


def _control(subject: Subject, word: str) -> None:
    _said(["callgrind_control", word, str(subject.session)])


def _said(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 -- the commands are our own
            command, check=False, capture_output=True, text=True, timeout=PATIENCE
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise NotCountedError(f"{command[0]}: {error}") from error
    return done.stdout + done.stderr
