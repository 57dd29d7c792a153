"""What to make of exceptions that come out of a tree of tasks. Pure; nothing waits here."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class ClientGone(OSError):
    """The client has left, or was too slow and has been cut off. Raised by an app's ``send`` (ASGI, HTTP 2.4)."""


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions that were raised, without the groups that nurseries put around them."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def fatal_part(error: BaseException) -> BaseException | None:
    """What of ``error`` nobody may swallow: cancellation, Ctrl-C, an exit. None where all of it is ordinary failure."""
    if isinstance(error, BaseExceptionGroup):
        fatal, ordinary = error.split(lambda leaf: not isinstance(leaf, Exception | BaseExceptionGroup))
        return error if ordinary is None else fatal  # the group itself, not its copy: callers ask whether it is all
    return None if isinstance(error, Exception) else error


def sole_error(error: Exception) -> Exception:
    """The one failure inside nested groups, or ``error`` as it is where there are several."""
    found = [leaf for leaf in leaves(error) if not isinstance(leaf, trio.Cancelled)]
    return found[0] if len(found) == 1 and isinstance(found[0], Exception) else error


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise the one failure itself, where a nursery would wrap it: a caller can catch it by its type."""
    try:
        yield
    except BaseExceptionGroup as group:
        found = [leaf for leaf in leaves(group) if not isinstance(leaf, trio.Cancelled)]
        if len(found) != 1:
            raise
        raise found[0] from found[0].__cause__
