from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.server.proxy_protocol import (
    LONGEST_LINE,
    LONGEST_REST,
    NOTHING,
    SHORTEST,
    SIGNATURE,
    Header,
    Malformed,
    parse,
)

ports = st.integers(0, 65535)
addresses = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)), st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6))
)


def read(data: bytes) -> tuple[Header, bytes]:
    """Take the header off ``data`` as a connection does: never more than what is known to be missing."""
    taken = 0
    while isinstance(found := parse(data[:taken]), int):
        assert found > 0
        if taken + found > len(data):
            raise EOFError
        taken += found
    return found, data[taken:]


def version_2(family: int, rest: bytes, *, command: int = 0x21, length: int | None = None) -> bytes:
    return SIGNATURE + bytes([command, family]) + (len(rest) if length is None else length).to_bytes(2, "big") + rest


def ipv4(tail: bytes = b"") -> bytes:
    return bytes([192, 0, 2, 1, 198, 51, 100, 7]) + (1000).to_bytes(2, "big") + (443).to_bytes(2, "big") + tail


TOLD = Header(("192.0.2.1", 1000), ("198.51.100.7", 443))


@pytest.mark.parametrize(
    ("data", "header"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.7 1000 443\r\n", TOLD),
        (b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n", Header(("2001:db8::1", 0), ("::1", 65535))),
        (b"PROXY TCP6 2001:DB8:0::1 ::1 1 1\r\n", Header(("2001:db8::1", 1), ("::1", 1))),
        (b"PROXY UNKNOWN\r\n", NOTHING),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", NOTHING),
        (version_2(0x11, ipv4()), TOLD),
        (version_2(0x11, ipv4(b"\x03\x00\x04abcd")), TOLD),
        (version_2(0x21, bytes(15) + b"\x01" + bytes(15) + b"\x02\x00\x05\x00\x06"), Header(("::1", 5), ("::2", 6))),
        (version_2(0x00, b"", command=0x20), NOTHING),
        (version_2(0x11, ipv4(), command=0x20), NOTHING),
        (version_2(0x00, b"whatever"), NOTHING),
        (version_2(0x12, ipv4()), NOTHING),
        (version_2(0x31, bytes(216)), NOTHING),
    ],
)
@pytest.mark.parametrize("tail", [b"", b"GET / HTTP/1.1\r\n", b"\r\n", b"\x16\x03\x01"])
def test_header_is_read_and_nothing_behind_it(data: bytes, header: Header, tail: bytes) -> None:
    assert read(data + tail) == (header, tail)


@given(addresses=addresses, source=ports, destination=ports, tail=st.binary(max_size=300))
def test_what_one_writes_the_other_reads(
    addresses: tuple[IPv4Address | IPv6Address, ...], source: int, destination: int, tail: bytes
) -> None:
    here, there = addresses
    header = Header((str(here), source), (str(there), destination))
    line = f"PROXY TCP{here.version} {here} {there} {source} {destination}\r\n".encode()
    assert read(line + tail) == (header, tail)
    packed = here.packed + there.packed + source.to_bytes(2, "big") + destination.to_bytes(2, "big")
    binary = version_2(0x11 if here.version == 4 else 0x21, packed + tail)
    assert read(binary + tail) == (header, tail)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00\x00",
        b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r \r\n",
        b"PROXY UNKNOWN a\nb\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 -2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 \u0661 2\r\n".encode(),
        b"PROXY " + b"x" * LONGEST_LINE,
        b"PROXY UNKNOWN " + b"x" * (LONGEST_LINE - 15) + b"\r\n",
        SIGNATURE[:-1] + b"x" + bytes(4),
        version_2(0x11, ipv4(), command=0x11),
        version_2(0x11, ipv4(), command=0x22),
        version_2(0x41, ipv4()),
        version_2(0x11, ipv4()[:-1]),
        version_2(0x21, ipv4()),
        version_2(0x11, b"", length=LONGEST_REST + 1),
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        read(data)


def test_longest_line_is_taken() -> None:
    data = b"PROXY UNKNOWN " + b"x" * (LONGEST_LINE - 16) + b"\r\n"
    assert len(data) == LONGEST_LINE
    assert read(data) == (NOTHING, b"")


def test_more_than_the_header_is_refused() -> None:
    with pytest.raises(Malformed):
        parse(version_2(0x00, b"") + b"x")


@given(start=st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 1", SIGNATURE, SIGNATURE + b"\x21\x11"]), rest=st.binary())
@example(start=b"", rest=b"")
def test_any_bytes_are_a_header_or_none_within_bounds(start: bytes, rest: bytes) -> None:
    data = start + rest
    try:
        _, left = read(data)
    except Malformed:
        return
    except EOFError:
        # It could still become one, so it is the beginning of one, and short.
        assert data.startswith((b"PROXY ", SIGNATURE)) or len(data) < SHORTEST
        assert len(data) <= 16 + LONGEST_REST
        return
    assert len(data) - len(left) <= 16 + LONGEST_REST
