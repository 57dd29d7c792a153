import ipaddress
from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme

from gateway.config import ConfigError, Fault, Service, Settings, load

ONE = {"SERVICE1_URL": "http://service1:8001"}


def faults(environ: Mapping[str, str]) -> dict[str, str]:
    """What is expected, by variable."""
    with pytest.raises(ConfigError) as raised:
        load(environ, dotenv=None)
    assert len({fault.variable for fault in raised.value.faults}) == len(raised.value.faults), raised.value
    return {fault.variable: fault.expected for fault in raised.value.faults}


@pytest.mark.requirement("FR-011")
def test_one_url_is_a_configuration_with_every_default() -> None:
    assert load(ONE, dotenv=None) == Settings(services=(Service(name="service1", host="service1", port=8001),))


@pytest.mark.requirement("FR-011")
def test_every_variable_is_read(tmp_path: Path) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("gateway.example")
    ca, cert, key = (str(tmp_path / name) for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(ca)
    leaf.cert_chain_pems[0].write_to_path(cert)
    leaf.private_key_pem.write_to_path(key)
    environ = {
        "GATEWAY_HOST": "::1",
        "GATEWAY_PORT": "8443",
        "GATEWAY_TIMEOUT": "20",
        "GATEWAY_CONNECT_TIMEOUT": "500ms",
        "GATEWAY_CLIENT_TIMEOUT": "1m",
        "GATEWAY_MAX_BODY_SIZE": "1024",
        "GATEWAY_LOG_LEVEL": "debug",
        "GATEWAY_LOG_FORMAT": "text",
        "GATEWAY_WORKERS": "0",
        "GATEWAY_TLS_CERT": cert,
        "GATEWAY_TLS_KEY": key,
        "GATEWAY_HEALTH_INTERVAL": "3",
        "GATEWAY_HEALTH_TIMEOUT": "1.5",
        "GATEWAY_DRAIN_DELAY": "5",
        "GATEWAY_DRAIN_TIMEOUT": "0",
        "GATEWAY_TRUSTED_PROXIES": "10.0.0.0/8",
        "GATEWAY_PROXY_PROTOCOL": "true",
        "GATEWAY_ADMIN_HOST": "0.0.0.0",
        "GATEWAY_ADMIN_PORT": "9000",
        "GATEWAY_SERVICES": "order-desk,mail",
        "ORDER_DESK_URL": "https://orders.example/v1",
        "ORDER_DESK_PREFIX": "/orders/",
        "ORDER_DESK_UPSTREAM_PREFIX": "/",
        "ORDER_DESK_TIMEOUT": "2m",
        "ORDER_DESK_DEADLINE": "5m",
        "ORDER_DESK_PRESERVE_HOST": "no",
        "ORDER_DESK_CA_FILE": ca,
        "ORDER_DESK_CLIENT_CERT": cert,
        "ORDER_DESK_CLIENT_KEY": key,
        "ORDER_DESK_HEALTH_PATH": "/healthz?full=1",
        "ORDER_DESK_MAX_CONNECTIONS": "100",
        "MAIL_URL": "http://mail:25",
    }
    orders = Service(
        name="order-desk",
        scheme="https",
        host="orders.example",
        port=443,
        base_path="/v1",
        prefix="/orders",
        upstream_prefix="",
        timeout=120,
        connect_timeout=0.5,
        deadline=300,
        preserve_host=False,
        ca_file=ca,
        client_cert=cert,
        client_key=key,
        health_path="/healthz?full=1",
        max_connections=100,
    )
    assert load(environ, dotenv=None) == Settings(
        host="::1",
        port=8443,
        timeout=20,
        connect_timeout=0.5,
        client_timeout=60,
        max_body_size=1024,
        log_level="DEBUG",
        log_format="text",
        workers=0,
        tls_cert=cert,
        tls_key=key,
        health_interval=3,
        health_timeout=1.5,
        drain_delay=5,
        drain_timeout=0,
        trusted_proxies=(ipaddress.ip_network("10.0.0.0/8"),),
        proxy_protocol=True,
        admin_host="0.0.0.0",
        admin_port=9000,
        services=(orders, Service(name="mail", host="mail", port=25, timeout=20, connect_timeout=0.5)),
    )


@pytest.mark.requirement("SC-005")
def test_third_service_needs_variables_alone() -> None:
    environ = {f"SERVICE{n}_URL": f"http://service{n}:800{n}" for n in (1, 2, 3)}
    assert [service.prefix for service in load(environ, dotenv=None).services] == [
        "/api/service1",
        "/api/service2",
        "/api/service3",
    ]


def test_numbered_services_come_in_numeric_order() -> None:
    environ = {f"SERVICE{n}_URL": "http://a" for n in (10, 2, 1)}
    assert [service.name for service in load(environ, dotenv=None).services] == ["service1", "service2", "service10"]


def test_stray_url_never_becomes_a_route() -> None:
    stray = {
        "DATABASE_URL": "postgres://u:p@db",
        "SERVICEX_URL": "http://x",
        "MYSERVICE1_URL": "http://x",
        "SERVICE_URL": "x",
    }
    settings = load(ONE | stray, dotenv=None)
    assert [service.name for service in settings.services] == ["service1"]
    assert settings.warnings == ()


def test_empty_value_counts_as_none() -> None:
    assert load(ONE | {"GATEWAY_PORT": " ", "GATEWAY_SERVICES": "", "SERVICE2_URL": ""}, dotenv=None) == load(
        ONE, dotenv=None
    )


def test_line_of_dotenv_that_says_nothing_is_a_fault_and_is_not_quoted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("# sound\nSERVICE1_URL=http://a:1\n\nthe secret = = 'x\nGATEWAY_PORT=80\n")
    with pytest.raises(ConfigError) as caught:
        load({}, dotenv=dotenv)
    assert f"{dotenv}, line 4: 'unreadable'; expected NAME=value" in str(caught.value)
    assert len(caught.value.faults) == 1
    assert "secret" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_environment_wins_over_dotenv(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text(
        "GATEWAY_PORT=1111\nGATEWAY_TIMEOUT='7'  # seconds\nexport SERVICE1_URL=http://b\n", encoding="utf-8"
    )
    settings = load({"GATEWAY_PORT": "2222"}, dotenv=dotenv)
    assert (settings.port, settings.timeout, settings.services[0].host) == (2222, 7, "b")


def test_dotenv_of_the_working_directory_and_the_process_environment_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("SERVICE77_URL=http://from-file\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERVICE78_URL", "http://from-environment")
    assert [service.host for service in load().services][-2:] == ["from-file", "from-environment"]


def test_absent_dotenv_is_nothing(tmp_path: Path) -> None:
    assert load(ONE, dotenv=tmp_path / "nope") == load(ONE, dotenv=None)


def test_dotenv_that_is_no_text_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"GATEWAY_PORT=\xff\xfe\n")
    with pytest.raises(ConfigError) as raised:
        load(ONE, dotenv=tmp_path / ".env")
    assert raised.value.faults == (Fault(str(tmp_path / ".env"), "not UTF-8", "a readable file in UTF-8"),)


@pytest.mark.requirement("FR-011")
def test_every_fault_is_told_at_once_in_the_order_of_the_table() -> None:
    environ = {
        "GATEWAY_PORT": "70000",
        "GATEWAY_TIMEOUT": "-1",
        "GATEWAY_WORKERS": "-1",
        "GATEWAY_TLS_KEY": "/nowhere/key.pem",
        "GATEWAY_SERVICES": "a,b c,d",
        "A_URL": "http://user:secret@a",
        "A_PREFIX": "/health",
        "A_TIMEOUT": "0",
    }
    with pytest.raises(ConfigError) as raised:
        load(environ, dotenv=None)
    assert str(raised.value).splitlines() == [
        "GATEWAY_PORT: '70000'; expected a port, 1 to 65535",
        "GATEWAY_TIMEOUT: '-1'; expected a duration such as 30, 1.5, 500ms or 1m, above 0",
        "GATEWAY_WORKERS: '-1'; expected a whole number, 0 to 1024",
        "GATEWAY_TLS_CERT: not set; expected a PEM file, since GATEWAY_TLS_KEY is set: a certificate goes with its key",
        "GATEWAY_TLS_KEY: '/nowhere/key.pem'; expected a file that can be read (No such file or directory)",
        "GATEWAY_SERVICES: 'a,b c,d'; expected names of letters, digits and inner hyphens, comma-separated; not 'b c'",
        "A_URL: 'http://***@a'; expected a URL such as http://service1:8001, with no user name and password",
        "A_PREFIX: '/health'; expected a prefix that leaves /health to the gateway",
        "A_TIMEOUT: '0'; expected a duration such as 30, 1.5, 500ms or 1m, above 0",
        "D_URL: not set; expected the URL of d, which GATEWAY_SERVICES names, such as http://d:8001",
    ]


def test_no_service_is_a_fault() -> None:
    assert faults({}) == {"GATEWAY_SERVICES": "names of services that have a URL each, or a SERVICE1_URL"}


def test_misspelt_name_is_told_beside_the_fault_that_it_causes() -> None:
    with pytest.raises(ConfigError) as raised:
        load({"GATEWAY_SERVICE": "orders", "ORDERS_URL": "http://orders"}, dotenv=None)
    assert raised.value.warnings == (
        "GATEWAY_SERVICE is not a variable of the gateway; did you mean GATEWAY_SERVICES?",
    )


@pytest.mark.parametrize(
    "prefix", ["/health", "/livez", "/readyz/", "/api/gateway", "/api/gateway/x", "/api", "/health/x"]
)
def test_prefix_over_or_under_an_owned_path_is_a_fault(prefix: str) -> None:
    assert "to the gateway" in faults(ONE | {"SERVICE1_PREFIX": prefix})["SERVICE1_PREFIX"]


@pytest.mark.parametrize("prefix", ["/healthy", "/api/gateways", "/api/gatewa", "/Health", "/shop"])
def test_prefix_beside_an_owned_path_is_none(prefix: str) -> None:
    assert load(ONE | {"SERVICE1_PREFIX": prefix}, dotenv=None).services[0].prefix == prefix


def test_two_services_on_one_prefix_are_a_fault() -> None:
    environ = ONE | {"SERVICE2_URL": "http://b", "SERVICE2_PREFIX": "/api/service1/"}
    assert faults(environ) == {"SERVICE2_PREFIX": "a prefix of its own: service1 answers to this one"}


def test_prefix_that_cannot_be_read_is_one_fault_and_clashes_with_nothing() -> None:
    environ = ONE | {"SERVICE1_PREFIX": "//x", "SERVICE2_URL": "http://b", "SERVICE2_PREFIX": "//x"}
    assert set(faults(environ)) == {"SERVICE1_PREFIX", "SERVICE2_PREFIX"}


def test_prefix_within_another_prefix_is_none() -> None:
    environ = ONE | {"SERVICE2_URL": "http://b", "SERVICE2_PREFIX": "/api/service1/mail"}
    assert load(environ, dotenv=None).services[1].prefix == "/api/service1/mail"


def test_name_without_url_is_a_fault_and_its_other_variables_are_checked() -> None:
    assert set(faults({"GATEWAY_SERVICES": "a", "A_TIMEOUT": "soon"})) == {"A_URL", "A_TIMEOUT"}


@pytest.mark.parametrize("name", ["gateway", "Gateway", "gateway-client"])
def test_name_that_takes_the_gateways_own_variables_is_a_fault(name: str) -> None:
    assert "the gateway's own" in faults({"GATEWAY_SERVICES": name})["GATEWAY_SERVICES"]


@pytest.mark.parametrize(
    ("names", "variable"),
    [("a-b,A-B", "A_B_URL"), ("shop,shop-upstream", "SHOP_UPSTREAM_PREFIX"), ("s-upstream,s", "S_UPSTREAM_PREFIX")],
)
def test_names_with_a_variable_in_common_are_a_fault(names: str, variable: str) -> None:
    urls = {"A_B_URL": "http://a", "SHOP_URL": "http://a", "S_UPSTREAM_URL": "http://a"}
    with pytest.raises(ConfigError) as raised:
        load({"GATEWAY_SERVICES": names} | urls, dotenv=None)
    expected = f"names with variables of their own: {variable} would belong to both"
    assert raised.value.faults == (Fault("GATEWAY_SERVICES", names, expected),)


def test_only_one_of_certificate_and_key_is_a_fault(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "cert.pem"))
    environ = ONE | {"GATEWAY_TLS_CERT": str(tmp_path / "cert.pem"), "SERVICE1_CLIENT_KEY": str(tmp_path / "cert.pem")}
    assert set(faults(environ)) == {"GATEWAY_TLS_KEY", "SERVICE1_CLIENT_CERT"}


