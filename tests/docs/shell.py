"""A shell that the commands of a document are typed into, one after the other, as a reader would.

Two things are not as at home: the ports of the document are free ones here, so that no test meets another, and
``uv run`` starts what is in this environment, where the real one would look for what is to be installed first.

What never lives here: what any one document has to say.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.testing.processes import clean_environment, free_port

from .pages import Block

PATIENCE = 60.0
"""Seconds that one command may take."""

UV = f"""#!/bin/sh
[ "$1" = run ] || exit 99
shift
PATH={Path(sys.executable).parent}:$PATH exec "$@"
"""
OVER = "that was it: "


class Shell:
    """bash in ``folder``, with variables that last, and jobs."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        tools = folder / ".tools"
        tools.mkdir()
        (tools / "uv").write_text(UV)
        (tools / "uv").chmod(0o755)
        self._ports = {str(port): str(free_port()) for port in ports}
        path = f"{tools}:{os.environ.get('PATH', os.defpath)}"
        told: Mapping[str, str] = {"GATEWAY_HOST": "127.0.0.1", "GATEWAY_PORT": self._ports.get("8000", "8000")}
        self._err = folder / ".stderr"
        with self._err.open("w") as err:
            self.process = subprocess.Popen(
                ["bash", "--norc"],  # noqa: S607 - wherever it is
                cwd=folder,
                env=clean_environment(PATH=path, **told),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                start_new_session=True,
            )

    def type(self, command: str) -> str:
        """Run it and give what it prints, in the document's ports. Raises AssertionError where it fails."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{exchanged(command, self._ports)}\nended=$?; echo; echo '{OVER}'$ended\n")
        self.process.stdin.flush()
        watchdog = threading.Timer(PATIENCE, self.kill)
        watchdog.start()
        lines: list[str] = []
        for line in self.process.stdout:
            if line.startswith(OVER):
                break
            lines.append(line)
        watchdog.cancel()
        said = "".join(lines)
        assert self.process.poll() is None, f"{command}: not over in {PATIENCE} s: {said}{self._err.read_text()}"
        assert line == f"{OVER}0\n", f"{command}: {said}{self._err.read_text()}"
        return exchanged(said, {ours: theirs for theirs, ours in self._ports.items()}).strip("\n")

    def kill(self) -> None:
        """End it, and whatever it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


@contextmanager
def shell(folder: Path, ports: Sequence[int] = ()) -> Iterator[Shell]:
    """A shell, and nothing left of it at the end."""
    it = Shell(folder, ports)
    try:
        yield it
    finally:
        it.kill()
        it.process.communicate()


def exchanged(text: str, words: Mapping[str, str]) -> str:
    return re.sub(rf"\b({'|'.join(words)})\b", lambda found: words[found[0]], text) if words else text


def steps(block: Block) -> Iterator[tuple[str, str | None]]:
    """Each command of a block with what it prints: None where the document does not tell."""
    if block.language == "bash":
        yield from ((line, None) for line in block.text.splitlines() if line)
    else:
        for step in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, said = step.partition("\n")
            yield command, said.strip("\n")


def play(it: Shell, played: Sequence[Block]) -> None:
    """Type every command, and compare what it prints where the document tells."""
    for block in played:
        for command, told in steps(block):
            said = it.type(command)
            assert told is None or steady(said) == steady(told), f"{command}: it says {said!r}"


def steady(text: str) -> str:
    """``text`` without what differs from run to run: ids, times, durations, and lengths that follow from them."""
    text = re.sub(r"\b[0-9a-f]{32}\b", "ID", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME", text)
    text = re.sub(r'("bytes_out":)\d+', r"\1N", text)
    return re.sub(r"(?<![\d.])\d+\.\d+(?![\d.])|\b\d+(?= ms\b)", "N", text)
