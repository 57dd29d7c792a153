"""An HTTP server for ASGI apps on trio: Hypercorn's protocol classes, made fit to face the internet.

It serves any ASGI app and knows nothing of the gateway, so it could stand as a package of its own::

    await serve(app, config, shutdown=stop.wait)

``config`` is ``hypercorn.config.Config``. What one client does, however wrong, stays on its own connection.

Four ASGI extensions of its own stand in ``scope["extensions"]`` of ``http`` scopes:

``"http.request.target"``: ``{"target": bytes}``
    The request target exactly as it came. ``raw_path`` and ``query_string`` lose a ``?`` with nothing behind it.

``"http.request.body"``: ``{"is_ready": callable, "trailers": [...]}``
    ``is_ready()``: whether ``receive`` would return at once. ``trailers`` are the fields that came behind the request's
    body; known once its last message has been received.

``"http.disconnect"``: ``{"subscribe": callable, "reason": None | Departure}``
    ``subscribe(callback)``: the server calls ``callback()`` at once and synchronously when the client leaves before
    the response is complete: FIN (half-close included), RST, RST_STREAM, a lost connection, or a client that let a
    write wait for ``Limits.client_timeout``. Never after the response is complete. When the client has left already,
    ``subscribe`` calls it right away. A callback must not block and must not raise; to cancel a ``trio.CancelScope``
    is what it is for. So an app needs no task that waits for ``http.disconnect``, and no nursery to hold one.
    ``reason`` is set by then where the client did not just leave: see ``Departure``.

``"http.response.informational"``: ``{}``
    The app may send ``{"type": "http.response.informational", "status": int, "headers": [...]}`` before its answer, as
    often as it likes: a 1xx other than 101. A client of HTTP/1.0 knows none of them, so its scope has no such
    extension.
    The standard's ``http.response.early_hint`` knows of 103 and ``Link`` alone, and stands in scopes of HTTP/2.

A request that is refused at the door (malformed, ambiguous, too large a head) never reaches the app. The server answers
it; ``serve(explain=…)`` gives the words, and is the place to log and count it.
"""

from gateway.server.beside import Beside
from gateway.server.drain import Leave
from gateway.server.limits import Limits
from gateway.server.refusals import Refusal
from gateway.server.serve import serve
from gateway.server.shares import Shares
from gateway.server.streams import Departure
from gateway.server.tls import Certificates
from gateway.server.worker import Line, first_of
from gateway.server.workers import Crew, Timing, supervise

__all__ = [
    "Beside",
    "Certificates",
    "Crew",
    "Departure",
    "Leave",
    "Limits",
    "Line",
    "Refusal",
    "Shares",
    "Timing",
    "first_of",
    "serve",
    "supervise",
]