def test_key_that_belongs_to_another_certificate_is_a_fault(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "cert.pem"))
    authority.issue_cert("a").private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    environ = ONE | {"GATEWAY_TLS_CERT": str(tmp_path / "cert.pem"), "GATEWAY_TLS_KEY": str(tmp_path / "key.pem")}
    assert "the private key of that certificate" in faults(environ)["GATEWAY_TLS_KEY"]


@pytest.mark.parametrize("variable", ["SERVICE1_CA_FILE", "SERVICE1_CLIENT_CERT", "GATEWAY_TLS_CERT"])
def test_file_that_holds_no_certificate_is_a_fault(tmp_path: Path, variable: str) -> None:
    (tmp_path / "pem").write_text("nothing", encoding="utf-8")
    assert faults(ONE | {variable: str(tmp_path / "pem")})[variable] == "a PEM file with at least one certificate"


def test_key_given_as_text_is_a_fault_and_never_shown() -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----"
    with pytest.raises(ConfigError) as raised:
        load(ONE | {"GATEWAY_TLS_CERT": "/nope", "GATEWAY_TLS_KEY": pem}, dotenv=None)
    assert "c2VjcmV0" not in str(raised.value)
    assert "not the PEM text itself" in str(raised.value)


def test_admin_port_on_the_gateways_own_is_a_fault() -> None:
    assert faults(ONE | {"GATEWAY_ADMIN_PORT": "8000"}) == {"GATEWAY_ADMIN_PORT": "another port than GATEWAY_PORT"}


