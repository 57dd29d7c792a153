"""What is measured, and how each of it is started, with its log and its forwarding headers on.

| key | what |
|---|---|
| direct | the backend itself |
| gateway | ``gateway serve`` in front of it, configured by three variables, all else as it comes |
| server | ``gateway.server`` alone, answering "ok" |
| hypercorn | stock Hypercorn, its trio worker, answering "ok" with the same app |
| nginx, haproxy | each in front of the same backend, one worker, where it is installed |
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf
from pathlib import Path

from benchmarks.backend import BODY
from benchmarks.processes import LOAD_CORE, SUBJECT_CORE, Command, DidNotStartError, free_port, running

PATH = "/api/orders?customer=c-1"
PROXIED = "/api/service1/orders?customer=c-1"
ROOT = Path(__file__).parent.parent

HYPERCORN_LIMIT = 1000
"""What Hypercorn's configuration has for ``keep_alive_max_requests``, and the gateway leaves as it is."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing that is measured, running."""

    key: str
    title: str
    session: int
    url: str
    url2: str | None
    """For HTTP/2 with prior knowledge; None where it does not speak it."""
    proxy: bool = False
    per_connection: float = inf
    """Requests after which it says goodbye to an HTTP/2 connection; h2load then fails those that are left."""

    @property
    def origin(self) -> str:
        """The URL without its path."""
        return "/".join(self.url.split("/")[:3])


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
        target = backend.origin.removeprefix("http://")
        yield self.gateway(backend.origin)
        yield self.server()
        yield self.hypercorn()
        if not peers:
            return
        for name, start in (("nginx", self.nginx), ("haproxy", self.haproxy)):
            if shutil.which(name) is None:
                self._say(f"{name} is not installed: skipped")
                continue
            try:
                yield start(target)
            except DidNotStartError as error:
                self._say(f"skipped: {error}")

    def backend(self) -> Subject:
        """nginx, or where it is not installed a small one of ours, on the core of the load."""
        port, port2 = free_port(), free_port()
        url = f"http://127.0.0.1:{port}{PATH}"
        if shutil.which("nginx") is None:
            self._say("nginx is not installed: the backend is a small one in Python, without HTTP/2")
            command = [sys.executable, "-m", "benchmarks.backend", str(port)]
            return Subject("direct", "direct", self._run("backend", command, url, core=LOAD_CORE), url, None)
        answer = f"default_type application/json; return 200 '{BODY.decode()}';"
        servers = f"""
            server {{ listen 127.0.0.1:{port}; access_log off; location / {{ {answer} }} }}
            server {{ listen 127.0.0.1:{port2} http2; access_log off; location / {{ {answer} }} }}"""
        session = self._run("backend", self._nginx("backend", servers), url, core=LOAD_CORE)
        return Subject("direct", "direct", session, url, f"http://127.0.0.1:{port2}{PATH}")

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
        session = self._run(key, [*under, sys.executable, "-m", "gateway", "serve"], url, env=env)
        return Subject(key, title, session, url, url, proxy=True, per_connection=HYPERCORN_LIMIT)

    def server(self) -> Subject:
        """The gateway's server with an app that does nothing."""
        port = free_port()
        url = f"http://127.0.0.1:{port}{PROXIED}"
        session = self._run("server", [sys.executable, "-m", "benchmarks.ok", str(port)], url)
        return Subject("server", 'gateway.server, "ok"', session, url, url, per_connection=HYPERCORN_LIMIT)

    def hypercorn(self) -> Subject:
        """Stock Hypercorn with the same app."""
        port = free_port()
        url = f"http://127.0.0.1:{port}{PROXIED}"
        command = [sys.executable, "-m", "hypercorn", "--worker-class", "trio", "--bind", f"127.0.0.1:{port}"]
        session = self._run("hypercorn", [*command, "benchmarks.ok:app"], url)
        return Subject("hypercorn", 'stock Hypercorn, "ok"', session, url, url, per_connection=HYPERCORN_LIMIT)

    def nginx(self, target: str) -> Subject:
        """Start nginx as a proxy, one worker."""
        port, port2 = free_port(), free_port()
        url = f"http://127.0.0.1:{port}{PROXIED}"
        location = """location /api/service1/ {
                proxy_pass http://backend/api/;
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_set_header Host $http_host;
                proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                proxy_set_header X-Forwarded-Proto $scheme;
                proxy_set_header X-Forwarded-Host $http_host;
                proxy_set_header X-Request-ID $request_id;
            }"""
        servers = f"""
            upstream backend {{ server {target}; keepalive 128; keepalive_requests 100000000; }}
            server {{ listen 127.0.0.1:{port}; access_log /dev/null; {location} }}
            server {{ listen 127.0.0.1:{port2} http2; access_log /dev/null; {location} }}"""
        session = self._run("nginx", self._nginx("nginx", servers), url)
        return Subject("nginx", "nginx", session, url, f"http://127.0.0.1:{port2}{PROXIED}", proxy=True)

    def haproxy(self, target: str) -> Subject:
        """HAProxy, one thread."""
        port = free_port()
        url = f"http://127.0.0.1:{port}{PROXIED}"
        config = self._scratch / "haproxy.cfg"
        config.write_text(
            f"""global
    log stdout format raw local0
    nbthread 1
defaults
    mode http
    log global
    option httplog
    option forwardfor
    timeout connect 5s
    timeout client 60s
    timeout server 30s
frontend clients
    bind 127.0.0.1:{port}
    unique-id-format %[uuid()]
    unique-id-header X-Request-ID
    http-request replace-path /api/service1/(.*) /api/\\1
    default_backend backend
backend backend
    http-reuse always
    server backend {target}
""",
            encoding="utf-8",
        )
        session = self._run("haproxy", ["haproxy", "-db", "-f", str(config)], url)
        return Subject("haproxy", "HAProxy", session, url, url, proxy=True)

    def _nginx(self, name: str, servers: str) -> list[str]:
        folder = self._scratch / name
        folder.mkdir()
        temporary = " ".join(
            f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = folder / "nginx.conf"
        config.write_text(
            f"""daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr error;
            events {{ worker_connections 4096; }}
            http {{
            keepalive_requests 100000000; {temporary}
            {servers}
            }}
            """,
            encoding="utf-8",
        )
        return ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(config)]

    def _run(
        self, name: str, command: list[str], url: str, *, core: int = SUBJECT_CORE, env: dict[str, str] | None = None
    ) -> int:
        self._say(f"starting {name}")
        started = Command(name, command, url, core, environment() if env is None else env)
        return self._stack.enter_context(running(started, self._scratch))
