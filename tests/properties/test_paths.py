"""Whatever a target looks like, the backend gets one that stays under its upstream prefix, or the client gets a 400.

Staying is judged by RFC 3986 section 5.2.4, written down here once more as it stands there, on every spelling that a
server may take a path for: as it came and percent-decoded, once and again until nothing changes; with backslashes for
slashes; with ``//`` merged; with ``;…`` cut off each segment; with all cut off behind a ``?``, a ``#`` or a NUL that
was encoded. So a target passes only if all of these stay.

The bound: bytes that only a broken decoder takes for a dot (overlong UTF-8, ``%u002e``) are no dots. They pass as sent.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from gateway.config import Service, Settings
from gateway.testing.backend import Connection

from .messages import Ask
from .profile import examples, run
from .strict import Message
from .world import Requests, Seen, Version, ask_gateway, world

ROUTES = {
    b"/api/service1": (b"/api", "service1"),
    b"/api/service1/admin": (b"/deep/er", "admin"),
    b"/api/rooted": (b"", "rooted"),
}
"""By prefix: the upstream prefix, the service."""
SETTINGS = Settings(
    services=tuple(
        Service(name=name, host=name, port=8001, prefix=prefix.decode(), upstream_prefix=upstream.decode())
        for prefix, (upstream, name) in ROUTES.items()
    )
)
LEGAL = re.compile(rb"[!\"$-~]+")


def remove_dot_segments(path: bytes) -> bytes:
    """RFC 3986 section 5.2.4, step by step."""
    left, output = path, b""
    while left:
        if left.startswith(b"../"):  # A
            left = left[3:]
        elif left.startswith((b"./", b"/./")):  # and B
            left = left[2:]
        elif left == b"/.":
            left = b"/"
        elif left.startswith(b"/../"):  # C
            left = left[3:]
            output = output[: max(output.rfind(b"/"), 0)]
        elif left == b"/..":
            left = b"/"
            output = output[: max(output.rfind(b"/"), 0)]
        elif left in (b".", b".."):  # D
            left = b""
        else:  # E
            end = left.find(b"/", 1)
            end = len(left) if end < 0 else end
            output, left = output + left[:end], left[end:]
    return output


def decodings(path: bytes) -> Iterator[bytes]:
    """The path as it is, and decoded as often as that changes anything."""
    before = None
    while path != before:
        yield path
        path, before = unquote_to_bytes(path), path


def readings(path: bytes) -> Iterator[bytes]:
    """What servers may take a path for, before they look for dot segments."""
    for decoded in decodings(path):
        for slashed in {decoded, decoded.replace(b"\\", b"/")}:
            for cut in {slashed, re.split(rb"[?#\0]", slashed)[0], re.sub(rb"[;?#\x00-\x20][^/]*", b"", slashed)}:
                yield cut
                yield re.sub(rb"//+", b"/", cut)


def stays_under(prefix: bytes, path: bytes) -> bool:
    return path == prefix or path.startswith(prefix + b"/")


def is_plain(path: bytes) -> bool:
    """Whether no reading has a dot segment: nothing then speaks against the path."""
    return all(remove_dot_segments(reading) == reading for reading in readings(path))


def owner(path: bytes) -> bytes | None:
    """The longest prefix that this path is under."""
    owners = [prefix for prefix in ROUTES if stays_under(prefix, path)]
    return max(owners, key=len, default=None)


@dataclass(frozen=True)
class Aim(Ask):
    """A request for any target at all."""

    at: bytes = b""

    @property
    def target(self) -> bytes:
        return self.at


async def aim(targets: list[bytes], version: Version) -> list[tuple[Seen, list[tuple[str, Message]]]]:
    """Ask for each, on a connection of its own: what the client saw, and which backends had what."""
    had: list[tuple[str, Message]] = []

    async def script(conn: Connection) -> None:
        requests = Requests(conn)
        while True:
            had.append((conn.local_address[0], await requests.next()))
            await conn.send(b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok")

    results = []
    async with world(script, SETTINGS, hosts=[name for _, name in ROUTES.values()]) as (gateway, _):
        for target in targets:
            had.clear()
            results.append((await ask_gateway(gateway, Aim(at=target), [], version), [*had]))
    return results


def judge(target: bytes, seen: Seen, had: list[tuple[str, Message]], version: Version) -> None:
    status = seen.final.status
    path = re.sub(rb"^https?://[^/?@]+", b"", target, flags=re.IGNORECASE) if version == 1 else target
    raw = path.partition(b"?")[0]
    prefix = owner(raw)
    if not had:
        event(f"{status}")
        assert status in (400, 404), f"{status}, but it reached no backend"
        if prefix is not None and LEGAL.fullmatch(target) and is_plain(raw.removeprefix(prefix)):
            decoded = len([*decodings(raw)])
            assert decoded > 5, "nothing speaks against it, but it was refused"
        return
    event("passed" if is_plain(raw) else "passed, with dot segments in it")
    ((service, got),) = had
    assert status == 200
    assert prefix is not None
    upstream, name = ROUTES[prefix]
    assert service == name
    rest = path.removeprefix(prefix)
    assert got.start[1] == upstream + (rest if upstream or rest.startswith(b"/") else b"/" + rest)
    upstream_path = got.start[1].partition(b"?")[0]
    for reading in readings(upstream_path):
        assert stays_under(upstream, remove_dot_segments(reading)), f"{reading!r} leaves {upstream!r}"
    # Nor do its dot segments make it another service's, for whoever normalises it before us or checks it after us.
    for reading in decodings(raw):
        normal = remove_dot_segments(reading)
        assert normal == reading or owner(normal) == prefix, f"{reading!r} is another service's"


shreds = st.sampled_from(
    [b"/"] * 8
    + [b"/a/b", b"/a/b", b"/..", b"/../", b"/./", b"/%2e%2E/", b"/.%2e", b"/%2e/x", b"//../", b"/a/../admin/"]
    + [b"..", b"..", b".", b"%2e", b"%2E%2e", b".%2e", b"%252e%252e", b"%25252e", b"%2525252e", b"%252525252e"]
    + [b"%2f", b"%2F", b"%252f", b"%5c", b"%255C", b"\\", b"..\\", b"//"]
    + [b";", b";x=1", b"..;", b"%3b", b"%00", b"%2500", b"%20", b"%09", b"%3f", b"%23", b"?", b"#", b"%", b"%2", b"%zz"]
    + [b"%c0%ae", b"%c0%af", b"%e0%80%ae", b"%u002e", b"\xc0\xae", b"\x01", b"\xff", b" ", b"\t", b"*", b"@", b":"]
    + [b"a", b"b.c", b"...", b".a", b"api", b"admin", b"service1", b"rooted"]
)
starts = st.sampled_from(
    [b"/api/service1", b"/api/service1/a", b"/api/service1/a/b/"] * 5
    + [b"/api/service1/admin", b"/api/rooted", b"/api/rooted", b"/api", b"", b"/", b"//gateway/api/service1"]
    + [b"/api/./service1", b"/x/../api/service1", b"/api/service1x", b"/API/service1", b"/api%2fservice1"]
    + [b"http://gateway/api/service1", b"HTTP://other:80/api/service1", b"http:/api/service1", b"https://a?/api"]
    + [b"ftp://gateway/api/service1", b"http://u@gateway/api/service1", b"/health", b"/api/gateway"]
)
targets = st.builds(lambda start, rest: start + b"".join(rest), starts, st.lists(shreds, max_size=8)).filter(
    lambda target: not re.match(rb"/health(\?|\Z)|/api/gateway(/|\?|\Z)|\*\Z", target) and target != b""
)


@pytest.mark.parametrize("version", [1, 2])
@examples(60)
@given(several=st.lists(targets, min_size=1, max_size=12))
@example(several=[b"/api/service1/a/../b", b"/api/service1/../x", b"/api/service1/%2e%2e/x", b"/api/service1/..;/x"])
@example(several=[b"/api/service1/..%5cx", b"/api/service1/%252e%252e/x", b"/api/service1/a//../../x"])
@example(several=[b"/api/service1/a%2f../x", b"/api/service1/a%2f../../x", b"/api/service1/a;/../../x"])
@example(several=[b"/api/service1/x/../admin/y", b"/api/service1/admin/../y", b"/api/service1/%61dmin"])
@example(several=[b"/api/service1/..%00/x", b"/api/service1/a%3f/../../x", b"/api/service1/%2e%2e%3fx"])
def test_target_stays_under_its_upstream_prefix_or_is_refused(version: Version, several: list[bytes]) -> None:
    for target, (seen, had) in zip(several, run(aim, several, version), strict=True):
        judge(target, seen, had, version)
