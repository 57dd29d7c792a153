"""The text of one variable in, its value out; or a ``ValueError`` that says what is expected.

Every parser here takes the text without the blanks around it, never an empty one, and names in its error what a good
value looks like; it shows the bad one through ``printable`` or not at all: it may hold a secret.

What never lives here: which variable takes what (``table``), whether values fit together, files being read.
"""

import ipaddress
import math
import os
import re
from collections.abc import Callable
from typing import NamedTuple

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|)")  # no sign, no exponent, no inf and no nan
_A_DURATION = "a duration such as 30, 1.5, 500ms or 1m"

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"  # Compose names services with underscores
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_NUMERIC_HOST = re.compile(r"[0-9.]+")

# RFC 3986 section 3.3: the characters of a path segment. `%` is not among them: a prefix is compared with raw bytes,
# and `%61` and `a` would be two prefixes to us and one to whoever wrote them.
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")
_QUERY = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")

_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class Url(NamedTuple):
    """Where a service is."""

    scheme: str
    host: str
    port: int
    base_path: str
    """``""`` or ``/x``."""


def duration_or_zero(text: str) -> float:
    """``30``, ``1.5``, ``500ms``, ``1m``: seconds, 0 included."""
    match = _DURATION.fullmatch(text)
    if not match:
        raise ValueError(f"{_A_DURATION}, or 0")
    return float(match[1]) * _UNITS[match[2]]


def duration(text: str) -> float:
    """As ``duration_or_zero``, above 0: a clock of 0 seconds would fail every request."""
    match = _DURATION.fullmatch(text)
    if not match or float(match[1]) == 0:
        raise ValueError(f"{_A_DURATION}, above 0")
    return float(match[1]) * _UNITS[match[2]]


def duration_or_off(text: str) -> float | None:
    """As ``duration``, or ``off``."""
    if text.lower() == "off":
        return None
    try:
        return duration(text)
    except ValueError as error:
        raise ValueError(f"{error}; or off") from None


def integer(least: int, most: int | None = None) -> Callable[[str], int]:
    """Make the parser of a whole number within these bounds."""
    expected = f"a whole number, {least} or more" if most is None else f"a whole number, {least} to {most}"

    def parse(text: str) -> int:
        # Not int(): it takes "1_000", "+1" and the digits of every script.
        if not re.fullmatch("[0-9]{1,18}", text) or int(text) < least or (most is not None and int(text) > most):
            raise ValueError(expected)
        return int(text)

    return parse


def port(text: str) -> int:
    """A TCP port; not 0, which would be another one at every start."""
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        hint = ""
        if text.startswith("tcp://"):
            hint = "; Kubernetes sets this for a Service named gateway: use enableServiceLinks: false"
        raise ValueError(f"a port, 1 to 65535{hint}")
    return int(text)


def boolean(text: str) -> bool:
    """true/false, yes/no, on/off, 1/0, in any case."""
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise ValueError("true or false") from None


def choice(*words: str) -> Callable[[str], str]:
    """Make the parser of one of these words; any case is taken, and the listed one returned."""
    known = {word.lower(): word for word in words}

    def parse(text: str) -> str:
        try:
            return known[text.lower()]
        except KeyError:
            raise ValueError("one of " + ", ".join(words)) from None

    return parse


def file(text: str) -> str:
    """The path of a file; ``files`` tries to read it."""
    if "-----BEGIN" in text:
        raise ValueError("the path of a PEM file, not the PEM text itself")
    return text


