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
    Phase.CONNECT: (ConnectTimeout, "no connection to the backend within the timeout of {:g} s"),
    Phase.SEND: (BackendTimeout, "the backend did not take the request within {:g} s"),
    Phase.FIRST_BYTE: (BackendTimeout, "the backend did not answer within {:g} s"),
    Phase.BODY: (BackendTimeout, "the backend sent nothing more of its answer for {:g} s"),
}

_NOTHING = dict.fromkeys(Phase, 0.0)


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
        "_connect_budget",
        "_head_due",
        "_limits",
        "_overall",
        "_phase_since",
        "_read_in_vain",
        "_reading_client_since",
        "_spent",
        "_waiting_client_since",
        "_writing_client_since",
        "deadline",
        "phase",
        "started",
    )

    def __init__(self, limits: Limits, now: float) -> None:
        self.started = now
        self.hold_to(limits)
        self._backend_since = now
        self._reading_client_since: float | None = None
        self._read_in_vain = 0.0
        self._writing_client_since: float | None = None
        self._waiting_client_since: float | None = None
        self._spent: dict[Phase, float] = {}
        self._phase_since = now
        self.phase = Phase.QUEUE

    def hold_to(self, limits: Limits) -> None:
        """Run by these limits from the start on. For when it is known which service is meant, and nobody has waited."""
        self._limits = limits
        self._overall = self.started + limits.deadline
        # A moment and not a budget: as long as only the backend is waited for, it does not move from phase to phase.
        self._head_due = self.started + limits.timeout
        self._connect_budget = limits.connect_timeout
        self.deadline = min(self._head_due, self._overall)

    # What the exchange tells the clock

    def enter(self, phase: Phase, now: float) -> None:
        """The exchange has come to ``phase``. An upload that goes on beside the answer does not take it back."""
        before = self.phase
        if before is Phase.BODY:
            return
        spent = now - self._phase_since
        self._spent[before] = self._spent.get(before, 0.0) + spent
        if before is Phase.CONNECT:
            self._connect_budget -= spent
        self.phase = phase
        self._phase_since = self._backend_since = now
        self._move()

    def read_client(self, now: float) -> None:
        """We wait for the next piece of the client's body."""
        self._reading_client_since = now - self._read_in_vain
        self._client_is_waited_for(now)

    def client_was_read(self, now: float) -> None:
        """The piece has come."""
        self._reading_client_since, self._read_in_vain = None, 0.0
        self._client_has_moved(now)

    def read_later(self, now: float) -> None:
        """Nothing has come, and we do something else first. The client has then what is left of its time.

        What we do meanwhile is not charged to it: that may take longer than CLIENT_TIMEOUT, and the piece be there.
        """
        if self._reading_client_since is not None:
            self._read_in_vain, self._reading_client_since = now - self._reading_client_since, None
        self._client_has_moved(now)

    def write_client(self, now: float) -> None:
        """We wait for the client to take a piece of the answer."""
        self._writing_client_since = now
        self._client_is_waited_for(now)

    def client_was_written(self, now: float) -> None:
        """The client has taken it. What the backend owes next, it owes from now."""
        self._writing_client_since = None
        self._client_has_moved(now)

    # What the clock tells

    def timings(self, now: float) -> dict[Phase, float]:
        """Seconds spent in each phase so far. They sum up to ``now - started``."""
        spent = _NOTHING | self._spent
        spent[self.phase] += now - self._phase_since
        return spent

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
        if phase is Phase.CONNECT and now < self._head_due:
            return ConnectTimeout(
                f"no connection to the backend within the connect timeout of {limits.connect_timeout:g} s", phase=phase
            )
        error, message = _BACKEND_FAILURES[phase]
        return error(message.format(limits.timeout), phase=phase)

    # Bookkeeping

    def _client_is_waited_for(self, now: float) -> None:
        if self._waiting_client_since is None:
            self._waiting_client_since = now
        self._move()

    def _client_has_moved(self, now: float) -> None:
        if self._waiting_client_since is not None and self._reading_client_since is self._writing_client_since is None:
            # The client's time is over, in both directions: what it took is given back to the backend.
            self._head_due += now - self._waiting_client_since
            self._waiting_client_since = None
        self._backend_since = now
        self._move()

    def _move(self) -> None:
        reading, writing = self._reading_client_since, self._writing_client_since
        if reading is not None or writing is not None:
            since = min(inf if reading is None else reading, inf if writing is None else writing)
            deadline = since + self._limits.client_timeout
        elif self.phase is Phase.BODY:
            deadline = self._backend_since + self._limits.timeout
        elif self.phase is Phase.CONNECT:
            deadline = min(self._backend_since + self._connect_budget, self._head_due)
        else:
            deadline = self._head_due
        self.deadline = min(deadline, self._overall)
