import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import values


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30.0), ("1.5", 1.5), ("500ms", 0.5), ("1m", 60.0), ("90s", 90.0), ("2h", 7200.0), ("0.25", 0.25)],
)
def test_duration_in_each_unit_is_seconds(text: str, seconds: float) -> None:
    assert values.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["0", "0ms", "0.0", "-1", "+1", "inf", "nan", "1e3", "1_000", "1d", "1 m", ".5", "5.", "ms", "٣", "9" * 10, "1M"],
)
def test_what_is_no_duration_above_zero_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="above 0"):
        values.duration(text)


def test_zero_is_a_duration_where_it_may_be() -> None:
    assert values.duration_or_zero("0") == 0
    with pytest.raises(ValueError, match="or 0"):
        values.duration_or_zero("-1")


def test_off_is_no_deadline_and_zero_is_not() -> None:
    assert values.duration_or_off("OFF") is None
    assert values.duration_or_off("2m") == 120
    with pytest.raises(ValueError, match="above 0; or off"):
        values.duration_or_off("0")


@pytest.mark.parametrize("text", ["1", "443", "65535"])
def test_port_in_range_is_taken(text: str) -> None:
    assert values.port(text) == int(text)


@pytest.mark.parametrize("text", ["0", "65536", "-1", "70000", "http", "80a", "\uff18\uff10", "1" * 5000])
def test_port_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a port, 1 to 65535$"):
        values.port(text)


def test_port_set_by_a_kubernetes_service_link_is_explained() -> None:
    with pytest.raises(ValueError, match="enableServiceLinks"):
        values.port("tcp://10.96.0.12:80")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("Yes", True),
        ("ON", True),
        ("1", True),
        ("false", False),
        ("No", False),
        ("off", False),
        ("0", False),
    ],
)
def test_boolean_spellings(text: str, value: bool) -> None:  # noqa: FBT001 - the value is what is tested
    assert values.boolean(text) is value


@pytest.mark.parametrize("text", ["2", "y", "enabled", "truthy"])
def test_other_words_are_no_boolean(text: str) -> None:
    with pytest.raises(ValueError, match="true or false"):
        values.boolean(text)


def test_integer_keeps_its_bounds() -> None:
    assert values.integer(0, 4)("4") == 4
    for text in ("5", "-1", "1.0", "", "0x1", "1_0"):
        with pytest.raises(ValueError, match="a whole number, 0 to 4"):
            values.integer(0, 4)(text)
    with pytest.raises(ValueError, match="1 or more"):
        values.integer(1)("0")


def test_choice_takes_any_case_and_gives_the_listed_word() -> None:
    assert values.choice("INFO", "DEBUG")("debug") == "DEBUG"
    with pytest.raises(ValueError, match="one of INFO, DEBUG"):
        values.choice("INFO", "DEBUG")("verbose")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("0.0.0.0", "0.0.0.0"),
        ("::", "::"),
        ("[::1]", "::1"),
        ("localhost", "localhost"),
        ("my_service", "my_service"),
        ("orders.shop.svc.cluster.local.", "orders.shop.svc.cluster.local."),
        ("1st.example", "1st.example"),
    ],
)
def test_host_is_a_name_or_an_address(text: str, host: str) -> None:
    assert values.host(text) == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://x",
        "x:80",
        "a b",
        "-a",
        "a..b",
        "bücher",
        "1.2.3",
        "300.0.0.1",
        "[127.0.0.1]",
        "fe80::1%eth0",
        "[x",
        "a/b",
    ],
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a host name or an IP address"):
        values.host(text)


@pytest.mark.parametrize(
    ("text", "host"),
    [("[::1]", "::1"), ("unix:/run/gateway.sock", "unix:/run/gateway.sock"), ("unix:/" + "x" * 106, None)],
)
def test_address_to_listen_on_may_be_a_socket_in_the_file_system(text: str, host: str | None) -> None:
    assert values.bind_host(text) == (host or text)


@pytest.mark.parametrize(
    "text", ["unix:", "unix:gateway.sock", "unix:/a\0b", "unix:/" + "x" * 107, "unix:/" + "ü" * 54]
)
def test_path_that_no_socket_can_have_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"such as unix:/run/gateway\.sock"):
        values.bind_host(text)


def test_address_to_listen_on_that_is_none_may_have_been_meant_for_a_socket() -> None:
    with pytest.raises(ValueError, match=r"a host name or an IP address.*; or unix: and the path"):
        values.bind_host("/run/gateway.sock")


@pytest.mark.parametrize(
    ("text", "path"), [("/api", "/api"), ("/api/", "/api"), ("/a/.b/...", "/a/.b/..."), ("/a;b=1", "/a;b=1")]
)
def test_path_loses_its_trailing_slash_alone(text: str, path: str) -> None:
    assert values.path(text) == path


@pytest.mark.parametrize(
    "text",
    [
        "api",
        "",
        "/a//b",
        "//a",
        "/a//",
        "/./a",
        "/a/..",
        "/a/../b",
        "/%61",
        "/a?b",
        "/a#b",
        "/a b",
        "/ä",
        "/a\\b",
        "/a\n",
    ],
)
def test_unsafe_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a path"):
        values.path(text)


def test_root_is_an_upstream_prefix_and_no_prefix() -> None:
    assert values.path_or_root("/") == ""
    with pytest.raises(ValueError, match="/ alone"):
        values.path("/")


