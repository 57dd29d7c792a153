"""The environment in, frozen settings out; or every fault in it at once.

The fields of ``Settings`` and ``Service`` are the one table of variables: name, default, parser and meaning stand
together, and ``docs/configuration.md`` and ``.env.example`` are written from them (``python -m gateway.reference``).
A variable is the field's name in upper case after ``GATEWAY_``, or after the service's name: ``order-desk`` is
configured by ``ORDER_DESK_URL``.

This is the only door to pydantic-settings, which reads the environment and ``.env``. Whether a text is a good value is
decided in ``gateway.values``: pydantic's own messages speak of types and quote their input, and ours must name what is
expected and keep secrets.

What never lives here: defaults that depend on the machine, anything that opens a socket, settings that can change
while the process runs.
"""

from __future__ import annotations

import difflib
import os
import re
import ssl
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway import values

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping
    from ipaddress import IPv4Network, IPv6Network

    from pydantic_settings import PydanticBaseSettingsSource

__all__ = ["ConfigError", "Fault", "Service", "Settings", "Variable", "load", "stem", "variables_of"]

OWNED = ("/health", "/livez", "/readyz", "/api/gateway")
"""The paths that the gateway answers itself: no service's prefix may take them."""

_NUMBERED = re.compile("(SERVICE[0-9]{1,9})_URL")
_SERVICE_LINK = re.compile(r"GATEWAY_(SERVICE_(HOST|PORT)|PORT_[0-9]+_(TCP|UDP))(_\w+)?")
"""What Kubernetes sets in every container beside a Service named ``gateway``: no typo of anybody."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: the variable, its value as it may be printed, and what is expected in its place."""

    variable: str
    value: str
    """Without secrets (``values.printable``); empty where the variable is not set."""
    expected: str

    def __str__(self) -> str:
        shown = f"{self.value!r}" if self.value else "not set"
        return f"{self.variable}: {shown}; expected {self.expected}"


class ConfigError(Exception):
    """The configuration cannot be used. ``str(error)`` is one line per fault, in the order of the table."""

    def __init__(self, faults: Iterable[Fault], warnings: Iterable[str] = ()) -> None:
        self.faults = tuple(faults)
        self.warnings = tuple(warnings)
        """As in ``Settings``: a misspelt name is often why another one is missing."""
        super().__init__("\n".join(str(fault) for fault in self.faults))


