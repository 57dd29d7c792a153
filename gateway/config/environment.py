"""The environment in, settings out; or every fault in it at once.

What never lives here: what one variable takes (``table``, ``values``), anything that opens a socket.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.config import files, values
from gateway.config.table import Service, Settings, Variable, gateway_variables, service_variables, stem

if TYPE_CHECKING:
    from pydantic_settings import PydanticBaseSettingsSource

OWNED = ("/health", "/livez", "/readyz", "/api/gateway")
"""The paths that the gateway answers itself: no service's prefix may take them."""

_NUMBERED = re.compile("(SERVICE[0-9]{1,9})_URL")
_SERVICE_LINK = re.compile(r"(SERVICE_(HOST|PORT)|PORT_[0-9]+_(TCP|UDP))(_\w+)?")
"""What Kubernetes sets after the name of every Service, in every container beside it: no typo of anybody."""


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


def load(environ: Mapping[str, str] | None = None, *, dotenv: Path | None = Path(".env")) -> Settings:
    """Read the settings from ``environ`` (``os.environ`` if None) and from ``dotenv`` where that file is present.

    The environment wins. An empty value counts as none. Reads the files that are named (certificates and keys), to find
    out now, and not at the first request, that they cannot be used.

    Raises:
        ConfigError: all that is wrong, at once.

    """
    faults: list[Fault] = []
    texts = _read(os.environ if environ is None else environ, dotenv, faults)
    gateway = _parse(gateway_variables(), texts, faults)
    services = {name: _parse(service_variables(stem(name)), texts, faults) for name in _names(texts, faults)}
    if gateway.get("admin_port") == gateway.get("port", Settings().port):
        faults.append(Fault("GATEWAY_ADMIN_PORT", texts["GATEWAY_ADMIN_PORT"], "another port than GATEWAY_PORT"))
    for check in (_missing_urls, _prefix_faults, _file_faults):
        faults += check(texts, services, {fault.variable for fault in faults})
    known = [row.name for row in chain(gateway_variables(), *(service_variables(stem(name)) for name in services))]
    faults.sort(key=lambda fault: known.index(fault.variable) if fault.variable in known else -1)
    warnings = tuple(_warnings(texts, gateway, services))
    if faults:
        raise ConfigError(faults, warnings)
    for name, each in services.items():
        inherited = {clock: gateway[clock] for clock in ("timeout", "connect_timeout") if clock in gateway}
        where = each.pop("url")._asdict()
        services[name] = {"name": name} | where | inherited | each
    gateway["services"] = tuple(Service(**each) for each in services.values())
    return Settings(**gateway, warnings=warnings)


def _read(environ: Mapping[str, str], dotenv: Path | None, faults: list[Fault]) -> dict[str, str]:
    """Give every variable that is not empty, the blanks around it gone."""
    from pydantic_settings import BaseSettings  # noqa: PLC0415 - 0.3 s, which a command that reads nothing does not pay

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

    readable, malformed = _lines(dotenv)
    if malformed:
        # Its reader would say so on standard error, in words of its own, and go on: so it is given the rest apart.
        faults.extend(Fault(f"{dotenv}, line {line}", "unreadable", "NAME=value") for line in malformed)
        Variables.model_config["env_file"] = None
        environ = {**readable, **environ}
    given = {name: text for name, text in environ.items() if not name.startswith("_")}
    try:
        merged = Variables(**given).model_extra or {}
    except (OSError, UnicodeDecodeError) as error:
        faults.append(Fault(str(dotenv), getattr(error, "strerror", "") or "not UTF-8", "a readable file in UTF-8"))
        merged = given
    return {name: text.strip() for name, text in merged.items() if text and text.strip()}


def _lines(dotenv: Path | None) -> tuple[dict[str, str], list[int]]:
    """What the file sets; and its lines that are neither a setting, nor a comment, nor empty, by number."""
    from dotenv.parser import parse_stream  # noqa: PLC0415 - as for pydantic_settings, which brings it

    if dotenv is None or not dotenv.is_file():
        return {}, []
    try:
        with dotenv.open(encoding="utf-8") as stream:
            bindings = list(parse_stream(stream))
    except (OSError, UnicodeDecodeError):
        return {}, []  # told where it is read
    readable = {each.key: each.value for each in bindings if each.key is not None and each.value is not None}
    faulty = [each.original for each in bindings if each.error]
    return readable, [each.line + len(each.string) - len(each.string.lstrip("\n")) for each in faulty]


def _parse(rows: Iterable[Variable], texts: Mapping[str, str], faults: list[Fault]) -> dict[str, Any]:
    """Parse what is set; what is not is left to the defaults of the table."""
    parsed = {}
    for row in rows:
        if row.name in texts:
            try:
                parsed[row.field] = row.parse(texts[row.name])
            except ValueError as error:
                faults.append(Fault(row.name, values.printable(texts[row.name]), str(error)))
    return parsed


