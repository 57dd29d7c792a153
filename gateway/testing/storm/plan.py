"""What happens in a storm: a list of events, drawn by a seed.

Events are plain values and stand each for itself: one that speaks of a request which is over by then, or which is not
in the list at all, does nothing. So any part of a list is a storm too, and a failing one can be cut down.

What never lives here: a clock, a network, chance beyond the seed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from gateway.testing.virtual import dice

CONCURRENCY: Final = 200
"""Requests at once."""
SERVICES: Final = ("service1", "service2", "service3")
"""Without a bound, with few connections, with a deadline: see ``play.settings_for``."""

CONDUCTS: Final = {
    "plain": 40,
    "upload": 8,
    "streams": 6,
    "big": 2,
    "dribbles": 4,
    "reads slowly": 4,
    "stalls": 2,
    "half-closes": 2,
    "never reads": 1,
    "too large": 1,
    "own": 3,
    "nowhere": 2,
}
"""How a client behaves, and how often; ``callers`` knows what each means."""

WEATHER: Final = ("refuses", "black hole", "far away", "restarts")
HEALTH: Final = ("failing", "hanging")

KINDS: Final = {"request": 76, "cancel": 13, "disconnect": 5, "weather": 1, "health": 2, "lull": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event.

    ``request``, of ``service``, over ``protocol``, by a client of that ``conduct``, to a backend in that ``mood``.
    ``cancel``: the client gives up request ``target``, and closes or resets its stream. ``disconnect``: its connection
    is reset, with all that goes over it. ``weather`` and ``health``: ``mood`` comes over ``service``, for ``units``.
    ``lull``: nothing, for ``units``. ``calm``: everything under way ends, the sky clears, and every slot is tried.
    ``drain``: the gateway begins to stop.
    """

    kind: str
    number: int
    """Its place in the storm as it was drawn; the name of a request."""
    units: float = 0.0
    service: str = ""
    protocol: str = ""
    conduct: str = ""
    mood: str = ""
    target: int = -1
    turns: int = 0
    """Turns of the scheduler to let go by before it, without time passing: so it falls between any two steps."""
    lane: int = 0
    """Which of the open connections a request takes; 0 for a new one."""


def draw(  # noqa: PLR0913 - what may be drawn; each but the first three has a default
    seed: int,
    count: int,
    moods: Sequence[str],
    *,
    concurrency: int = CONCURRENCY,
    kinds: Mapping[str, int] = KINDS,
    conducts: Mapping[str, int] = CONDUCTS,
    services: Sequence[str] = SERVICES,
    pace: int = 9,
) -> list[Event]:
    """Draw ``count`` events: a storm, then calm, then some more of it with the drain in the middle.

    ``kinds`` and ``conducts`` say how often each is drawn, ``pace`` how many turns of the scheduler may lie between
    two events.
    """
    chance = dice(seed)
    tail = min(concurrency * 2, count // 5)
    events: list[Event] = []
    for number in range(count):
        if number == count - tail:
            events.append(Event(kind="calm", number=number))
            continue
        if number == count - tail // 2:
            events.append(Event(kind="drain", number=number))
            continue
        (kind,) = chance.choices(list(kinds), list(kinds.values()))
        service = chance.choice(services)
        chances: dict[str, Any] = {"turns": 0 if chance.random() < 0.5 else chance.randint(0, pace)}
        match kind:
            case "request":
                (conduct,) = chance.choices(list(conducts), list(conducts.values()))
                chances |= {
                    "service": service,
                    "conduct": conduct,
                    "mood": "well" if chance.random() < 0.4 else chance.choice(moods),
                    "protocol": "2" if chance.random() < 0.35 else "1.1",
                    "lane": chance.randint(0, 16),
                }
            case "cancel" | "disconnect":
                chances["target"] = number - 1 - int(chance.random() * concurrency * 1.5)
            case "weather":
                chances |= {"service": service, "mood": chance.choice(WEATHER), "units": chance.randint(1, 8)}
            case "health":
                chances |= {"service": service, "mood": chance.choice(HEALTH), "units": chance.randint(5, 50)}
            case _:
                # Whole units and halves: so that what comes, often comes in the same turn as something else.
                chances["units"] = chance.randint(1, 6) / 2
        events.append(Event(kind=kind, number=number, **chances))
    return events


def to_json(events: Iterable[Event]) -> str:
    """Write events, one a line, without what is as it is by default."""
    plain = Event(kind="", number=-1)
    lines = []
    for event in events:
        facts: dict[str, Any] = {name: value for name, value in asdict(event).items() if value != getattr(plain, name)}
        lines.append(json.dumps(facts))
    return "".join(f"{line}\n" for line in lines)


def from_json(text: str) -> list[Event]:
    """Read what :func:`to_json` wrote. Raises ValueError or TypeError where it is something else."""
    return [Event(**json.loads(line)) for line in text.splitlines() if line]