def test_health_path_may_carry_a_query_and_keeps_its_slash() -> None:
    assert values.health_path("/healthz/?full=1&x=%20") == "/healthz/?full=1&x=%20"
    with pytest.raises(ValueError, match="query"):
        values.health_path("/health?a#b")
    with pytest.raises(ValueError, match=re.escape("a ?query may follow")):
        values.health_path("health")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://service1:8001", ("http", "service1", 8001, "")),
        ("http://service1", ("http", "service1", 80, "")),
        ("HTTPS://service1/", ("https", "service1", 443, "")),
        ("https://[fd00::1]:8443/v1/", ("https", "fd00::1", 8443, "/v1")),
        ("http://10.0.0.1:1/a/b", ("http", "10.0.0.1", 1, "/a/b")),
    ],
)
def test_url_is_taken_apart(text: str, url: tuple[str, str, int, str]) -> None:
    assert values.url(text) == url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("service1:8001", "begins with http:// or https://"),
        ("//service1", "begins with http:// or https://"),
        ("ftp://service1", "begins with http:// or https://"),
        ("http:/service1", "begins with http:// or https://"),
        ("http://", "a host name"),
        ("http://:80", "a host name"),
        ("http://a b", "a host name"),
        ("http://a\tb", "a host name"),
        ("http://fd00::1", "a host name"),
        ("http://[fd00::1", "a host name"),
        ("http://[fd00::1]x", "a host name"),
        ("http://a:0", "a port, 1 to 65535"),
        ("http://a:99999", "a port, 1 to 65535"),
        ("http://a:", "a port, 1 to 65535"),
        ("http://a:8o", "a port, 1 to 65535"),
        ("http://user@a", "no user name and password"),
        ("http://user:pa/ss@a", "no user name and password"),
        ("http://a?b=c", "no query"),
        ("http://a/?", "no query"),
        ("http://a#b", "no fragment"),
        ("http://a/b/../c", "a path without"),
        ("http://a/%62", "a path of plain characters"),
    ],
)
def test_url_that_cannot_be_used_is_refused_with_the_reason(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        values.url(text)


def test_url_with_many_faults_tells_them_all() -> None:
    with pytest.raises(
        ValueError, match="no user name and password, no query, no fragment, a port, 1 to 65535, a path"
    ):
        values.url("http://u:p@a:0//b?c#d")


def test_networks_and_single_addresses() -> None:
    assert values.networks("10.0.0.0/8, ::1") == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128"))


@pytest.mark.parametrize("text", ["10.0.0.0/33", "*", "localhost", "10.0.0.0/8,", "10.0.0.0/8 ::1"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape("networks such as 10.0.0.0/8")):
        values.networks(text)


def test_network_with_host_bits_is_refused_with_a_hint() -> None:
    with pytest.raises(ValueError, match=re.escape("did you mean 10.0.0.0/8?")):
        values.networks("10.1.2.3/8")


def test_names_are_split_and_kept_in_order() -> None:
    assert values.names("orders, order-desk,2nd") == ("orders", "order-desk", "2nd")


@pytest.mark.parametrize("text", ["a_b", "a,,b", "-a", "a-", "a b", "ä", "a/b", "a,"])
def test_ill_formed_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="letters, digits and inner hyphens"):
        values.names(text)


def test_name_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="a comes twice"):
        values.names("a,b,a")


def test_good_names_among_bad_ones_are_found() -> None:
    assert values.well_formed_names("a, b_c, d,a") == ("a", "d")


def test_pem_text_is_no_path() -> None:
    with pytest.raises(ValueError, match="not the PEM text itself"):
        values.file("-----BEGIN PRIVATE KEY-----\nMIIE")
    assert values.file("/run/tls/key.pem") == "/run/tls/key.pem"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("70000", "70000"),
        ("/api/x?y", "/api/x?y"),
        ("http://a:1/b", "http://a:1/b"),
        ("http://user:secret@a:1/b", "http://***@a:1/b"),
        ("http://secret@a", "http://***@a"),
        ("http://user:se@cret/@x?y@a:1", "http://***@a:1"),
        ("user:secret@a", "***@a"),
        ("http://a/?token=secret", "http://a/?***"),
        ("http://a/#secret", "http://a/#***"),
        ("http://user:secret", "http://user:***"),
        ("http://user:secret/path", "http://user:***/path"),
        ("-----BEGIN PRIVATE KEY-----\nsecret", "-----BEGIN … (hidden)"),
        ("a\nb\x1b[0m\udcff", "a�b�[0m�"),
        ("x" * 201, "x" * 200 + "…"),
    ],
)
def test_printable_hides_secrets_and_stays_on_one_line(text: str, shown: str) -> None:
    assert values.printable(text) == shown


@given(
    user=st.text(min_size=1).filter(lambda text: "@" not in text),
    secret=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1).map(lambda text: f"(s3cret{text})"),
    rest=st.from_regex(r"[a-z]{1,9}(:[0-9]{1,5})?(/[a-z]*)?", fullmatch=True),
)
def test_no_password_is_ever_shown(user: str, secret: str, rest: str) -> None:
    text = f"http://{user}:{secret}@{rest}"
    assert "s3cret" not in values.printable(text)
    with pytest.raises(ValueError, match="with") as raised:
        values.url(text)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        ((), "none"),
        (True, "`true`"),
        (30.0, "`30`"),
        (0.5, "`0.5`"),
        (8000, "`8000`"),
        ("json", "`json`"),
    ],
)
def test_defaults_are_written_as_one_would_set_them(value: object, text: str) -> None:
    assert values.text_of(value) == text
