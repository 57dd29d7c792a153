"""What the properties have found in the gateway, each by itself."""

from .messages import Ask, Reply
from .profile import run
from .strict import End
from .world import exchange


def test_cookie_over_http2_stays_where_it_was_among_the_fields() -> None:
    # hyper-h2 joins the crumbs of a cookie, and puts what comes of it behind all other fields.
    ask = Ask(fields=[(b"cookie", b"a=1"), (b"accept", b"*/*"), (b"cookie", b"b=2"), (b"x-last", b"1")])
    (asked,), _ = run(exchange, ask, Reply().http1(), End.OPEN, ([], []), 2)
    fields = [field for field in asked.fields if field[0] in (b"cookie", b"accept", b"x-last")]
    assert fields == [(b"cookie", b"a=1; b=2"), (b"accept", b"*/*"), (b"x-last", b"1")]
