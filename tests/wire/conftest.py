"""The gateway as the suite has it: everything below PREFIX goes to the backend as it is, and bodies may be large."""

import pytest

from .case import Case
from .cases import ALL

MAX_BODY = 200_000_000


def table(*, slow: bool) -> list[object]:
    """Each case over each of its protocols, as parameters of a test."""
    return [
        pytest.param(
            case,
            protocol,
            id=f"{case.group}-{case.name}-{protocol}".replace(" ", "_"),
            marks=[pytest.mark.xfail(reason=case.known)] if case.fails(protocol) else [],
        )
        for case in ALL
        if case.slow is slow
        for protocol in case.protocols
    ]


__all__ = ["MAX_BODY", "Case", "table"]
