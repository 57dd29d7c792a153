"""What is said to a client whose bytes never become a request of the app's: the server's own answers.

Pure. By itself the server says the status and nothing more. Whoever runs it may say more, and may count and log it:
an app never hears of these requests, because nothing ambiguous reaches it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from gateway.http1 import RawHeaders
from gateway.server.heads import Refused
from gateway.server.transport import Address

# The method counts by itself: whoever asked by HEAD takes no body, however malformed the target was.
_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) (?:([\x21-\x7e]{1,8192})(?: |\r|\n|\Z))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A request that is refused at the door, as far as it could be read."""

    status: int
    reason: str
    """One sentence that quotes nothing of what came."""
    http_version: str
    client: Address
    secure: bool
    method: str | None = None
    target: bytes | None = None
    known_to_app: bool = False
    """The head was sound and the app had it; the body was not. The app was told that the client left."""


Explain = Callable[[Refusal], tuple[RawHeaders, bytes]]
"""The fields and the body of the answer to a refusal, without ``Content-Length`` and ``Connection``."""


def say_no_more(_refusal: Refusal) -> tuple[RawHeaders, bytes]:
    """Answer with the status alone."""
    return [], b""


def refusal_of(  # noqa: PLR0913 -- its parts, by name
    refused: Refused,
    *,
    http_version: str,
    client: Address,
    secure: bool,
    start: bytes = b"",
    known_to_app: bool = False,
) -> Refusal:
    """Make a refusal of what began with ``start``, whose request line may be sound though the rest was not."""
    line = _REQUEST_LINE.match(start)
    return Refusal(
        status=refused.status,
        reason=str(refused),
        http_version=http_version,
        client=client,
        secure=secure,
        method=line[1].decode("ascii") if line else None,
        target=line[2] if line else None,
        known_to_app=known_to_app,
    )