def _names(texts: Mapping[str, str], faults: list[Fault]) -> list[str]:
    """Give the names of the services: those listed, else every SERVICE<n> that has a URL, in numeric order.

    Nothing but the digits makes a service of a variable: a stray ``DATABASE_URL`` must never become a route.
    """
    if "GATEWAY_SERVICES" not in texts:
        found = sorted(_numbered(texts), key=lambda name: (int(name.removeprefix("service")), name))
        if not found:
            faults.append(Fault("GATEWAY_SERVICES", "", "names of services that have a URL each, or a SERVICE1_URL"))
        return found
    names: list[str] = []
    owners: dict[str, str] = {}
    for name in values.well_formed_names(texts["GATEWAY_SERVICES"]):
        variables = [row.name for row in service_variables(stem(name))]
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
            # Both ways round: what lies under it would never be reached, and what lies over it claims it for itself.
            if f"{prefix}/".startswith(f"{owned}/") or f"{owned}/".startswith(f"{prefix}/"):
                yield Fault(variable, prefix, f"a prefix that leaves {owned} to the gateway")


def _file_faults(
    texts: Mapping[str, str], services: Mapping[str, Mapping[str, Any]], faulty: Container[str]
) -> Iterator[Fault]:
    """Try every file that is named."""
    authorities = [stem(name) + "CA_FILE" for name in services]
    pairs = [(prefix + "CERT", prefix + "KEY") for prefix in ("GATEWAY_TLS_", *(stem(n) + "CLIENT_" for n in services))]
    good = {variable for variable in (*authorities, *chain(*pairs)) if variable in texts and variable not in faulty}

    def wrong(variable: str, expected: str | None) -> Iterator[Fault]:
        if expected:
            good.discard(variable)
            yield Fault(variable, values.printable(texts[variable]), expected)

    for variable in sorted(good):
        yield from wrong(variable, files.unreadable(texts[variable]))
    for variable in sorted(good.intersection(authorities)):
        yield from wrong(variable, files.no_certificates(texts[variable]))
    for cert, key in pairs:
        for one, other in ((cert, key), (key, cert)):
            if one in texts and other not in texts:
                yield Fault(other, "", f"a PEM file, since {one} is set: a certificate goes with its key")
        if cert in good:
            yield from wrong(cert, files.no_certificates(texts[cert]))
        if {cert, key} <= good:
            yield from wrong(key, files.no_key(texts[cert], texts[key]))


def _warnings(
    texts: Mapping[str, str], gateway: Mapping[str, Any], services: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    yield from _misspelt(texts, services)
    for name in _numbered(texts):
        if name not in services:
            yield f"{stem(name)}URL is set, but GATEWAY_SERVICES does not name {name}"
    if {"timeout", "connect_timeout"} <= gateway.keys() and gateway["connect_timeout"] > gateway["timeout"]:
        yield "GATEWAY_CONNECT_TIMEOUT is more than GATEWAY_TIMEOUT, of which it is a part: it has no effect"
    if gateway.get("proxy_protocol") and not gateway.get("trusted_proxies"):
        yield "GATEWAY_PROXY_PROTOCOL is set without GATEWAY_TRUSTED_PROXIES, whose connections it is for: no effect"
    for name, each in services.items():
        if "url" in each and each["url"].scheme == "http" and {"ca_file", "client_cert", "client_key"} & each.keys():
            yield f"{stem(name)}URL begins with http://, so its certificates have no effect"


def _misspelt(texts: Iterable[str], services: Iterable[str]) -> Iterator[str]:
    ours = [row.name.removeprefix("GATEWAY_") for row in gateway_variables()]
    theirs = [row.name for row in service_variables("")]
    # Every GATEWAY_ is meant for us. Beside a service's variables others may stand, so there only a near miss counts.
    families = [("GATEWAY_", ours, 0.6), *((stem(name), theirs, 0.8) for name in services)]
    known = {prefix + suffix for prefix, suffixes, _ in families for suffix in suffixes}
    for variable in sorted(set(texts) - known):
        for prefix, suffixes, cutoff in families:
            suffix = variable.upper().removeprefix(prefix)
            if variable.upper() == suffix or _SERVICE_LINK.fullmatch(suffix):
                continue
            near = difflib.get_close_matches(suffix, suffixes, n=1, cutoff=cutoff)
            hint = f"; did you mean {prefix}{near[0]}?" if near else ""
            if prefix == "GATEWAY_":
                yield f"{variable} is not a variable of the gateway{hint}"
            elif near:
                yield f"{variable} is not a variable of a service{hint}"
