"""Routing: which route, which bytes for the backend, and what is refused."""

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import BadRequest, NoRoute
from gateway.routing import Match, Route, RouteTable, is_owned, split_target

SERVICE1 = Route("service1", b"/api/service1", b"/api")
SERVICE2 = Route("service2", b"/api/service2", b"/api")
ADMIN = Route("admin", b"/api/service1/admin/v2", b"/admin")
TABLE = RouteTable([SERVICE1, SERVICE2])
NESTED = RouteTable([SERVICE1, ADMIN, Route("deep", b"/api/service1/a/b/c", b"")])
EVERYTHING = RouteTable([Route("site", b"", b"")])


def upstream(target: bytes, table: RouteTable = TABLE) -> bytes:
    match = table.resolve(target)
    assert match is not None
    return match.target


# Which route


@pytest.mark.requirement("FR-001")
def test_service1_path_loses_its_service_segment() -> None:
    assert TABLE.resolve(b"/api/service1/orders?x=1") == Match(SERVICE1, b"/api/orders?x=1")


@pytest.mark.requirement("FR-002")
def test_service2_path_loses_its_service_segment() -> None:
    assert TABLE.resolve(b"/api/service2/notifications/7") == Match(SERVICE2, b"/api/notifications/7")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/api/service1", b"/api"),
        (b"/api/service1/", b"/api/"),
        (b"/api/service1?x", b"/api?x"),
        (b"/api/service1?", b"/api?"),
        (b"/api/service1?/../../x", b"/api?/../../x"),
    ],
)
def test_prefix_alone_becomes_the_upstream_prefix_alone(target: bytes, expected: bytes) -> None:
    assert upstream(target) == expected


@pytest.mark.parametrize(
    "target",
    b"""
        / /api /api/ /api/service1x/y /api/service /api/Service1/y /API/service1/y //api/service1/y
        /api//service1/y /api/%73ervice1/y /api%2Fservice1/y /api/service1%2Fy /api/service1;a=b
        /x/../api/service1/y /?/api/service1
    """.split(),
)
@pytest.mark.requirement("FR-007")
def test_target_that_no_prefix_begins_is_no_route(target: bytes) -> None:
    with pytest.raises(NoRoute):
        TABLE.resolve(target)


def test_longest_prefix_wins_whatever_the_order() -> None:
    for table in (RouteTable([SERVICE1, ADMIN]), RouteTable([ADMIN, SERVICE1])):
        assert table.resolve(b"/api/service1/admin/v2/x") == Match(ADMIN, b"/admin/x")
        assert table.resolve(b"/api/service1/admin/v2") == Match(ADMIN, b"/admin")
        assert table.resolve(b"/api/service1/admin/v22") == Match(SERVICE1, b"/api/admin/v22")
        assert table.resolve(b"/api/service1/admin") == Match(SERVICE1, b"/api/admin")


def test_shorter_prefix_of_the_same_length_as_another_is_still_found() -> None:
    table = RouteTable([Route("a", b"/aa", b""), Route("b", b"/bb", b""), Route("c", b"/a", b"")])
    assert [table.resolve(t) for t in (b"/aa/x", b"/bb/x", b"/a/x")] == [Match(r, b"/x") for r in table.routes]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/api/service1", b"/"),
        (b"/api/service1?x=1", b"/?x=1"),
        (b"/api/service1/", b"/"),
        (b"/api/service1//x", b"//x"),
    ],
)
def test_empty_upstream_prefix_leaves_the_root(target: bytes, expected: bytes) -> None:
    assert upstream(target, RouteTable([Route("service1", b"/api/service1", b"")])) == expected


def test_root_prefix_takes_everything_but_the_gateways_own() -> None:
    assert upstream(b"/", EVERYTHING) == b"/"
    assert upstream(b"/healthy", EVERYTHING) == b"/healthy"
    assert EVERYTHING.resolve(b"/health?x") is None
    assert EVERYTHING.resolve(b"*") is None


# The gateway's own


@pytest.mark.parametrize(
    "target",
    b"""
        /health /health?verbose /livez /readyz?verbose /api/gateway /api/gateway/status
        /api/gateway/nonsense http://gateway.example/health *
    """.split(),
)
@pytest.mark.requirement("FR-006")
def test_own_path_is_not_forwarded(target: bytes) -> None:
    assert RouteTable([Route("site", b"", b""), Route("api", b"/api", b"/api")]).resolve(target) is None


@pytest.mark.parametrize(
    "path", [b"/health/", b"/healthz", b"/Health", b"/api/gatewayx", b"/readyz/x", b"/api", b"/", b"*"]
)
def test_path_beside_the_gateways_own_is_not_owned(path: bytes) -> None:
    assert not is_owned(path)


