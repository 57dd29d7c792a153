"""What h11 makes of the bytes that our own door has let in."""

from typing import Any

import h11


def as_h11_reads_it(data: bytes) -> dict[str, Any]:
    """The first request of ``data``: a body that is whole or not yet, and what follows it."""
    h11_reader = h11.Connection(h11.SERVER, max_incomplete_event_size=65_536)
    h11_reader.receive_data(data)
    request = h11_reader.next_event()
    assert isinstance(request, h11.Request), f"h11 saw {request}"
    continues = h11_reader.they_are_waiting_for_100_continue
    body = b""
    while isinstance(event := h11_reader.next_event(), h11.Data):
        body += event.data
    done = isinstance(event, h11.EndOfMessage)
    return {
        "line": (request.method, request.target),
        "fields": [(n, v.lower() if n.lower() == b"transfer-encoding" else v) for n, v in request.headers.raw_items()],
        "body": (body, done, h11_reader.trailing_data[0] if done else b""),
        "keep_alive": h11_reader.our_state is not h11.MUST_CLOSE and h11_reader.their_state is not h11.MUST_CLOSE,
        "continues": continues,
    }
