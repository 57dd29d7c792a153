"""The tree of failures: what its drawing says is what the classes say."""

import inspect
import json
import re
from collections.abc import Iterator

import pytest

from gateway import errors
from gateway.errors import Cause, GatewayError, MethodNotAllowed, Phase

# RFC 9209 section 2.3, the error types that are registered there.
PROXY_ERROR_TYPES = {
    "dns_timeout",
    "dns_error",
    "destination_not_found",
    "destination_unavailable",
    "destination_ip_prohibited",
    "destination_ip_unroutable",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
    "connection_read_timeout",
    "connection_write_timeout",
    "connection_limit_reached",
    "tls_protocol_error",
    "tls_certificate_error",
    "tls_alert_received",
    "http_request_error",
    "http_request_denied",
    "http_response_incomplete",
    "http_response_header_section_size",
    "http_response_header_size",
    "http_response_body_size",
    "http_response_trailer_section_size",
    "http_response_trailer_size",
    "http_response_transfer_coding",
    "http_response_content_coding",
    "http_response_timeout",
    "http_upgrade_failed",
    "http_protocol_error",
    "proxy_internal_response",
    "proxy_internal_error",
    "proxy_configuration_error",
    "proxy_loop_detected",
}


def failures(of: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    for failure in of.__subclasses__():
        yield failure
        yield from failures(failure)


ALL = list(failures())


def test_drawing_shows_every_failure_with_its_status_below_its_parent() -> None:
    drawing = inspect.getdoc(errors) or ""
    drawn: dict[str, tuple[int, str | None]] = {}
    for line in drawing.splitlines():
        match = re.match(r"([\s│├└─]*)([A-Z]\w+)(?: +(\d{3}))?", line)
        if match and ("─" in match[1]):
            drawn[match[2]] = (len(match[1]), match[3])
    assert set(drawn) == {failure.__name__ for failure in ALL}
    for failure in ALL:
        depth, status = drawn[failure.__name__]
        parent = failure.__bases__[0]
        assert depth > drawn.get(parent.__name__, (0, None))[0]
        if status is not None:
            assert int(status) == failure.status


@pytest.mark.parametrize("failure", ALL, ids=lambda failure: failure.__name__)
def test_failure_is_of_the_registered_kind_and_blames_who_its_status_blames(failure: type[GatewayError]) -> None:
    assert failure.proxy_error in PROXY_ERROR_TYPES
    assert failure.cause in Cause
    assert re.fullmatch("[a-z_]+", failure.code)
    if issubclass(failure, errors.ClientFault):
        assert 400 <= failure.status < 500 or issubclass(failure, errors.BadRequest)
    else:
        assert failure.status >= 500


def test_failure_keeps_what_only_the_log_may_tell_out_of_its_message() -> None:
    failure = errors.ConnectFailed("no connection", phase=Phase.CONNECT, detail="10.0.0.7 refused")
    assert str(failure) == failure.message == "no connection"
    assert failure.detail == "10.0.0.7 refused"
    assert failure.phase is Phase.CONNECT


def test_method_not_allowed_knows_what_is() -> None:
    assert MethodNotAllowed("no", allow=b"GET, HEAD").allow == b"GET, HEAD"


def test_phases_are_the_strings_they_are_named_by() -> None:
    assert dict.fromkeys(Phase, 1) == {"queue": 1, "connect": 1, "send": 1, "first_byte": 1, "body": 1}
    assert json.dumps({Phase.SEND: Cause.OK}) == '{"send": "ok"}'
