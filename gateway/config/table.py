"""The one table of what can be set: a field's name, default, parser and meaning stand together.

A variable is the field's name in upper case after ``GATEWAY_``, or after the service's name: ``order-desk`` is
configured by ``ORDER_DESK_URL``. ``docs/configuration.md`` and ``.env.example`` are written from here.

What never lives here: how the environment is read, whether values fit together, settings that can change while the
process runs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from gateway.config import values


@dataclass(frozen=True, slots=True)
class Variable:
    """One row of the table, as the reference shows it."""

    name: str
    field: str
    parse: Callable[[str], Any]
    default: str
    meaning: str


def _is(parse: Callable[[str], Any], meaning: str, default: str | None = None) -> dict[str, Any]:
    """What a field knows about its variable; ``default`` is said in words where the value does not speak for itself."""
    return {"parse": parse, "meaning": meaning, "default": default}


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One backend and the part of the URL space that is its own. Durations are in seconds."""

    name: str
    scheme: str = "http"
    host: str
    port: int
    base_path: str = ""
    """The path of ``<NAME>_URL``, without a trailing slash; put before ``upstream_prefix`` and ``health_path``."""

    prefix: str = field(
        default="", metadata=_is(values.path, "the path prefix that the service answers to", "`/api/<name>`")
    )
    upstream_prefix: str = field(
        default="/api", metadata=_is(values.path_or_root, "what replaces the prefix upstream; `/` for nothing")
    )
    timeout: float = field(
        default=30.0, metadata=_is(values.duration, "as GATEWAY_TIMEOUT, for this service", "GATEWAY_TIMEOUT")
    )
    connect_timeout: float = 5.0
    """GATEWAY_CONNECT_TIMEOUT, and never more than ``timeout``, of which it is a part."""
    deadline: float | None = field(
        default=None, metadata=_is(values.duration_or_off, "seconds for the whole exchange, bodies included", "`off`")
    )
    preserve_host: bool = field(
        default=True,
        metadata=_is(
            values.boolean, "`false`: the backend gets its own authority as Host, not the one the client sent"
        ),
    )
    ca_file: str | None = field(
        default=None,
        metadata=_is(values.file, "PEM file: who is trusted to sign its certificate", "the system's trust"),
    )
    client_cert: str | None = field(
        default=None, metadata=_is(values.file, "PEM file: the certificate shown to the backend")
    )
    client_key: str | None = field(default=None, metadata=_is(values.file, "PEM file: the key of that certificate"))
    health_path: str = field(
        default="/health", metadata=_is(values.health_path, "probed with GET on the service's URL")
    )
    max_connections: int = field(
        default=0,
        metadata=_is(
            values.integer(0),
            "open connections to the backend; 0: no bound. Waiting for one counts against the timeout",
        ),
    )

    def __post_init__(self) -> None:
        """Derive what depends on another field."""
        if not self.prefix:
            object.__setattr__(self, "prefix", f"/api/{self.name}")
        # Not a fault: one short timeout for one service must not oblige anybody to set a second variable, and the
        # shorter clock fires first anyway. Only the explanation of a 504 would be the wrong one.
        object.__setattr__(self, "connect_timeout", min(self.connect_timeout, self.timeout))

    @property
    def upstream_path(self) -> str:
        """What the prefix becomes: the path of the service's URL, then ``upstream_prefix``."""
        return self.base_path + self.upstream_prefix

    @property
    def authority(self) -> bytes:
        """``host`` or ``host:port``: the default port left out, IPv6 in brackets (RFC 9110 section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return (host if self.port == default else f"{host}:{self.port}").encode("ascii")

    @property
    def origin(self) -> str:
        """``http://host:port``, the port always written."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that can be set. Durations are in seconds."""

    host: str = field(default="0.0.0.0", metadata=_is(values.bind_host, "address to listen on, or `unix:/path`"))
    port: int = field(default=8000, metadata=_is(values.port, "port to listen on"))
    timeout: float = field(
        default=30.0, metadata=_is(values.duration, "seconds a backend may keep the gateway waiting")
    )
    connect_timeout: float = field(
        default=5.0, metadata=_is(values.duration, "the part of it that connecting may take")
    )
    client_timeout: float = field(
        default=60.0,
        metadata=_is(values.duration, "seconds a client may keep the gateway waiting, for its body or to read"),
    )
    max_body_size: int = field(
        default=10_485_760, metadata=_is(values.integer(1), "bytes of request body; more is answered with 413")
    )
    log_level: str = field(
        default="INFO",
        metadata=_is(values.choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "the least that is logged"),
    )
    log_format: str = field(default="json", metadata=_is(values.choice("json", "text"), "`json` or `text`"))
    workers: int = field(default=1, metadata=_is(values.integer(0, 1024), "processes; 0: one per core"))
    tls_cert: str | None = field(
        default=None, metadata=_is(values.file, "PEM file: the certificate chain; TLS with ALPN h2 and http/1.1")
    )
    tls_key: str | None = field(default=None, metadata=_is(values.file, "PEM file: its private key"))
    health_interval: float = field(
        default=10.0, metadata=_is(values.duration, "seconds between two health probes of a backend")
    )
    health_timeout: float = field(default=2.0, metadata=_is(values.duration, "seconds that one probe may take"))
    drain_delay: float = field(
        default=0.0,
        metadata=_is(values.duration_or_zero, "on SIGTERM: seconds to go on accepting, with `/readyz` at 503"),
    )
    drain_timeout: float = field(
        default=30.0,
        metadata=_is(values.duration_or_zero, "after that: seconds for requests in flight to finish"),
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = field(
        default=(),
        metadata=_is(values.networks, "networks whose X-Forwarded-* and Forwarded are believed and appended to"),
    )
    proxy_protocol: bool = field(
        default=False,
        metadata=_is(values.boolean, "`true`: a connection from one of these networks begins with a PROXY header"),
    )
    admin_host: str = field(
        default="127.0.0.1", metadata=_is(values.host, "address of a second listener, for metrics and live views")
    )
    admin_port: int | None = field(
        default=None,
        metadata=_is(values.port, "its port; without one it is off. Each further worker has the next higher one"),
    )
    services: tuple[Service, ...] = field(
        default=(),
        metadata=_is(values.names, "names of the services, comma-separated", "every `SERVICE<n>` that has a URL"),
    )
    warnings: tuple[str, ...] = ()
    """What looks like a mistake and stops nothing; one line each."""


def gateway_variables() -> list[Variable]:
    """Give the rows of the gateway's own variables, in order."""
    return _rows(Settings, "GATEWAY_")


def service_variables(prefix: str = "<NAME>_") -> list[Variable]:
    """Give the rows of one service's variables, in order. ``<NAME>_URL`` fills four fields, so it is added here."""
    meaning = "where the service is, e.g. `http://service1:8001`"
    return [Variable(prefix + "URL", "url", values.url, "none", meaning), *_rows(Service, prefix)]


def _rows(table: type[Settings | Service], prefix: str) -> list[Variable]:
    return [
        Variable(
            name=prefix + each.name.upper(),
            field=each.name,
            parse=each.metadata["parse"],
            default=each.metadata["default"] or values.text_of(each.default),
            meaning=each.metadata["meaning"],
        )
        for each in fields(table)
        if each.metadata
    ]


def stem(name: str) -> str:
    """Give what the variables of this service begin with: ``order-desk`` -> ``ORDER_DESK_``."""
    return name.upper().replace("-", "_") + "_"