def test_dot_segments_that_leave_the_gateways_own_paths_are_refused() -> None:
    with pytest.raises(BadRequest):
        TABLE.resolve(b"/api/gateway/../service1/x")


# Bytes kept


@pytest.mark.parametrize(
    "rest",
    [
        b"/a%2Fb",
        b"/a%2fb",
        b"/a%20b",
        b"//a///b",
        b"/a;b=c;d",
        b"/a?",
        b"/a??b?",
        b"/a?b=%2e%2e/../\\",
        b"/%",
        b"/%zz",
        b"/%c3%A9",
        b"/%00",
        b"/a%5Cb",
        b"/a\\b",
        b"/a|b^c`d{e}\"<f>'g'(h)!$&*+,=:@[i]~_-",
        b"/.well-known/x",
        b"/...",
        b"/..a/b..",
        b"/a.b/c..d",
        b"/%2e%2ex",
        b"/.%41/%252e.x",
        b"/x%25y%2525z",
    ],
)
@pytest.mark.requirement("FR-003")
def test_target_without_dot_segments_goes_on_byte_for_byte(rest: bytes) -> None:
    assert upstream(b"/api/service1" + rest) == b"/api" + rest


@pytest.mark.parametrize(
    "rest",
    b"""
        /a/../b /a/.. /a/../ /./a /. /a/%2e%2E/b /a/.%2e/b /a/%252e%252e/b /a/b/../../c /a/..;x=y/b
    """.split(),
)
def test_dot_segments_that_stay_inside_go_on_as_sent(rest: bytes) -> None:
    assert upstream(b"/api/service1" + rest) == b"/api" + rest


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([b"a", b"b.c", b"%41", b"%2F", b"..."]), min_size=1),
    st.sampled_from([b"", b"?", b"?q=/.."]),
)
def test_path_without_dot_segments_is_always_kept(segments: list[bytes], query: bytes) -> None:
    rest = b"/" + b"/".join(segments) + query
    assert upstream(b"/api/service1" + rest) == b"/api" + rest


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"a", b"bc", b".", b".."])))
def test_plain_dot_segments_pass_exactly_when_they_never_climb_out(segments: list[bytes]) -> None:
    depth = lowest = 0
    for segment in segments:
        depth += {b".": 0, b"..": -1}.get(segment, 1)
        lowest = min(lowest, depth)
    rest = b"".join(b"/" + segment for segment in segments)
    if lowest < 0:
        with pytest.raises(BadRequest):
            TABLE.resolve(b"/api/service1" + rest)
    else:
        assert upstream(b"/api/service1" + rest) == b"/api" + rest


# Unsafe paths


@pytest.mark.parametrize(
    "rest",
    rb"""
        /.. /../ /../service2/x /../service1/x /../../x /./../x /a/../../x /a/../../service1/x //../x
        /a//../../x /%2e%2e/x /%2E%2e/x /.%2e/x /%2e./x /a/%2e%2e/%2e%2e/x /%252e%252e/x /%25252e%25252e/x
        /%%32%65%%32%65/x /..\x /\..\x /a\..\..\x /..%5cx /%5c..%5cx /..%2fx /%2e%2e%2fx /..%252fx
        /a%2f../../x /a%2Fb/../../x /a\b/../../x /a%5Cb/%2e%2e/x /..;/x /..;a=b/x /%2e%2e;/x /..%3b/x
        /..%00/x /..%20/x /..%3fx/y /..%23
    """.split(),
)
def test_path_that_some_server_reads_as_outside_is_refused(rest: bytes) -> None:
    with pytest.raises(BadRequest):
        TABLE.resolve(b"/api/service1" + rest)


@pytest.mark.parametrize(
    "target",
    b"""
        /api/service1/x/../admin/v2 /api/service1/./admin/v2/y /api/service1/admin/./v2/y
        /api/service1/admin/x/%2e%2e/v2 /api/service1/x/%2e%2e/%61dmin/v2 /api/service1/.//admin/v2
        /api/service1/admin//../v2 /api/service1/x/..;/admin/v2/%252e%252e
        /api/service1/x/%2e%2e/admin/v2/y/%252e%252e/%2e%2e /api/service1/a/b/..;x/../c
        /api/service1/admin/v2/../x
    """.split(),
)
def test_dot_segments_that_lead_to_another_service_are_refused(target: bytes) -> None:
    with pytest.raises(BadRequest):
        NESTED.resolve(target)