@dataclass(frozen=True, slots=True)
class Variable:
    """One row of the table, as the reference shows it."""

    name: str
    """``GATEWAY_PORT``; for a service without its name: ``TIMEOUT``."""
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
        default=None, metadata=_is(values.duration_or_off, "bounds the whole exchange, bodies included", "`off`")
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

    host: str = field(default="0.0.0.0", metadata=_is(values.host, "address to listen on"))
    port: int = field(default=8000, metadata=_is(values.port, "port to listen on"))
    timeout: float = field(
        default=30.0, metadata=_is(values.duration, "how long a backend may keep the gateway waiting")
    )
    connect_timeout: float = field(
        default=5.0, metadata=_is(values.duration, "the part of the timeout that connecting may take")
    )
    client_timeout: float = field(
        default=60.0,
        metadata=_is(values.duration, "how long a client may keep the gateway waiting, for its body or to read"),
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
        default=10.0, metadata=_is(values.duration, "time between two health probes of a backend")
    )
    health_timeout: float = field(default=2.0, metadata=_is(values.duration, "how long one probe may take"))
    drain_delay: float = field(
        default=0.0,
        metadata=_is(values.duration_or_zero, "on SIGTERM: how long to go on accepting, with /readyz at 503"),
    )
    drain_timeout: float = field(
        default=30.0,
        metadata=_is(values.duration_or_zero, "after that: how long requests in flight may take to finish"),
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = field(
        default=(),
        metadata=_is(values.networks, "networks whose X-Forwarded-* and Forwarded are believed and appended to"),
    )
    admin_host: str = field(
        default="127.0.0.1", metadata=_is(values.host, "address of a second listener, for metrics and live views")
    )
    admin_port: int | None = field(default=None, metadata=_is(values.port, "its port; without one it is off"))
    services: tuple[Service, ...] = field(
        default=(),
        metadata=_is(values.names, "names of the services, comma-separated", "every `SERVICE<n>` that has a URL"),
    )
    warnings: tuple[str, ...] = ()
    """What looks like a mistake and stops nothing; one line each."""


def variables_of(table: type[Settings | Service]) -> Iterator[Variable]:
    """Give the rows of the table, in order. ``<NAME>_URL`` fills four fields, so it is added here."""
    if table is Service:
        yield Variable(
            "URL", "url", values.url, values.text_of(None), "where the service is, e.g. `http://service1:8001`"
        )
    prefix = "GATEWAY_" if table is Settings else ""
    for each in fields(table):
        if each.metadata:
            default = each.metadata["default"] or values.text_of(each.default)
            yield Variable(
                prefix + each.name.upper(), each.name, each.metadata["parse"], default, each.metadata["meaning"]
            )


def load(environ: Mapping[str, str] | None = None, *, dotenv: Path | None = Path(".env")) -> Settings:
    """Read the settings from ``environ`` (``os.environ`` if None) and from ``dotenv`` where that file is present.

    The environment wins. An empty value counts as none. Reads the files that are named (certificates and keys), to find
    out now, and not at the first request, that they cannot be used.

    Raises:
        ConfigError: all that is wrong, at once.

    """
    faults: list[Fault] = []
    texts = _read(os.environ if environ is None else environ, dotenv, faults)
    gateway = _parse(Settings, "GATEWAY_", texts, faults)
    names = _names(texts, faults)
    services = {name: _parse(Service, stem(name), texts, faults) for name in names}
    for check in (_tls_faults, _missing_urls, _prefix_faults):
        faults += check(texts, services, {fault.variable for fault in faults})
    warnings = tuple(_warnings(texts, gateway, services))
    if faults:
        raise ConfigError(faults, warnings)
    for name, each in services.items():
        inherited = {clock: gateway[clock] for clock in ("timeout", "connect_timeout") if clock in gateway}
        where = each.pop("url")._asdict()
        services[name] = {"name": name} | where | inherited | each
    gateway["services"] = tuple(Service(**each) for each in services.values())
    return Settings(**gateway, warnings=warnings)


def stem(name: str) -> str:
    """Give what the variables of this service begin with: ``order-desk`` -> ``ORDER_DESK_``."""
    return name.upper().replace("-", "_") + "_"


def _read(environ: Mapping[str, str], dotenv: Path | None, faults: list[Fault]) -> dict[str, str]:
    """Give every variable that is not empty, the blanks around it gone."""
    # Here and not above: it takes 0.3 s to import, which a command that reads no settings should not pay.
    from pydantic_settings import BaseSettings  # noqa: PLC0415

    class Variables(BaseSettings, extra="allow", case_sensitive=True, env_file=dotenv):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above; a test's own mapping comes by init
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, dotenv_settings

    given = {name: text for name, text in environ.items() if not name.startswith("_")}
    try:
        merged = Variables(**given).model_extra or {}
    except (OSError, UnicodeDecodeError) as error:
        faults.append(Fault(str(dotenv), getattr(error, "strerror", "") or "not UTF-8", "a readable file in UTF-8"))
        merged = given
    return {name: text.strip() for name, text in merged.items() if text and text.strip()}


def _parse(
    table: type[Settings | Service], prefix: str, texts: Mapping[str, str], faults: list[Fault]
) -> dict[str, Any]:
    """Parse what is set; what is not is left to the defaults of the table."""
    parsed = {}
    for row in variables_of(table):
        variable = row.name if table is Settings else prefix + row.name
        if variable in texts:
            try:
                parsed[row.field] = row.parse(texts[variable])
            except ValueError as error:
                faults.append(Fault(variable, values.printable(texts[variable]), str(error)))
    return parsed


def _names(texts: Mapping[str, str], faults: list[Fault]) -> list[str]:
    """Give the names of the services: those listed, else every SERVICE<n> that has a URL, in numeric order.

    Nothing but the digits makes a service of a variable: a stray ``DATABASE_URL`` must never become a route.
    """
    if "GATEWAY_SERVICES" not in texts:
        found = sorted(_numbered(texts), key=lambda name: (int(name.removeprefix("service")), name))
        if not found:
            faults.append(Fault("GATEWAY_SERVICES", "", "names of services, or a SERVICE1_URL: there is no service"))
        return found
    names: list[str] = []
    owners: dict[str, str] = {}
    for name in values.well_formed_names(texts["GATEWAY_SERVICES"]):
        variables = [stem(name) + row.name for row in variables_of(Service)]
        shared = next((variable for variable in variables if variable in owners), None)
        if stem(name).startswith("GATEWAY_"):
            expected = "other names: variables that begin with GATEWAY_ are the gateway's own"
            faults.append(Fault("GATEWAY_SERVICES", name, expected))
        elif shared:
            expected = f"names with variables of their own: {shared} would belong to both"
            faults.append(Fault("GATEWAY_SERVICES", f"{owners[shared]},{name}", expected))
        else:
            names.append(name)
            owners |= dict.fromkeys(variables, name)
    return names


def _numbered(texts: Iterable[str]) -> list[str]:
    return [match[1].lower() for match in map(_NUMBERED.fullmatch, texts) if match]


def _missing_urls(texts: Mapping[str, str], services: Iterable[str], _: Container[str]) -> Iterator[Fault]:
    for name in services:
        if stem(name) + "URL" not in texts:
            expected = f"the URL of {name}, which GATEWAY_SERVICES names, such as http://{name}:8001"
            yield Fault(stem(name) + "URL", "", expected)


def _prefix_faults(
    _: Mapping[str, str], services: Mapping[str, Mapping[str, Any]], faulty: Container[str]
) -> Iterator[Fault]:
    owners: dict[str, str] = {}
    for name, each in services.items():
        variable = stem(name) + "PREFIX"
        if variable in faulty:
            continue
        prefix = each.get("prefix", f"/api/{name}")
        if prefix in owners:
            yield Fault(variable, prefix, f"a prefix of its own: {owners[prefix]} answers to this one")
        owners.setdefault(prefix, name)
        for owned in OWNED:
            # Either way round: what lies under it is never reached, and what lies over it would answer in its place.
            if f"{prefix}/".startswith(f"{owned}/") or f"{owned}/".startswith(f"{prefix}/"):
                yield Fault(variable, prefix, f"a prefix that leaves {owned} to the gateway")


def _tls_faults(
    texts: Mapping[str, str], services: Mapping[str, Mapping[str, Any]], faulty: Container[str]
) -> Iterator[Fault]:
    """Try every file that is named."""
    pairs = [("GATEWAY_TLS_CERT", "GATEWAY_TLS_KEY")]
    for name in services:
        pairs.append((stem(name) + "CLIENT_CERT", stem(name) + "CLIENT_KEY"))
        authorities = stem(name) + "CA_FILE"
        if authorities in texts and authorities not in faulty:
            yield from _unreadable(authorities, texts) or _not_certificates(authorities, texts)
    for cert, key in pairs:
        for one, other in ((cert, key), (key, cert)):
            if one in texts and other not in texts:
                yield Fault(other, "", f"a PEM file, since {one} is set: a certificate and its key come together")
        given = [variable for variable in (cert, key) if variable in texts and variable not in faulty]
        found = [fault for variable in given for fault in _unreadable(variable, texts)]
        if cert in given and not any(fault.variable == cert for fault in found):
            found += _not_certificates(cert, texts)
        yield from found or (_mismatch(cert, key, texts) if len(given) == len((cert, key)) else ())


def _unreadable(variable: str, texts: Mapping[str, str]) -> list[Fault]:
    reason = "not a file"
    try:
        path = Path(texts[variable])
        if path.is_file() or not path.exists():  # a FIFO would block
            path.open("rb").close()
            return []
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", "") or str(error)
    return [Fault(variable, values.printable(texts[variable]), f"a file that can be read ({reason})")]


def _not_certificates(variable: str, texts: Mapping[str, str]) -> list[Fault]:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=texts[variable])
    except ssl.SSLError:
        return [Fault(variable, values.printable(texts[variable]), "a PEM file with at least one certificate")]
    return []


