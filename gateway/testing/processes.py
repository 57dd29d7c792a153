"""The gateway as a process of its own: ``gateway serve`` with an environment, its log, its end.

    with GatewayProcess({"SERVICE1_URL": url}, folder) as gateway:
        gateway.until("the gateway is running")
        assert gateway.get("/health")[0] == 200
        assert gateway.stop() == 0

For what only a process can show: signals, exit statuses, several workers. It waits on the real clock, and for lines of
the log, never for a time to pass. What never lives here: what an app on the in-memory network shows as well.
"""

import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import IO, Any, Self

PATIENCE = 30.0
"""Seconds that anything may take; a machine with all its cores at work is slow to start a process."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def clean_environment(**variables: str) -> dict[str, str]:
    """The environment of this process without any variable of the gateway's, and then these."""
    ours = ("GATEWAY_", "SERVICE", "LISTEN_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | variables


def far_descriptor(number: int) -> int:
    """Another descriptor for the same, far from the low numbers that a child is to see it under. To be closed."""
    return fcntl.fcntl(number, fcntl.F_DUPFD, 100)


class GatewayProcess:
    """A gateway that runs as ``command``, with a free GATEWAY_PORT on 127.0.0.1 where ``variables`` has none."""

    def __init__(
        self,
        variables: Mapping[str, str],
        folder: Path,
        *,
        command: Sequence[str] = (sys.executable, "-m", "gateway", "serve"),
        **options: Any,
    ) -> None:
        variables = {"GATEWAY_HOST": "127.0.0.1", "GATEWAY_PORT": str(free_port()), **variables}
        self.port = int(variables["GATEWAY_PORT"])
        self.log: list[dict[str, Any]] = []
        """The lines of the log so far."""
        self.err = ""
        """What came on standard error."""
        self.process = subprocess.Popen(  # noqa: S603 -- a test's own command
            list(command),
            cwd=folder,
            env=clean_environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        self._news = threading.Condition()
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read_log, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.wait()

    def until(self, message: str, times: int = 1) -> list[dict[str, Any]]:
        """Wait until the log has had this message so many times; give its lines. Raises AssertionError."""
        deadline = monotonic() + PATIENCE
        with self._news:
            while len(found := self.told(message)) < times:
                left = deadline - monotonic()
                over = self.process.poll() is not None and not any(reader.is_alive() for reader in self._readers)
                if over or (not self._news.wait(min(1.0, max(left, 0))) and left <= 0):
                    raise AssertionError(f"not {times} x {message!r} in {self.log}; standard error: {self.err!r}")
        return found

    def told(self, message: str) -> list[dict[str, Any]]:
        """The lines with this message so far."""
        return [line for line in self.log if line["message"] == message]

    def get(self, path: str, *, port: int | None = None) -> tuple[int, bytes]:
        """Status and body of a GET, on a connection of its own."""
        client = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=PATIENCE)
        try:
            client.request("GET", path)
            answer = client.getresponse()
            return answer.status, answer.read()
        finally:
            client.close()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end and for the end of its log; give its exit status."""
        status = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return status

    def stop(self) -> int:
        """SIGTERM, and ``wait``."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def _read_log(self) -> None:
        for line in self._lines(self.process.stdout):
            self.log.append(json.loads(line))

    def _read_errors(self) -> None:
        for line in self._lines(self.process.stderr):
            self.err += line

    def _lines(self, stream: IO[str] | None) -> Iterator[str]:
        if stream is not None:
            with stream:
                for line in stream:
                    with self._news:
                        yield line
                        self._news.notify_all()