def test_dot_segments_beside_a_nested_service_pass_where_they_do_not_lead_to_it() -> None:
    assert upstream(b"/api/service1/x/../admin/v1", NESTED) == b"/api/x/../admin/v1"
    assert upstream(b"/api/service1/admin/v2/x/../y", NESTED) == b"/admin/x/../y"


@pytest.mark.parametrize(
    "target",
    [b"/x/../health", b"/./livez", b"/api/./gateway/status", b"/health/.", b"/health/x/..", b"/x/%2e%2e/api//gateway"],
)
def test_dot_segments_that_lead_to_the_gateways_own_are_refused(target: bytes) -> None:
    with pytest.raises(BadRequest):
        EVERYTHING.resolve(target)


def test_path_encoded_five_times_is_refused_and_four_times_is_not() -> None:
    four = b"/a%25252520b"
    assert unquote_to_bytes(unquote_to_bytes(unquote_to_bytes(unquote_to_bytes(four)))) == b"/a b"
    assert upstream(b"/api/service1" + four) == b"/api" + four
    with pytest.raises(BadRequest, match="over and over"):
        TABLE.resolve(b"/api/service1/a%2525252520b")


def remove_dot_segments(path: bytes) -> bytes:
    """RFC 3986 section 5.2.4, letter for letter."""
    buffer, output = path, b""
    while buffer:
        if buffer.startswith(b"../"):
            buffer = buffer[3:]
        elif buffer.startswith((b"./", b"/./")):
            buffer = buffer[2:]
        elif buffer == b"/.":
            buffer = b"/"
        elif buffer.startswith(b"/../"):
            buffer, output = buffer[3:], output[: max(output.rfind(b"/"), 0)]
        elif buffer == b"/..":
            buffer, output = b"/", output[: max(output.rfind(b"/"), 0)]
        elif buffer in (b".", b".."):
            buffer = b""
        else:
            end = buffer.find(b"/", 1)
            end = len(buffer) if end < 0 else end
            output, buffer = output + buffer[:end], buffer[end:]
    return output


def test_oracle_agrees_with_the_examples_of_the_rfc() -> None:
    assert remove_dot_segments(b"/a/b/c/./../../g") == b"/a/g"
    assert remove_dot_segments(b"mid/content=5/../6") == b"mid/6"


def merge_slashes(path: bytes) -> bytes:
    while b"//" in path:
        path = path.replace(b"//", b"/")
    return path


def decode_dots(path: bytes) -> bytes:
    """Unreserved characters alone may be decoded without changing what a URI means: RFC 3986 section 6.2.2.2."""
    return path.replace(b"%2e", b".").replace(b"%2E", b".")


def as_servers_read(path: bytes) -> list[bytes]:
    """A path without dot segments, as one server or another would have it."""
    once = unquote_to_bytes(path)
    decoded = [
        path,
        decode_dots(path),
        once,
        decode_dots(once),
        unquote_to_bytes(once),
        unquote_to_bytes(unquote_to_bytes(once)),
    ]
    slashed = [*decoded, *(p.replace(b"\\", b"/") for p in decoded)]
    cut = [*slashed, *(b"/".join(s.partition(b";")[0] for s in p.split(b"/")) for p in slashed)]
    return [remove_dot_segments(p) for q in cut for p in (q, merge_slashes(q))]


def is_under(path: bytes, prefix: bytes) -> bool:
    return path == prefix or path.startswith(prefix + b"/")


DOTS = [b"..", b".", b"%2e", b"%2E", b"%252e", b"%32%65", b"%"]
SEPARATORS = [b"/", b"/", b"/", b"\\", b"%5c", b"%2f", b"%252F", b"%25", b";"]
NAMES = [b"a", b"admin", b"v2", b"%61dmin", b"service1", b"service2", b"api", b"health"]
PIECES = st.sampled_from([*DOTS, *SEPARATORS, *NAMES])
RESTS = st.lists(PIECES, max_size=14).map(lambda pieces: b"/" + b"".join(pieces))


@settings(deadline=None, max_examples=500)
@given(RESTS)
@example(b"/a%2fb/%2e%2e/%2e%2e/x")
@example(b"/a\\b/../../x")
@example(b"//../x")
@example(b"/..;/..;/x")
def test_whatever_passes_is_inside_the_upstream_prefix_for_every_reader(rest: bytes) -> None:
    try:
        target = upstream(b"/api/service1" + rest, RouteTable([Route("service1", b"/api/service1", b"/up/stream")]))
    except BadRequest:
        return
    assert target == b"/up/stream" + rest
    for path in as_servers_read(target):
        assert is_under(path, b"/up/stream"), path