def host(text: str) -> str:
    """A host name or an IP address; an IPv6 address may come in brackets and is returned without."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in bare or bare != text or _NUMERIC_HOST.fullmatch(bare):
        try:
            address = ipaddress.ip_address(bare)
        except ValueError:
            address = None
        # No zone (fe80::1%eth0): it has no place in a Host header (RFC 6874 section 4).
        if address is not None and "%" not in bare and (bare == text or address.version == 6):
            return bare
    elif len(bare) <= 253 and _HOST_NAME.fullmatch(bare):
        return bare
    raise ValueError("a host name or an IP address, without scheme and port")


def bind_host(text: str) -> str:
    """As ``host``, or ``unix:`` and the absolute path of a socket."""
    if not text.startswith("unix:"):
        try:
            return host(text)
        except ValueError as error:
            raise ValueError(f"{error}; or unix: and the path of a socket") from None
    socket_path = text.removeprefix("unix:")
    # sockaddr_un holds 108 bytes on Linux and fewer elsewhere, the 0 at the end included (unix(7)).
    if not socket_path.startswith("/") or "\0" in socket_path or len(os.fsencode(socket_path)) > 107:
        raise ValueError("unix: and the absolute path of a socket, such as unix:/run/gateway.sock, 107 bytes at most")
    return text


def path_or_root(text: str) -> str:
    """``/a/b``, without the trailing slash; ``/`` becomes ``""``."""
    if not text.startswith("/"):
        raise ValueError("a path that begins with /")
    stripped = text.removesuffix("/")
    for segment in stripped.split("/")[1:]:
        if segment in {"", ".", ".."}:
            raise ValueError("a path without //, . and .. in it")
        if not _SEGMENT.fullmatch(segment):
            raise ValueError("a path of plain characters, without %, ?, # and blanks")
    return stripped


def path(text: str) -> str:
    """``/a/b``, without the trailing slash, and not ``/`` alone."""
    stripped = path_or_root(text)
    if not stripped:
        raise ValueError("a path such as /api/orders; / alone would shadow the gateway's own /health")
    return stripped


def health_path(text: str) -> str:
    """``/health``, and a query if wanted. The path is kept as it is, its trailing slash included."""
    plain, _, query = text.partition("?")
    try:
        path_or_root(plain)
    except ValueError as error:
        raise ValueError(f"{error}; a ?query may follow") from None
    if not _QUERY.fullmatch(query):
        raise ValueError("a query without # and blanks")
    return text


def url(text: str) -> Url:
    """``http://host[:port][/path]``; https too. Everything that is wrong with it is told at once."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in {"http", "https"}:
        raise ValueError("a URL that begins with http:// or https://, such as http://service1:8001")
    wrong = []
    rest, hash_, _ = rest.partition("#")
    rest, question, _ = rest.partition("?")
    authority, slash, tail = rest.partition("/")
    if "@" in rest:
        wrong.append("no user name and password")
        authority = authority.rpartition("@")[2]
    if question:
        wrong.append("no query")
    if hash_:
        wrong.append("no fragment")
    # Not urllib.parse: it drops tabs and newlines in silence and takes any port up to the moment it is asked for.
    shape = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::([^:]*))?", authority)
    where, number, base_path = "", 443 if scheme.lower() == "https" else 80, ""
    try:
        where = host(shape[1] if shape else "")
    except ValueError:
        wrong.append("a host name or an IP address (IPv6 in brackets)")
    try:
        number = port(shape[2]) if shape and shape[2] is not None else number
    except ValueError as error:
        wrong.append(str(error))
    try:
        base_path = path_or_root(slash + tail) if slash else ""
    except ValueError as error:
        wrong.append(str(error))
    if wrong:
        raise ValueError("a URL such as http://service1:8001, with " + ", ".join(wrong))
    return Url(scheme.lower(), where, number, base_path)


def networks(text: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """Comma-separated networks, or single addresses."""
    found = []
    for part in text.split(","):
        try:
            found.append(ipaddress.ip_network(part.strip()))
        except ValueError:
            expected = "networks such as 10.0.0.0/8 or fd00::/8, or addresses, comma-separated"
            wrong = printable(part.strip())
            raise ValueError(f"{expected}; not {wrong!r}{_without_host_bits(part.strip())}") from None
    return tuple(found)


def _without_host_bits(text: str) -> str:
    try:
        return f" (did you mean {ipaddress.ip_network(text, strict=False)}?)"
    except ValueError:
        return ""


def names(text: str) -> tuple[str, ...]:
    """Comma-separated names of services, each once."""
    found: list[str] = []
    for part in text.split(","):
        name = part.strip()
        if not _NAME.fullmatch(name):
            raise ValueError(f"names of letters, digits and inner hyphens, comma-separated; not {printable(name)!r}")
        if name in found:
            raise ValueError(f"each name once; {name} comes twice")
        found.append(name)
    return tuple(found)


def well_formed_names(text: str) -> tuple[str, ...]:
    """Give the good names of a list that ``names`` may have refused, so that their variables are checked too."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if _NAME.fullmatch(part.strip())))


def text_of(value: object) -> str:
    """Write a default as one would write it in the environment."""
    match value:
        case None | ():
            return "none"
        case bool():
            return f"`{str(value).lower()}`"
        case float() if math.isfinite(value) and value == int(value):
            return f"`{int(value)}`"
        case _:
            return f"`{value}`"


def printable(text: str) -> str:
    """Give the value as it may be shown: no user name, no password, no query, no key; on one line and not endless."""
    if "-----BEGIN" in text:
        return "-----BEGIN … (hidden)"
    shown = text
    if "@" in shown:  # greedy, up to the last one: a password may hold an @, a / or a ? of its own
        shown = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)?.*@", r"\1***@", shown, flags=re.DOTALL)
    if "://" in shown:
        shown = re.sub(r"([?#]).*", r"\1***", shown, count=1, flags=re.DOTALL)
        # http://user:password with the host forgotten: what stands for the port is no number.
        shown = re.sub(r"^([^:]*://[^/:]*:)(?![0-9]*(?:/|[?#]|$))[^/]*", r"\1***", shown)
    shown = "".join(character if character.isprintable() else "�" for character in shown)
    return shown if len(shown) <= 200 else shown[:200] + "…"
