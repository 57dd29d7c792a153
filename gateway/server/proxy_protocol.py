"""The PROXY protocol, versions 1 and 2: what a proxy says of the client before the client's first byte.

Pure, and strict: whoever may say this is believed about who the client is, so nothing is repaired by guess. The source
is HAProxy's ``doc/proxy-protocol.txt`` (sections 2.1 and 2.2).

``parse`` tells either what the header says, or how many bytes it lacks *at least*. Who reads no more than that never
takes a byte of what follows: a TLS handshake, which has to find its first byte where it is.

What never lives here: whom to believe, reading, how long to wait.
"""

import re
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
"""How version 2 begins."""
PREFIX = b"PROXY "
"""How version 1 begins."""
SHORTEST = len(b"PROXY UNKNOWN\r\n")
"""Version 2 has no header as short as that."""
LONGEST_LINE = 107
"""Of version 1, its CRLF included."""
FIXED = 16
"""Of version 2: signature, version and command, family and transport, length of the rest."""
LONGEST_REST = 4096
"""Of version 2. Addresses take 216 bytes at most; what is behind them (TLV) is skipped. The field could say 65,535."""

_PORT = r"(0|[1-9][0-9]{0,4})"
_LINE = re.compile(rf"PROXY (TCP4|TCP6) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) {_PORT} {_PORT}\r\n")
_ADDRESSES = {0x11: (IPv4Address, struct.Struct("!4s4sHH")), 0x21: (IPv6Address, struct.Struct("!16s16sHH"))}
"""By family and transport: TCP over IPv4, TCP over IPv6."""
_WITHOUT_ADDRESSES = {0x00, 0x12, 0x22, 0x31, 0x32}
"""Unspecified, UDP, Unix sockets: known, and of no use here."""


class Malformed(ValueError):
    """What came is no PROXY header."""


class Header(NamedTuple):
    """What a whole header says. None: nothing, so the connection's own addresses are the ones that count."""

    source: tuple[str, int] | None
    destination: tuple[str, int] | None


NOTHING = Header(None, None)


def parse(data: bytes) -> Header | int:
    """Read the header that ``data`` is the beginning of, or the whole; ``data`` must not go on behind it.

    Gives the least number of bytes that are missing, where any are. Raises Malformed, as soon as that is sure.
    """
    if data.startswith(SIGNATURE[: len(data)]):
        return _version_2(data)
    if data.startswith(PREFIX[: len(data)]):
        return _version_1(data)
    raise Malformed("neither version 1 nor version 2")


def _version_1(data: bytes) -> Header | int:
    line = data.removesuffix(b"\r\n").removesuffix(b"\r")
    if b"\r" in line or b"\n" in line:
        raise Malformed("the line does not end in CRLF")
    missing = 0 if data.endswith(b"\r\n") else max(SHORTEST - len(data), 1 if data.endswith(b"\r") else 2)
    if len(data) + missing > LONGEST_LINE:
        raise Malformed(f"the line is longer than {LONGEST_LINE} bytes")
    if missing:
        return missing
    if data.startswith((b"PROXY UNKNOWN ", b"PROXY UNKNOWN\r")):
        return NOTHING  # what stands behind it must be ignored (section 2.1)
    match = _LINE.fullmatch(data.decode("latin-1"))
    if match is None:
        raise Malformed("the line is not as it must be")
    kind = IPv4Address if match[1] == "TCP4" else IPv6Address
    try:
        source, destination = kind(match[2]), kind(match[3])
    except ValueError:
        raise Malformed(f"an address is not of {match[1]}") from None
    ports = int(match[4]), int(match[5])
    if max(ports) > 65535:
        raise Malformed("a port is above 65535")
    return Header((str(source), ports[0]), (str(destination), ports[1]))


def _version_2(data: bytes) -> Header | int:
    length: int
    if len(data) < SHORTEST:
        return SHORTEST - len(data)  # it may yet be the other version, which can be as short as that
    if len(data) < FIXED:
        return FIXED - len(data)
    command, family, length = struct.unpack("!BBH", data[len(SIGNATURE) : FIXED])
    if command not in {0x20, 0x21}:
        raise Malformed("not version 2, or neither LOCAL nor PROXY")
    if length > LONGEST_REST:
        raise Malformed(f"longer than {LONGEST_REST} bytes")
    if family not in _ADDRESSES and family not in _WITHOUT_ADDRESSES:
        raise Malformed("an unknown family or transport")
    missing = FIXED + length - len(data)
    if missing < 0:
        raise Malformed("more than the whole header")
    if missing:
        return missing
    if command == 0x20 or family in _WITHOUT_ADDRESSES:  # LOCAL: the proxy speaks for itself, a health check say
        return NOTHING
    kind, layout = _ADDRESSES[family]
    if length < layout.size:
        raise Malformed("too short for its addresses")
    source, destination, *ports = layout.unpack_from(data, FIXED)
    return Header((str(kind(source)), ports[0]), (str(kind(destination)), ports[1]))
