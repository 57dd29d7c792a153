"""A case: what the client does, what the backend does, and what must come of it by RFC or by transparency.

What lives here: the form of a row in the tables of ``cases_….py``. What never will: a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from .checks import Arrives, Check, Comes, Requests
from .messages import Answer, Request
from .play import Play
from .steps import BackendStep, ClientStep, Give, Hear, ReadBody, Say

BOTH = ("1.1", "2")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row. With nothing but a name, a source and a request it says: this crosses as it is, and so does a 200.

    ``request`` and ``answer`` are for the usual exchange, said and read to its end; ``client`` and ``backend`` replace
    it with scripts. The n-th request that comes to the backend plays the n-th of ``backend``, any further one the last.
    """

    name: str
    source: str
    """Who requires it: ``RFC 9110 7.6.1``; or ``transparency``, for what no RFC asks of every intermediary but whoever
    puts a reverse proxy in front of a service expects."""
    request: Request = field(default_factory=Request)
    answer: Answer = field(default_factory=lambda: Answer(body=b"fine"))
    client: tuple[ClientStep, ...] = ()
    backend: tuple[tuple[BackendStep, ...], ...] = ()
    checks: Sequence[Check] = ()
    protocols: tuple[str, ...] = BOTH
    """What the client speaks."""
    ours: int | None = None
    """The status that this gateway gives, where the requirement leaves a choice."""
    known: str = ""
    """Why this gateway fails it: a defect that is known and not mended yet."""
    known_on: tuple[str, ...] = BOTH
    """Where it fails it."""
    slow: bool = False
    """Over 10 MB."""
    control: bool = True
    """Whether a request on a new connection must be answered well right afterwards."""
    group: str = field(default="", compare=False)
    """The table that it stands in."""

    def __repr__(self) -> str:
        return f"<Case {self.group}: {self.name}>"

    def fails(self, protocol: str) -> bool:
        """Whether this gateway is known to fail it."""
        return bool(self.known) and protocol in self.known_on

    @property
    def script(self) -> tuple[ClientStep, ...]:
        """What the client does."""
        return self.client or (Say(self.request), Hear())

    @property
    def exchanges(self) -> tuple[tuple[BackendStep, ...], ...]:
        """What the backend does with each request."""
        return self.backend or ((ReadBody(), Give(self.answer)),)

    @property
    def requirements(self) -> Sequence[Check]:
        """What must come of it."""
        return self.checks or (Requests(1), Arrives(), Comes())


@dataclass
class Verdict:
    """What came of a case."""

    case: Case
    protocol: str
    faults: list[str]
    """What is wrong, in words. None: passed."""
    play: Play

    @property
    def passed(self) -> bool:
        """Whether everything was as it must be."""
        return not self.faults

    def __str__(self) -> str:
        told = "".join(f"\n  {fault}" for fault in self.faults)
        return f"{self.case.name} (HTTP/{self.protocol}, {self.case.source}){told or ': passed'}"