@pytest.mark.parametrize("text", ["http://user:s3cret@a", "http://user:s3cret", "user:s3cret@a", "//user:s3cret@a"])
def test_secret_in_any_variable_is_never_printed(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(
            dict.fromkeys(("GATEWAY_HOST", "GATEWAY_SERVICES", "GATEWAY_TRUSTED_PROXIES", "SERVICE1_URL"), text),
            dotenv=None,
        )
    assert "s3cret" not in f"{raised.value}{raised.value.faults}{raised.value.warnings}"


def test_connect_timeout_above_a_services_timeout_counts_as_equal() -> None:
    assert load(ONE | {"SERVICE1_TIMEOUT": "2"}, dotenv=None).services[0].connect_timeout == 2


@pytest.mark.parametrize(
    ("environ", "warning"),
    [
        ({"GATEWAY_TIMEUOT": "1"}, "GATEWAY_TIMEUOT is not a variable of the gateway; did you mean GATEWAY_TIMEOUT?"),
        ({"gateway_port": "1"}, "gateway_port is not a variable of the gateway; did you mean GATEWAY_PORT?"),
        ({"GATEWAY_XYZZY": "1"}, "GATEWAY_XYZZY is not a variable of the gateway"),
        ({"SERVICE1_TIMEUOT": "1"}, "SERVICE1_TIMEUOT is not a variable of a service; did you mean SERVICE1_TIMEOUT?"),
        (
            {"GATEWAY_SERVICES": "service1", "SERVICE2_URL": "http://b"},
            "SERVICE2_URL is set, but GATEWAY_SERVICES does not name service2",
        ),
        (
            {"GATEWAY_TIMEOUT": "2", "GATEWAY_CONNECT_TIMEOUT": "3"},
            "GATEWAY_CONNECT_TIMEOUT is more than GATEWAY_TIMEOUT, of which it is a part: it has no effect",
        ),
        (
            {"GATEWAY_PROXY_PROTOCOL": "yes"},
            "GATEWAY_PROXY_PROTOCOL is set without GATEWAY_TRUSTED_PROXIES, whose connections it is for: no effect",
        ),
    ],
)
def test_what_looks_like_a_mistake_is_a_warning(environ: dict[str, str], warning: str) -> None:
    assert load(ONE | environ, dotenv=None).warnings == (warning,)


def test_variable_of_a_service_is_no_misspelling_of_anothers() -> None:
    environ = {"GATEWAY_SERVICES": "a,a-b", "A_URL": "http://a", "A_B_URL": "http://b", "A_B_TIMEOUT": "3"}
    assert load(environ, dotenv=None).warnings == ()


def test_certificates_for_a_plain_url_are_a_warning(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    settings = load(ONE | {"SERVICE1_CA_FILE": str(tmp_path / "ca.pem")}, dotenv=None)
    assert settings.warnings == ("SERVICE1_URL begins with http://, so its certificates have no effect",)


def test_what_others_set_beside_a_service_is_no_mistake() -> None:
    kubernetes = {
        "GATEWAY_SERVICE_HOST": "10.0.0.1",
        "GATEWAY_SERVICE_PORT_HTTP": "80",
        "GATEWAY_PORT_80_TCP": "tcp://10.0.0.1:80",
        "GATEWAY_PORT_80_TCP_ADDR": "10.0.0.1",
        "SERVICE1_SERVICE_HOST": "10.0.0.2",
        "SERVICE1_PORT": "tcp://10.0.0.2:80",
        "SERVICE1_PASSWORD": "x",
    }
    assert load(ONE | kubernetes, dotenv=None).warnings == ()