def _mismatch(cert: str, key: str, texts: Mapping[str, str]) -> list[Fault]:
    try:
        # The password is given so that OpenSSL does not stop and ask for one on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(texts[cert], texts[key], password="")
    except ssl.SSLError as error:
        reason = (error.reason or "not PEM").replace("_", " ").lower()
        expected = f"a PEM file with the private key of {cert}, without a passphrase ({reason})"
        return [Fault(key, values.printable(texts[key]), expected)]
    return []


def _warnings(
    texts: Mapping[str, str], gateway: Mapping[str, Any], services: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    yield from _misspelt(texts, services)
    for name in _numbered(texts):
        if name not in services:
            yield f"{stem(name)}URL is set, but GATEWAY_SERVICES does not name {name}"
    if {"timeout", "connect_timeout"} <= gateway.keys() and gateway["connect_timeout"] > gateway["timeout"]:
        yield "GATEWAY_CONNECT_TIMEOUT is more than GATEWAY_TIMEOUT, of which it is a part: it has no effect"
    for name, each in services.items():
        if "url" in each and each["url"].scheme == "http" and {"ca_file", "client_cert", "client_key"} & each.keys():
            yield f"{stem(name)}URL begins with http://, so its certificates have no effect"


def _misspelt(texts: Iterable[str], services: Iterable[str]) -> Iterator[str]:
    ours = [row.name for row in variables_of(Settings)]
    theirs = [stem(name) + row.name for name in services for row in variables_of(Service)]
    for variable in sorted(set(texts).difference(ours, theirs)):
        if variable.upper().startswith("GATEWAY_") and not _SERVICE_LINK.fullmatch(variable):
            near = difflib.get_close_matches(variable.upper(), ours, n=1)
            yield f"{variable} is not a variable of the gateway" + (f"; did you mean {near[0]}?" if near else "")
        # Beside a service's own variables others may stand (its image's), so only what is nearly ours is a mistake.
        elif near := difflib.get_close_matches(variable, theirs, n=1, cutoff=0.9):
            yield f"{variable} is not a variable of any service; did you mean {near[0]}?"
