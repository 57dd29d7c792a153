"""What the gateway says when it answers for itself: the JSON body of a failure and the header fields beside it.

Pure: a failure and what is known of its exchange in, a status, fields and bytes out. Nothing in an answer names an
address or quotes what a backend said.
"""

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

from gateway.errors import GatewayError, MethodNotAllowed, Phase

RETRY_AFTER = b"1"
"""Seconds (RFC 9110 section 10.2.3). Short: what is not reachable now may be back in a moment, and we hold no queue."""
_NO_STRING = re.compile("[^ -~]")
"""What cannot stand in a string of a structured field (RFC 8941 section 3.3.3)."""


class Answer(NamedTuple):
    """A whole answer of the gateway's own."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def milliseconds(timings: Mapping[Phase, float]) -> dict[str, float]:
    """Seconds per phase as the log and the answers tell them: milliseconds, to the microsecond.

    Rounded as whole numbers: to round a float to places costs five times that.
    """
    return {phase: round(seconds * 1_000_000) / 1000 for phase, seconds in timings.items()}


def explain(  # noqa: PLR0913 -- the parts of one answer, all by name
    failure: GatewayError,
    *,
    path: str,
    timestamp: str,
    request_id: str,
    service: str | None = None,
    timings: Mapping[Phase, float] | None = None,
) -> Answer:
    """The answer to a request that failed."""
    facts: dict[str, object] = {
        "error": failure.code,
        "message": failure.message if service is None else f"{service}: {failure.message}",
        "path": path,
        "timestamp": timestamp,
        "status_code": failure.status,
        "request_id": request_id,
    }
    if service is not None:
        facts["service"] = service
    if failure.phase is not None:
        facts["phase"] = failure.phase
    if timings is not None:
        facts["timings_ms"] = milliseconds(timings)
    body = json.dumps(facts).encode() + b"\n"  # a shell prompt then stands on a line of its own
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"proxy-status", proxy_status(failure)),
        (b"x-request-id", request_id.encode("latin-1")),
    ]
    if failure.status == 503:
        headers.append((b"retry-after", RETRY_AFTER))
    if isinstance(failure, MethodNotAllowed):
        headers.append((b"allow", failure.allow))
    return Answer(failure.status, headers, body)


def proxy_status(failure: GatewayError) -> bytes:
    """Proxy-Status, a structured field (RFC 9209 section 2; strings as in RFC 8941 section 3.3.3)."""
    escaped = _NO_STRING.sub("?", failure.message).replace("\\", "\\\\").replace('"', '\\"')
    return f'api-gateway; error={failure.proxy_error}; details="{escaped}"'.encode("ascii")
