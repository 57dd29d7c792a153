"""How the proxies that we are measured beside are configured, and nginx as the backend: texts, no processes.

Each passes ``/api/service1/*`` on as ``/api/*``, keeps its connections to the backend, adds the forwarding headers and
a request ID, and writes an access log; all else is as it comes. Where a default would make a peer look worse than it
has to, the setting says so. ``fixtures.peers`` is for another question, what crosses a proxy unchanged: without logs.
"""

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.backend import BODY
from benchmarks.workloads import DOWNLOAD, MEGABYTES, UPLOAD, WORKLOADS

PROXIED = "/api/service1"
"""What stands before a workload's path."""

Ports = tuple[int, int]
Started = tuple[list[str], dict[str, str]]
"""A command, and what is added to its environment."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One proxy."""

    title: str
    needs: Callable[[], str | None]
    configure: Callable[[Path, Ports, str], Started]
    """Write the configuration into a folder, for two ports and the backend's ``host:port``."""
    port2: int | None = None
    """Which of the ports takes HTTP/2 with prior knowledge."""
    only: frozenset[str] | None = None
    """As in Subject."""
    prefix: str = PROXIED

    def missing(self) -> str | None:
        """What would have to be installed."""
        return self.needs()


def program(name: str) -> Callable[[], str | None]:
    """Whether there is one."""
    return lambda: None if shutil.which(name) else f"{name} is not installed"


def packages(*names: str) -> Callable[[], str | None]:
    """Whether they can be imported."""
    return lambda: None if all(map(find_spec, names)) else "uv sync --inexact --group bench would install it"


# ---- nginx, twice


def nginx_config(folder: Path, servers: str) -> list[str]:
    """Write a configuration of nginx and give the command. One worker, connections enough for every workload."""
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"""daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr error;
            events {{ worker_connections 9000; }}
            http {{
            keepalive_requests 100000000; {temporary}
            {servers}
            }}
            """,
        encoding="utf-8",
    )
    return ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(config)]


def backend_servers(folder: Path, port: int, port2: int, inner: int) -> str:
    """Give the servers of the backend: a small answer to everything, and two paths for large bodies.

    An upload is answered when all of it has come. ``return`` would answer at once, and a proxy may then end it; so the
    request goes on without its body, which nginx reads first, to a port of its own.
    """
    file = folder / "large"
    file.write_bytes(bytes(range(256)) * (MEGABYTES * 4096))
    answer = f"default_type application/json; return 200 '{BODY.decode()}';"
    locations = f"""
            location / {{ {answer} }}
            location = /api{DOWNLOAD} {{ default_type application/octet-stream; alias {file}; }}
            location = /api{UPLOAD} {{
                client_max_body_size 0; client_body_buffer_size {MEGABYTES + 1}m;
                proxy_pass http://inner; proxy_pass_request_body off; proxy_set_header Content-Length "";
                proxy_http_version 1.1; proxy_set_header Connection "";
            }}"""
    return f"""
            upstream inner {{ server 127.0.0.1:{inner}; keepalive 128; }}
            sendfile on;
            server {{ listen 127.0.0.1:{inner}; access_log off; location / {{ {answer} }} }}
            server {{ listen 127.0.0.1:{port} backlog=4096; access_log off; {locations} }}
            server {{ listen 127.0.0.1:{port2} http2; access_log off; {locations} }}"""


def nginx(folder: Path, ports: Ports, target: str, buffers: str = "") -> Started:
    """Bodies are passed on as they come, as the gateway does it, and never go through a file, as they do by default."""
    location = f"""location /api/service1/ {{
                client_max_body_size 0;
                proxy_request_buffering off;
                proxy_max_temp_file_size 0;
                {buffers}
                proxy_pass http://backend/api/;
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_set_header Host $http_host;
                proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                proxy_set_header X-Forwarded-Proto $scheme;
                proxy_set_header X-Forwarded-Host $http_host;
                proxy_set_header X-Request-ID $request_id;
            }}"""
    servers = f"""
            upstream backend {{ server {target}; keepalive 1024; keepalive_requests 100000000; }}
            server {{ listen 127.0.0.1:{ports[0]} backlog=4096; access_log /dev/null; {location} }}
            server {{ listen 127.0.0.1:{ports[1]} http2; access_log /dev/null; {location} }}"""
    return nginx_config(folder, servers), {}


def nginx_large(folder: Path, ports: Ports, target: str) -> Started:
    """With large buffers, where the default has 4 KB and 8 KB."""
    large = "proxy_buffering off; proxy_buffer_size 64k; proxy_buffers 8 64k; client_body_buffer_size 64k;"
    return nginx(folder, ports, target, large)


# ---- the others


def haproxy(folder: Path, ports: Ports, target: str) -> Started:
    """One thread."""
    config = folder / "haproxy.cfg"
    config.write_text(
        f"""global
    log stdout format raw local0
    nbthread 1
    maxconn 4096
defaults
    mode http
    log global
    option httplog
    option forwardfor
    timeout connect 5s
    timeout client 60s
    timeout server 30s
frontend clients
    bind 127.0.0.1:{ports[0]}
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
    return ["haproxy", "-db", "-f", str(config)], {}


def caddy(folder: Path, ports: Ports, target: str, transport: str = "") -> Started:
    """As it comes, with its 32 idle connections to a backend: above that many clients it connects again and again."""
    config = folder / "Caddyfile"
    config.write_text(
        f"""{{
    admin off
    auto_https off
    servers {{
        protocols h1 h2c
    }}
}}
http://:{ports[0]} {{
    bind 127.0.0.1
    log {{
        output stdout
    }}
    uri path_regexp ^/api/service1/ /api/
    reverse_proxy {target} {{
        header_up X-Request-ID {{http.request.uuid}}
        transport http {{
            versions 1.1
            {transport}
        }}
    }}
}}
""",
        encoding="utf-8",
    )
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(config)], {"HOME": str(folder)}


def caddy_many(folder: Path, ports: Ports, target: str) -> Started:
    """With as many idle connections as there are clients."""
    return caddy(folder, ports, target, "keepalive_idle_conns_per_host 1024")


def fastapi(folder: Path, ports: Ports, target: str) -> Started:
    """On uvicorn, with uvloop and httptools, which ``uvicorn[standard]`` brings and it then uses."""
    del folder
    words = [sys.executable, "-m", "uvicorn", "benchmarks.fastapi_proxy:app", "--host", "127.0.0.1"]
    return [*words, "--port", str(ports[0])], {"BENCHMARKS_BACKEND": f"http://{target}"}


BULK = frozenset(workload.key for workload in WORKLOADS if workload.bulk)

PEERS: Mapping[str, Peer] = {
    "nginx": Peer("nginx", program("nginx"), nginx, port2=1),
    "nginx-large": Peer("nginx, buffers of 64 KB", program("nginx"), nginx_large, only=BULK),
    "haproxy": Peer("HAProxy", program("haproxy"), haproxy, port2=0),
    "caddy": Peer("Caddy", program("caddy"), caddy, port2=0),
    "caddy-many": Peer("Caddy, 1,024 idle", program("caddy"), caddy_many, only=frozenset({"get-1000"})),
    "fastapi": Peer(
        "fastapi-proxy-lib, uvicorn",
        packages("fastapi", "fastapi_proxy_lib", "uvicorn", "uvloop", "httptools"),
        fastapi,
        only=frozenset({"get-32", "get-100"}),
        prefix="/api",
    ),
}
