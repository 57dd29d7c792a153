"""What is measured, and how each of it is started, with its log and its forwarding headers on.

| key | what |
|---|---|
| direct | the backend itself |
| gateway | ``gateway serve`` in front of it, configured by three variables, all else as it comes |
| server | ``gateway.server`` alone, answering "ok" |
| hypercorn | stock Hypercorn, its trio worker, answering "ok" with the same app |
| nginx, haproxy, caddy, fastapi | each in front of the same backend, one worker, where it is installed: see ``peers`` |
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf
from pathlib import Path

from benchmarks.peers import PEERS, PROXIED, backend_servers, nginx_config
from benchmarks.processes import LOAD_CORE, SUBJECT_CORE, Command, DidNotStartError, free_port, running
from benchmarks.workloads import PATH, Workload

ROOT = Path(__file__).parent.parent

DIRECT = "/api"
"""What stands before a workload's path at the backend."""

HYPERCORN_LIMIT = 1000
"""What Hypercorn's configuration has for ``keep_alive_max_requests``, and the gateway leaves as it is."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing that is measured, running."""

    key: str
    title: str
    session: int
    url: str
    """With the prefix, without a slash at the end."""
    url2: str | None
    """For HTTP/2 with prior knowledge; None where it does not speak it."""
    proxy: bool = False
    per_connection: float = inf
    """Requests after which it says goodbye to an HTTP/2 connection; h2load then fails those that are left."""
    small: bool = False
    """Whether large bodies are not for it."""
    only: frozenset[str] | None = None
    """The keys of the workloads that it is for; None: all."""

    @property
    def origin(self) -> str:
        """The URL without its path."""
        return "/".join(self.url.split("/")[:3])

    def asked(self, workload: Workload) -> str | None:
        """The URL of a workload; None where it is not for this subject."""
        base = self.url2 if workload.http2 else self.url
        left_out = (self.small and workload.bulk) or (self.only is not None and workload.key not in self.only)
        return None if base is None or left_out else base + workload.path


def environment(**settings: str) -> dict[str, str]:
    """The environment without whatever would configure a gateway, and with ``settings``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "SERVICE"))}
    return kept | {"PYTHONPATH": str(ROOT)} | settings


class Stage:
    """Starts subjects one by one; all of them are gone when ``stack`` is closed."""

    def __init__(self, stack: ExitStack, scratch: Path, say: Callable[[str], None]) -> None:
        scratch.chmod(0o755)  # nginx as root works as nobody
        self._stack = stack
        self._scratch = scratch
        self._say = say

    def start(self, *, peers: bool) -> Iterator[Subject]:
        """Start all that can be started. What cannot is told; raises DidNotStartError where it is our own."""
        backend = self.backend()
        yield backend
        yield self.gateway(backend.origin)
        yield self.server()
        yield self.hypercorn()
        for key in PEERS if peers else ():
            if (missing := PEERS[key].missing()) is not None:
                self._say(f"{PEERS[key].title}: skipped, {missing}")
                continue
            try:
                yield self.peer(key, backend.origin)
            except DidNotStartError as error:
                self._say(f"skipped: {error}")

    def backend(self) -> Subject:
        """nginx, or where it is not installed a small one of ours, on the core of the load."""
        port, port2 = free_port(), free_port()
        url = f"http://127.0.0.1:{port}{DIRECT}"
        if shutil.which("nginx") is None:
            self._say("nginx is not installed: the backend is a small one in Python, without HTTP/2 and large bodies")
            command = [sys.executable, "-m", "benchmarks.backend", str(port)]
            return Subject(
                "direct", "direct", self._run("backend", command, url, core=LOAD_CORE), url, None, small=True
            )
        folder = self._folder("backend")
        words = nginx_config(folder, backend_servers(folder, port, port2, free_port()))
        session = self._run("backend", words, url, core=LOAD_CORE)
        return Subject("direct", "direct", session, url, f"http://127.0.0.1:{port2}{DIRECT}")

    def gateway(
        self,
        origin: str,
        *,
        root: Path = ROOT,
        key: str = "gateway",
        title: str = "gateway",
        under: Sequence[str] = (),
    ) -> Subject:
        """The gateway as a user starts it; ``root`` is where its package is, ``under`` words to put before its own."""
        port = free_port()
        url = f"http://127.0.0.1:{port}{PROXIED}"
        env = environment(GATEWAY_HOST="127.0.0.1", GATEWAY_PORT=str(port), SERVICE1_URL=origin, PYTHONPATH=str(root))
        if under:  # it is many times slower then, and no clock must find that remarkable
            env |= {"GATEWAY_TIMEOUT": "600", "GATEWAY_CONNECT_TIMEOUT": "600", "GATEWAY_CLIENT_TIMEOUT": "600"}
        session = self._run(key, [*under, sys.executable, "-m", "gateway", "serve"], url, env=env)
        return Subject(key, title, session, url, url, proxy=True, per_connection=HYPERCORN_LIMIT)

    def server(self) -> Subject:
        """The gateway's server with an app that does nothing."""
        port = free_port()
        url = f"http://127.0.0.1:{port}{PROXIED}"
        session = self._run("server", [sys.executable, "-m", "benchmarks.ok", str(port)], url)
        return Subject("server", 'gateway.server, "ok"', session, url, url, per_connection=HYPERCORN_LIMIT, small=True)

    def hypercorn(self) -> Subject:
        """Stock Hypercorn with the same app."""
        port = free_port()
        url = f"http://127.0.0.1:{port}{PROXIED}"
        command = [sys.executable, "-m", "hypercorn", "--worker-class", "trio", "--bind", f"127.0.0.1:{port}"]
        session = self._run("hypercorn", [*command, "benchmarks.ok:app"], url)
        title = 'stock Hypercorn, "ok"'
        return Subject("hypercorn", title, session, url, url, per_connection=HYPERCORN_LIMIT, small=True)

    def peer(self, key: str, origin: str) -> Subject:
        """Another proxy."""
        kind = PEERS[key]
        ports = free_port(), free_port()
        words, settings = kind.configure(self._folder(key), ports, origin.removeprefix("http://"))
        url = f"http://127.0.0.1:{ports[0]}{kind.prefix}"
        session = self._run(key, words, url, env=environment(**settings))
        url2 = None if kind.port2 is None else f"http://127.0.0.1:{ports[kind.port2]}{kind.prefix}"
        return Subject(key, kind.title, session, url, url2, proxy=True, only=kind.only)

    def _folder(self, name: str) -> Path:
        folder = self._scratch / name
        folder.mkdir()
        return folder

    def _run(
        self, name: str, command: list[str], url: str, *, core: int = SUBJECT_CORE, env: dict[str, str] | None = None
    ) -> int:
        self._say(f"starting {name}")
        started = Command(name, command, url + PATH, core, environment() if env is None else env)
        return self._stack.enter_context(running(started, self._scratch))
