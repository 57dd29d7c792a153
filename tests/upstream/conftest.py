import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic
from typing import Any

import hpack
import pytest
from hyperframe.frame import DataFrame, Frame, HeadersFrame, RstStreamFrame, SettingsFrame

ROOT = Path(__file__).parents[2]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATIENCE = 5.0
"""Seconds for what must come."""
WHILE = 0.6
"""Seconds that what must not come is waited for; on an idle machine it would take some milliseconds."""


def still(defect: bool, remedy: str) -> None:  # noqa: FBT001 -- an assertion
    """Fail where stock Hypercorn does right by now."""
    if not defect:
        pytest.fail(f"Hypercorn has mended this: drop our remedy, {remedy}, and its row in docs/hypercorn.md")


def request(path: str, *lines: str, method: str = "GET") -> bytes:
    """An HTTP/1.1 head."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", *lines, "", ""]).encode("latin-1")


def handshake(path: str, **fields: str) -> bytes:
    """A WebSocket's."""
    usual = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    given = {name.replace("_", "-"): value for name, value in fields.items()}
    lines = {**usual, "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", **given}
    return request(path, *(f"{name}: {value}" for name, value in lines.items()))


class Client:
    """One connection, and what came on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(PATIENCE)
        self.received = b""
        self.closed: str | None = None
        """``FIN`` or ``RST``, once the server has closed."""

    def send(self, *data: bytes | Frame) -> None:
        self.socket.sendall(b"".join(each if isinstance(each, bytes) else each.serialize() for each in data))

    def read(self, seconds: float) -> None:
        """Take in what comes next, if anything does within this time."""
        self.socket.settimeout(max(seconds, 0.001))
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return
        except ConnectionResetError:
            self.closed = "RST"
            return
        finally:
            self.socket.settimeout(PATIENCE)
        if not data:
            self.closed = "FIN"
        self.take(data)

    def take(self, data: bytes) -> None:
        self.received += data

    def sees(self, condition: Callable[[], object], seconds: float = WHILE) -> bool:
        """Whether this becomes true within the time."""
        end = monotonic() + seconds
        while not condition() and self.closed is None and monotonic() < end:
            self.read(end - monotonic())
        return bool(condition())

    def gets(self, mark: bytes, seconds: float = WHILE) -> bool:
        return self.sees(lambda: mark in self.received, seconds)

    def vanish(self) -> None:
        """Close by RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Http2(Client):
    """With prior knowledge. It reads frames and leaves all else to the test."""

    def __init__(self, port: int, **settings: int) -> None:
        super().__init__(port)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.frames: list[Frame] = []
        self.fields: dict[int, dict[bytes, bytes]] = {}
        self.send(PREFACE, SettingsFrame(settings={getattr(SettingsFrame, name): settings[name] for name in settings}))

    def take(self, data: bytes) -> None:
        super().take(data)
        while len(self.received) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self.received[:9]))
            if len(self.received) < 9 + length:
                return
            frame.parse_body(memoryview(self.received[9 : 9 + length]))
            self.received = self.received[9 + length :]
            self.frames.append(frame)
            if isinstance(frame, HeadersFrame):
                self.fields[frame.stream_id] = dict(self.decoder.decode(frame.data, raw=True))

    def head(
        self, stream_id: int, path: str | None = "/", *fields: tuple[str, str], end: bool = True, **pseudo: str | None
    ) -> HeadersFrame:
        """A request's. None leaves a pseudo-header out."""
        given = {"method": "GET", "scheme": "http", "path": path, "authority": "a", **pseudo}
        pairs = [*((f":{name}", value) for name, value in given.items() if value is not None), *fields]
        encoded = self.encoder.encode([(name.encode(), value.encode("latin-1")) for name, value in pairs])
        return HeadersFrame(stream_id, encoded, flags=["END_HEADERS", *(["END_STREAM"] if end else [])])

    def has(self, kind: type[Frame], stream_id: int = 0) -> bool:
        return any(isinstance(frame, kind) and frame.stream_id == stream_id for frame in self.frames)

    def ended(self, stream_id: int) -> bool:
        """Whether the answer is complete."""
        return any("END_STREAM" in frame.flags and frame.stream_id == stream_id for frame in self.frames)

    def over(self, stream_id: int) -> bool:
        """Whether the answer is complete or broken off."""
        return self.ended(stream_id) or self.has(RstStreamFrame, stream_id)

    def body(self, stream_id: int) -> bytes:
        frames = [each for each in self.frames if isinstance(each, DataFrame) and each.stream_id == stream_id]
        return b"".join(frame.data for frame in frames)

    def gets_answer(self, stream_id: int, seconds: float = PATIENCE) -> bool:
        return self.sees(lambda: self.ended(stream_id), seconds)


class Forker:
    """One process that has everything imported, and forks servers."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.upstream.forker"],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, **command: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate(timeout=PATIENCE)


class Stock:
    """A server: stock Hypercorn's trio worker, in a process of its own."""

    def __init__(self, forker: Forker, log: Path, config: dict[str, Any]) -> None:
        self._forker = forker
        self._log = log
        started = forker.tell(config=config, log=str(log))
        self.pid: int = started["pid"]
        self.port: int = started["port"]
        self.status: int | None = None
        self.clients: list[Client] = []

    def client(self) -> Client:
        self.clients.append(Client(self.port))
        return self.clients[-1]

    def http2(self, **settings: int) -> Http2:
        client = Http2(self.port, **settings)
        self.clients.append(client)
        return client

    def seen(self) -> dict[str, Any]:
        """What the app has seen."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request("GET", "/seen", headers={"Host": "a"})
            seen: dict[str, Any] = json.loads(connection.getresponse().read())
        return seen

    def becomes(self, name: str, value: Any, seconds: float = WHILE) -> bool:
        """Whether the app sees as much within the time."""
        end = monotonic() + seconds
        while monotonic() < end:
            if self.seen()[name] == value:
                return True
        return False

    def listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionError:
            return False
        return True

    def ends(self, seconds: float) -> bool:
        if self.status is None:
            self.status = self._forker.tell(pid=self.pid, seconds=seconds)["status"]
        return self.status is not None

    def dies_of(self, error: str, remedy: str) -> None:
        """Hold the defect: this exception ends the process."""
        still(self.ends(PATIENCE / 2), remedy)
        log = self._log.read_text()
        assert error in log.splitlines()[-1] or f"| {error}" in log or f".{error}" in log, log
        assert self.status == 1

    def kill(self) -> None:
        for client in self.clients:
            client.socket.close()
        if not self.ends(0):
            os.kill(self.pid, signal.SIGKILL)
            self.ends(PATIENCE)


Start = Callable[..., Stock]


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    forker = Forker()
    yield forker
    forker.close()


@pytest.fixture
def start(forker: Forker, tmp_path: Path) -> Iterator[Start]:
    """Start a server, with settings of Hypercorn's ``Config``; it has answered a request. It ends with the test."""
    servers: list[Stock] = []

    def start(**config: Any) -> Stock:
        servers.append(Stock(forker, tmp_path / f"{len(servers)}.log", config))
        assert servers[-1].seen()["calls"] == 0
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def server(start: Start) -> Stock:
    return start()
