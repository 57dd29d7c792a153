import pytest

from gateway.config import load
from gateway.explain import explain

SETTINGS = load(
    {
        "SERVICE1_URL": "http://service1:8001",
        "SERVICE2_URL": "https://service2/v2",
        "SERVICE2_PREFIX": "/mail",
        "SERVICE2_UPSTREAM_PREFIX": "/",
        "SERVICE2_TIMEOUT": "2",
        "SERVICE2_DEADLINE": "1m",
        "SERVICE2_PRESERVE_HOST": "false",
        "GATEWAY_TRUSTED_PROXIES": "10.0.0.0/8",
    },
    dotenv=None,
)


def test_whole_explanation() -> None:
    told = explain(SETTINGS, "GET", "/api/service1/a%2Fb?x=1", received=[("Accept", "*/*"), ("TE", "gzip")])
    assert (
        told
        == """\
GET /api/service1/a%2Fb?x=1
route     service1, by its prefix /api/service1
backend   http://service1:8001
request   GET /api/a%2Fb?x=1 HTTP/1.1

headers   = as the client sent it, + added, - dropped
  = Host: localhost:8000
  = Accept: */*
  + x-forwarded-for: 127.0.0.1
  + x-forwarded-host: localhost:8000
  + x-forwarded-proto: http
  + x-forwarded-prefix: /api/service1
  + via: 1.1 api-gateway
  + x-request-id: (made for each request)
  - TE: gzip
  - whatever Connection names, and always: connection, http2-settings, keep-alive,
    proxy-authenticate, proxy-authentication-info, proxy-authorization, proxy-connection, te,
    transfer-encoding, upgrade

clocks
       5 s  to connect, as a part of the next: 503 where refused, 504 out of time
      30 s  for the head of the backend's answer: 504
      30 s  between two pieces of its body: the answer is cut
      60 s  for the client, each time: 408, or the answer is cut
  no limit  for the whole exchange: 504, or the answer is cut"""
    )


def test_service_with_settings_of_its_own() -> None:
    told = explain(SETTINGS, "POST", "http://gateway.example/mail/send?#here")
    assert "request   POST /v2/send? HTTP/1.1\n" in told
    assert "  - Host: gateway.example\n" in told
    assert "  + host: service2\n" in told
    assert "  + x-forwarded-host: gateway.example\n" in told
    assert "\n       2 s  to connect" in told
    assert "\n      60 s  for the whole exchange" in told


def test_url_without_path_is_asked_for_its_root() -> None:
    assert "404 not_found" in explain(SETTINGS, "GET", "http://gateway.example?x")


def test_forwarding_headers_of_a_trusted_proxy_are_appended_to() -> None:
    received = [("X-Forwarded-For", "192.0.2.7"), ("X-Request-ID", "abc")]
    told = explain(SETTINGS, "GET", "/mail", received=received, client="10.0.0.1")
    assert "  + x-forwarded-for: 192.0.2.7, 10.0.0.1\n" in told
    assert "  + x-request-id: abc\n" in told


@pytest.mark.parametrize("url", ["/health", "/api/gateway/status"])
def test_gateways_own_path_goes_nowhere(url: str) -> None:
    assert explain(SETTINGS, "GET", url).splitlines()[1].startswith("route     the gateway's own")


@pytest.mark.parametrize(
    ("method", "url", "refusal"),
    [
        ("GET", "/api/service1/../x", "refused   400 bad_request"),
        ("GET", "/api/service1/ä", "refused   400 bad_request"),
        ("GET", "/api/service1/\udcff", "refused   400 bad_request"),
        ("GET", "/api/service1x/y", "refused   404 not_found"),
        ("CONNECT", "service1:8001", "refused   501 not_implemented"),
    ],
)
def test_refusal_is_told_with_its_status(method: str, url: str, refusal: str) -> None:
    assert explain(SETTINGS, method, url).splitlines()[1].startswith(refusal)


def test_unknown_path_is_told_the_prefixes_there_are() -> None:
    assert explain(SETTINGS, "GET", "/").splitlines()[2] == "prefixes  /api/service1, /mail"


def test_ambiguous_framing_is_refused() -> None:
    received = [("Content-Length", "1"), ("Transfer-Encoding", "chunked")]
    assert "refused   400" in explain(SETTINGS, "POST", "/mail", received=received)


def test_asterisk_is_for_options_alone() -> None:
    settings = load({"SERVICE1_URL": "http://a"}, dotenv=None)
    assert "refused   400" in explain(settings, "GET", "*")
    assert "the gateway's own" in explain(settings, "OPTIONS", "*")
