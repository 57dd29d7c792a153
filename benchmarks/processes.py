"""Processes that are measured: started on a core of their own, known by their session, gone at the end.

Each is the leader of a session: its workers are found and stopped with it, and a Ctrl-C in the terminal reaches us
alone, who then stop them in order.
"""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STOP_SECONDS = 3.0
START_SECONDS = 120.0
"""Enough for a gateway under valgrind, on a machine that does other things too."""

SUBJECT_CORE, LOAD_CORE = 0, 1
"""What is measured has a core to itself; the load and the backend share the other."""


class DidNotStartError(Exception):
    """A process ended, or never answered. ``str(error)`` has the end of what it said."""


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """The command on one core, where there are several and taskset is there; else as it is."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) <= max(SUBJECT_CORE, LOAD_CORE) or shutil.which("taskset") is None:
        return list(command)
    return ["taskset", "--cpu-list", str(cores[core]), *command]


def free_port() -> int:
    """A port that nobody listens on. Somebody may before we do; then what is started says so."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Command:
    """What is to be started, and where."""

    name: str
    words: Sequence[str]
    url: str
    """Answered with 200 once it has started."""
    core: int
    env: Mapping[str, str]


@contextmanager
def running(command: Command, scratch: Path, stdout: int = subprocess.DEVNULL) -> Iterator[int]:
    """Run the command until the block ends; gives its session, once its URL is answered.

    Its standard output, the log, goes to the descriptor ``stdout``, or nowhere. Raises DidNotStartError.
    """
    told = scratch / f"{command.name}.stderr"
    with told.open("wb") as stderr:
        process = subprocess.Popen(  # noqa: S603 -- the commands are our own
            pinned(command.core, command.words),
            cwd=scratch,
            env=dict(command.env),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + START_SECONDS
        while not answers(command.url):
            if process.poll() is not None or time.monotonic() > end:
                state = "does not answer" if process.returncode is None else f"ended with {process.returncode}"
                raise DidNotStartError(f"{command.name} {state}: {told.read_text(errors='replace')[-500:].strip()}")
            time.sleep(0.05)
        yield process.pid
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and all of its session: first asked to, then killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def answers(url: str) -> bool:
    """Whether a GET over HTTP/1.1 is answered with 200."""
    authority, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(authority, timeout=2)
    try:
        connection.request("GET", f"/{path}")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):  # the latter where somebody else took the port
        return False
    finally:
        connection.close()