@settings(deadline=None, max_examples=500)
@given(RESTS)
@example(b"/x/..;/admin/v2/%252e%252e/y")
def test_whatever_passes_with_dot_segments_is_its_own_routes_for_every_reader(rest: bytes) -> None:
    target = b"/api/service1" + rest
    try:
        match = NESTED.resolve(target)
    except BadRequest:
        return
    assert match is not None
    # A name may be spelled in two ways, and without dot segments a path belongs where its bytes say. What must not
    # depend on the reader is what dot segments do to it.
    dotted = any(segment.partition(b";")[0] in (b".", b"..") for segment in unquote_fully(target).split(b"/"))
    for reading in as_servers_read(target):
        assert is_under(reading, b"/api/service1"), reading
        if dotted:
            assert is_under(reading, ADMIN.prefix) == (match.route is ADMIN), reading


def unquote_fully(path: bytes) -> bytes:
    while (decoded := unquote_to_bytes(path)) != path:
        path = decoded
    return path.replace(b"\\", b"/")


# Forms and bytes of the target


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"http://gateway.example/api/service1/x?y", Match(SERVICE1, b"/api/x?y", b"gateway.example")),
        (b"https://gateway.example:8443/api/service1", Match(SERVICE1, b"/api", b"gateway.example:8443")),
        (b"HTTP://[2001:db8::1]:80/api/service1?", Match(SERVICE1, b"/api?", b"[2001:db8::1]:80")),
    ],
)
def test_absolute_form_is_matched_by_its_path(target: bytes, expected: Match) -> None:
    assert TABLE.resolve(target) == expected


def test_absolute_form_with_an_empty_path_is_the_root() -> None:
    assert EVERYTHING.resolve(b"http://h") == Match(EVERYTHING.routes[0], b"/", b"h")
    assert EVERYTHING.resolve(b"http://h?q") == Match(EVERYTHING.routes[0], b"/?q", b"h")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/a/b?c=d?e", (b"/a/b", b"c=d?e", None)),
        (b"/a?", (b"/a", b"", None)),
        (b"/a", (b"/a", None, None)),
        (b"*", (b"*", None, None)),
        (b"http://h/a?b", (b"/a", b"b", b"h")),
        (b"http://h", (b"/", None, b"h")),
    ],
)
def test_target_is_split_into_path_query_and_authority(
    target: bytes, expected: tuple[bytes, bytes | None, bytes | None]
) -> None:
    assert split_target(target) == expected


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"api/service1/x",
        b"?x",
        b"*/x",
        b"**",
        b"gateway.example:443",
        b"ftp://gateway.example/x",
        b"http:/api/service1/x",
        b"http:///api/service1/x",
        b"http://user@gateway.example/api/service1/x",
        b"/api/service1/x#y",
        b"/api/service1/x?y#",
        b"/api/service1/x y",
        b"/api/service1/x\ty",
        b"/api/service1/x\r\ny",
        b"/api/service1/x\x00",
        b"/api/service1/x\x7f",
        b"/api/service1/\xc3\xa9",
        b"/api/service1/x?\xff",
    ],
)
def test_target_that_is_no_request_target_is_refused(target: bytes) -> None:
    with pytest.raises(BadRequest):
        TABLE.resolve(target)
    with pytest.raises(BadRequest):
        split_target(target)


@settings(deadline=None)
@given(st.binary(max_size=30))
def test_any_bytes_are_matched_refused_or_unknown(target: bytes) -> None:
    try:
        match = EVERYTHING.resolve(target)
    except BadRequest:
        return
    assert match is None or match.target.startswith(b"/")


# The table itself


@pytest.mark.parametrize("prefix", [b"api", b"/api/", b"/", b"/health", b"/api/gateway", b"/api/gateway/x"])
def test_prefix_that_can_never_be_served_is_a_defect(prefix: bytes) -> None:
    with pytest.raises(ValueError, match="prefix"):
        RouteTable([Route("service1", prefix, b"/api")])


def test_upstream_prefix_with_a_trailing_slash_is_a_defect() -> None:
    with pytest.raises(ValueError, match="prefix"):
        RouteTable([Route("service1", b"/api/service1", b"/api/")])


def test_two_services_on_one_prefix_are_a_defect() -> None:
    with pytest.raises(ValueError, match="two services"):
        RouteTable([SERVICE1, Route("other", b"/api/service1", b"")])


def test_repr_tells_the_routes() -> None:
    assert repr(TABLE) == "<RouteTable /api/service1 -> service1, /api/service2 -> service2>"
    assert repr(EVERYTHING) == "<RouteTable / -> site>"
