import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import h2.connection
import h2.events
import pytest
import trio
import trustme
from h2.config import H2Configuration
from h2.settings import SettingCodes
from hypercorn.config import Config
from hyperframe.frame import Frame, GoAwayFrame

from gateway.server import Limits, serve
from gateway.testing.network import MemoryNetwork

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
"""The plainest request."""


class Http1Client:
    """A raw HTTP/1.1 client: what is sent is what the test says, what is read is bytes."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def until(self, mark: bytes) -> bytes:
        """What comes up to and with ``mark``."""
        while mark not in self.buffer:
            data = await self.stream.receive_some(65536)
            assert data, f"the server closed; before that it said {self.buffer!r}"
            self.buffer += data
        end = self.buffer.index(mark) + len(mark)
        found, self.buffer = self.buffer[:end], self.buffer[end:]
        return found

    async def rest(self) -> bytes:
        """What comes until the server closes."""
        while True:
            data = await self.stream.receive_some(65536)
            if not data:
                found, self.buffer = self.buffer, b""
                return found
            self.buffer += data

    async def answer(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """One answer with a Content-Length: status, fields, body."""
        head = await self.until(b"\r\n\r\n")
        lines = head.split(b"\r\n")[:-2]
        fields = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines[1:])}
        length = int(fields[b"content-length"])
        while len(self.buffer) < length:
            self.buffer += await self.stream.receive_some(65536)
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return int(lines[0].split(b" ")[1]), fields, body

    async def aclose(self) -> None:
        await self.stream.aclose()


@dataclass
class Seen:
    """What an HTTP/2 client has seen of one stream."""

    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None
    informational: list[bytes] = field(default_factory=list)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(dict(self.headers)[b":status"])


class _PatientConnection(h2.connection.H2Connection):
    """h2's, but a GOAWAY does not keep it from reading the answers to what it has asked already."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        event = h2.events.ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        return [], [event]


class Http2Client:
    """An HTTP/2 client that does what the test says and nothing else: it opens windows only where ``greedy``."""

    def __init__(self, stream: Any, *, greedy: bool = True, validate: bool = False, window: int | None = None) -> None:
        self.stream = stream
        self.greedy = greedy
        self.h2 = _PatientConnection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=validate,
                normalize_outbound_headers=validate,
            )
        )
        self.window = window
        self.seen: dict[int, Seen] = {}
        self.goaways: list[h2.events.ConnectionTerminated] = []
        self.closed = False

    @property
    def goaway(self) -> h2.events.ConnectionTerminated | None:
        """The last one."""
        return self.goaways[-1] if self.goaways else None

    async def start(self) -> "Http2Client":
        if self.window is not None:
            self.h2.local_settings.update({SettingCodes.INITIAL_WINDOW_SIZE: self.window})
            self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()
        await self.flush()
        return self

    async def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            await self.stream.send_all(data)

    async def raw(self, data: bytes) -> None:
        await self.flush()
        await self.stream.send_all(data)

    async def request(
        self,
        method: bytes = b"GET",
        path: bytes = b"/",
        *extra: tuple[bytes, bytes],
        end: bool = True,
        fields: list[tuple[bytes, bytes]] | None = None,
    ) -> int:
        stream_id = self.h2.get_next_available_stream_id()
        if fields is None:
            fields = [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"a"), *extra]
        self.h2.send_headers(stream_id, fields, end_stream=end)
        await self.flush()
        self.seen[stream_id] = Seen()
        return stream_id

    async def data(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        self.h2.send_data(stream_id, data, end_stream=end)
        await self.flush()

    async def read(self) -> None:
        """Take in what comes next."""
        try:
            data = await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self.closed = True
            return
        for event in self.h2.receive_data(data):
            self._note(event)
        await self.flush()

    def _note(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self.seen[event.stream_id].headers = list(event.headers)
            case h2.events.InformationalResponseReceived():
                self.seen[event.stream_id].informational.append(dict(event.headers)[b":status"])
            case h2.events.TrailersReceived():
                self.seen[event.stream_id].trailers = list(event.headers)
            case h2.events.DataReceived():
                self.seen[event.stream_id].body += event.data
                if self.greedy and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self.seen[event.stream_id].ended = True
            case h2.events.StreamReset():
                self.seen[event.stream_id].reset = int(event.error_code)
            case h2.events.ConnectionTerminated():
                self.goaways.append(event)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert not self.closed, f"the server closed; seen: {self.seen}, goaway: {self.goaway}"
            await self.read()

    async def answer(self, stream_id: int) -> Seen:
        seen = self.seen[stream_id]
        await self.until(lambda: seen.ended or seen.reset is not None)
        return seen

    async def get(self, path: bytes = b"/") -> Seen:
        return await self.answer(await self.request(path=path))

    async def until_closed(self) -> None:
        while not self.closed:
            await self.read()

    async def aclose(self) -> None:
        await self.stream.aclose()


@dataclass
class Server:
    """A running ``serve()``, as a test sees it."""

    binds: list[str]
    connect: Callable[[], Awaitable[Any]]
    shutdown: trio.Event
    ended: trio.Event

    async def http1(self) -> Http1Client:
        return Http1Client(await self.connect())

    async def http2(self, *, greedy: bool = True, window: int | None = None) -> Http2Client:
        return await Http2Client(await self.connect(), greedy=greedy, window=window).start()

    async def stop(self) -> None:
        """Shut down and wait until ``serve()`` has returned."""
        self.shutdown.set()
        await self.ended.wait()

    async def is_alive(self) -> bool:
        """Whether a new connection is served."""
        client = await self.http1()
        await client.send(GET)
        alive = (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 ")
        await client.aclose()
        return alive


Start = Callable[..., Awaitable[Server]]


def quiet_config(**settings: Any) -> Config:
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    for name, value in settings.items():
        setattr(config, name, value)
    return config


@pytest.fixture
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, ssl.SSLContext]:
    """Certificate file, key file, and a client's context that trusts them."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return str(folder / "cert.pem"), str(folder / "key.pem"), context


@pytest.fixture
async def start(nursery: trio.Nursery) -> AsyncIterator[Start]:
    """Start a server over real sockets; it ends with the test, and so do its clients."""
    clients: list[Any] = []

    async def start(
        app: Any,
        *,
        limits: Limits | None = None,
        config: Config | None = None,
        network: MemoryNetwork | None = None,
        **more: Any,
    ) -> Server:
        shutdown, ended = trio.Event(), trio.Event()
        if network is not None:
            more["listeners"] = [network.listen("gateway", 80)]

        async def run(*, task_status: trio.TaskStatus[list[str]]) -> None:
            told = {"shutdown": shutdown.wait, **more}
            await serve(app, config or quiet_config(), limits=limits, task_status=task_status, **told)
            ended.set()

        binds = await nursery.start(run)

        async def connect() -> Any:
            host, _, port = binds[0].rpartition("://")[2].rpartition(":")
            open_stream = trio.open_tcp_stream if network is None else network.connect
            stream = await open_stream(host, int(port))
            clients.append(stream)
            return stream

        return Server(binds, connect, shutdown, ended)

    yield start
    for client in clients:
        await trio.aclose_forcefully(client)


@pytest.fixture
def start_in_memory(start: Start) -> Start:
    """Start a server on the in-memory network, where a virtual clock can tell exact times."""
    return partial(start, network=MemoryNetwork())
