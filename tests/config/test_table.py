import dataclasses

import pytest

from gateway.config import Service, Settings, gateway_variables, service_variables
from gateway.config.table import stem


def test_service_made_in_code_has_the_defaults_of_the_table() -> None:
    service = Service(name="service1", host="service1", port=8001)
    assert service.prefix == "/api/service1"
    assert service.upstream_prefix == "/api"
    assert (service.timeout, service.connect_timeout, service.deadline) == (30, 5, None)
    assert service.preserve_host is True
    assert Settings(services=(service,)).port == 8000


def test_settings_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc] # that it cannot be assigned is what is tested


def test_connect_timeout_is_a_part_of_the_timeout() -> None:
    assert Service(name="a", host="a", port=80, timeout=2).connect_timeout == 2


@pytest.mark.parametrize(
    ("scheme", "host", "port", "authority", "origin"),
    [
        ("http", "a", 80, b"a", "http://a:80"),
        ("http", "a", 443, b"a:443", "http://a:443"),
        ("https", "a", 443, b"a", "https://a:443"),
        ("https", "::1", 8443, b"[::1]:8443", "https://[::1]:8443"),
        ("http", "10.0.0.1", 8001, b"10.0.0.1:8001", "http://10.0.0.1:8001"),
    ],
)
def test_authority_leaves_the_default_port_out_and_origin_never(
    scheme: str, host: str, port: int, authority: bytes, origin: str
) -> None:
    service = Service(name="a", scheme=scheme, host=host, port=port)
    assert service.authority == authority
    assert service.origin == origin


def test_path_of_the_url_stands_before_the_upstream_prefix() -> None:
    assert Service(name="a", host="a", port=80, base_path="/v1").upstream_path == "/v1/api"
    assert Service(name="a", host="a", port=80, base_path="/v1", upstream_prefix="").upstream_path == "/v1"


def test_variables_are_named_after_the_service() -> None:
    assert stem("order-desk") == "ORDER_DESK_"
    assert [row.name for row in service_variables(stem("order-desk"))][:2] == ["ORDER_DESK_URL", "ORDER_DESK_PREFIX"]


def test_every_variable_of_the_contract_is_in_the_table() -> None:
    gateway = (
        "HOST PORT TIMEOUT CONNECT_TIMEOUT CLIENT_TIMEOUT MAX_BODY_SIZE LOG_LEVEL LOG_FORMAT WORKERS TLS_CERT TLS_KEY "
        "HEALTH_INTERVAL HEALTH_TIMEOUT DRAIN_DELAY DRAIN_TIMEOUT TRUSTED_PROXIES PROXY_PROTOCOL ADMIN_HOST "
        "ADMIN_PORT SERVICES"
    )
    service = (
        "URL PREFIX UPSTREAM_PREFIX TIMEOUT DEADLINE PRESERVE_HOST CA_FILE CLIENT_CERT CLIENT_KEY HEALTH_PATH "
        "MAX_CONNECTIONS"
    )
    assert [row.name for row in gateway_variables()] == [f"GATEWAY_{name}" for name in gateway.split()]
    assert [row.name for row in service_variables("")] == service.split()
