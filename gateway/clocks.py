"""Which clock runs for an exchange, and what it says when it fires. No clock is read here: ``now`` comes in.

An exchange is always waiting for somebody, and its one deadline moves with whom:

| waiting for | deadline | fires as |
|---|---|---|
| the backend, for a connection | what is left of TIMEOUT, and CONNECT_TIMEOUT at most | 503 or 504 |
| the backend, for the head of its answer | what is left of TIMEOUT | 504 |
| the backend, for more of its body | TIMEOUT from the last byte that moved | a cut answer |
| the client, for more of its body or for room to write to it | CLIENT_TIMEOUT | 408, or a cut answer |
| anybody | DEADLINE from the start, where set | as above |

While the client keeps the gateway waiting, in either direction, the backend's clock stands still: a backend must not
be blamed for what the client did. That matters in full duplex, where a backend may be silent only because the client
has sent nothing, or because nobody reads what it sent.

TIMEOUT is not re-armed while the head is awaited. Were it, a backend that drips one header byte a second would hold
the exchange for ever.

All times are seconds of the one monotonic clock that the caller reads.
"""

from dataclasses import dataclass
from math import inf

from gateway.errors import (
    BackendTimeout,
    ConnectionsExhausted,
    ConnectTimeout,
    GatewayError,
    Phase,
    RequestTimeout,
)

_BACKEND_FAILURES: dict[Phase, tuple[type[GatewayError], str]] = {
    Phase.QUEUE: (ConnectionsExhausted, "no connection to the backend became free within {:g} s"),
    Phase.CONNECT: (ConnectTimeout, "no connection to the backend within the connect timeout of {:g} s"),
    Phase.SEND: (BackendTimeout, "the backend did not take the request within {:g} s"),
    Phase.FIRST_BYTE: (BackendTimeout, "the backend did not answer within {:g} s"),
    Phase.BODY: (BackendTimeout, "the backend sent nothing more of its answer for {:g} s"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long an exchange may wait, in seconds."""

    timeout: float = 30.0
    connect_timeout: float = 5.0
    client_timeout: float = 60.0
    deadline: float = inf


class ExchangeClock:
    """The clocks of one exchange. After each call, ``deadline`` is when the tree of the exchange must end."""

    __slots__ = (
        "_backend_since",
        "_budget",
        "_connect_budget",
        "_limits",
        "_overall",
        "_phase_since",
        "_reading_client_since",
        "_spent",
        "_writing_client_since",
        "deadline",
        "phase",
        "started",
    )

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._overall = now + limits.deadline
        self._budget = limits.timeout
        self._connect_budget = limits.connect_timeout
        self._backend_since = now
        self._reading_client_since: float | None = None
        self._writing_client_since: float | None = None
        self._spent: dict[Phase, float] = dict.fromkeys(Phase, 0.0)
        self._phase_since = now
        self.phase = Phase.QUEUE
        self.started = now
        self.deadline = 0.0
        self._move(now)

    # What the exchange tells the clock

    def enter(self, phase: Phase, now: float) -> None:
        """The exchange has come to ``phase``. An upload that goes on beside the answer does not take it back."""
        if self.phase is Phase.BODY:
            return
        self._charge_backend(now)
        self._spent[self.phase] += now - self._phase_since
        self.phase = phase
        self._phase_since = now
        self._move(now)

    def read_client(self, now: float) -> None:
        """We wait for the next piece of the client's body."""
        self._charge_backend(now)
        self._reading_client_since = now
        self._move(now)

    def client_was_read(self, now: float) -> None:
        """The piece has come."""
        self._reading_client_since = None
        self._backend_since = now
        self._move(now)

    def write_client(self, now: float) -> None:
        """We wait for the client to take a piece of the answer."""
        self._charge_backend(now)
        self._writing_client_since = now
        self._move(now)

    def client_was_written(self, now: float) -> None:
        """The client has taken it. What the backend owes next, it owes from now."""
        self._writing_client_since = None
        self._backend_since = now
        self._move(now)

    # What the clock tells

    def timings(self, now: float) -> dict[Phase, float]:
        """Seconds spent in each phase so far. They sum up to ``now - started``."""
        return self._spent | {self.phase: self._spent[self.phase] + now - self._phase_since}

    def failure(self, now: float) -> GatewayError:
        """Say which clock has run out at ``now``, the deadline having passed."""
        limits, phase = self._limits, self.phase
        waits = [
            (since, doing)
            for since, doing in (
                (self._reading_client_since, "the client sent nothing more of its body"),
                (self._writing_client_since, "the client read nothing more of the answer"),
            )
            if since is not None
        ]
        if waits:
            since, doing = min(waits)
            if now >= since + limits.client_timeout:
                return RequestTimeout(f"{doing} for {limits.client_timeout:g} s", phase=phase)
            return RequestTimeout(f"not over within the deadline of {limits.deadline:g} s: {doing}", phase=phase)
        if now >= self._overall:
            return BackendTimeout(f"not over within the deadline of {limits.deadline:g} s", phase=phase)
        error, message = _BACKEND_FAILURES[phase]
        seconds = min(limits.connect_timeout, limits.timeout) if phase is Phase.CONNECT else limits.timeout
        return error(message.format(seconds), phase=phase)

    # Bookkeeping

    def _charge_backend(self, now: float) -> None:
        """Take the time since the last look off the backend's account, unless it was the client's."""
        if self._reading_client_since is None and self._writing_client_since is None:
            waited = now - self._backend_since
            if self.phase is not Phase.BODY:
                self._budget -= waited
            if self.phase is Phase.CONNECT:
                self._connect_budget -= waited
        self._backend_since = now

    def _move(self, now: float) -> None:
        reading, writing = self._reading_client_since, self._writing_client_since
        if reading is not None or writing is not None:
            since = min(inf if reading is None else reading, inf if writing is None else writing)
            deadline = since + self._limits.client_timeout
        elif self.phase is Phase.BODY:
            deadline = now + self._limits.timeout
        elif self.phase is Phase.CONNECT:
            deadline = now + min(self._budget, self._connect_budget)
        else:
            deadline = now + self._budget
        self.deadline = min(deadline, self._overall)
