"""What happens in a storm: a list of events, drawn by a seed.

Events are plain values and stand each for itself: one that speaks of a request which is over by then, or which is not
in the list at all, does nothing. So any part of a list is a storm too, and a failing one can be cut down.

What never lives here: a clock, a network, chance beyond the seed.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from gateway.testing.virtual import dice

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

KINDS: Final = {"request": 76, "cancel": 13, "disconnect": 5, "weather": 3, "health": 2, "lull": 1}


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
    lane: int = 0
    """Which of the open connections a request takes; 0 for a new one."""


def draw(seed: int, count: int, moods: Sequence[str], *, concurrency: int) -> list[Event]:
    """Draw ``count`` events: a storm, then calm, then some more of it with the drain in the middle."""
    chance = dice(seed)
    kinds, conducts = list(KINDS), list(CONDUCTS)
    kind_weights, conduct_weights = list(KINDS.values()), list(CONDUCTS.values())
    tail = min(concurrency * 2, count // 5)
    events: list[Event] = []
    for number in range(count):
        if number == count - tail:
            events.append(Event(kind="calm", number=number))
            continue
        if number == count - tail // 2:
            events.append(Event(kind="drain", number=number))
            continue
        (kind,) = chance.choices(kinds, kind_weights)
        service = chance.choice(SERVICES)
        match kind:
            case "request":
                (conduct,) = chance.choices(conducts, conduct_weights)
                mood = "well" if chance.random() < 0.4 else chance.choice(moods)
                events.append(
                    Event(
                        kind=kind,
                        number=number,
                        service=service,
                        protocol="2" if chance.random() < 0.35 else "1.1",
                        conduct=conduct,
                        mood=mood,
                        lane=chance.randint(0, 16),
                    )
                )
            case "cancel" | "disconnect":
                target = number - 1 - int(chance.random() ** 2 * concurrency * 1.5)
                events.append(Event(kind=kind, number=number, target=target))
            case "weather":
                mood, units = chance.choice(WEATHER), chance.randint(1, 8)
                events.append(Event(kind=kind, number=number, service=service, mood=mood, units=units))
            case "health":
                mood, units = chance.choice(HEALTH), chance.randint(5, 50)
                events.append(Event(kind=kind, number=number, service=service, mood=mood, units=units))
            case _:
                # Whole units and halves: so that what comes, often comes in the same turn as something else.
                events.append(Event(kind=kind, number=number, units=chance.randint(1, 6) / 2))
    return events


def to_json(events: Iterable[Event]) -> str:
    """Write events, one a line, without what is as it is by default."""
    plain = Event(kind="", number=-1)
    lines = []
    for event in events:
        facts: dict[str, Any] = {
            name: value for name, value in asdict(event).items() if value != getattr(plain, name)
        }
        lines.append(json.dumps(facts))
    return "".join(f"{line}\n" for line in lines)


def from_json(text: str) -> list[Event]:
    """Read what :func:`to_json` wrote. Raises ValueError or TypeError where it is something else."""
    return [Event(**json.loads(line)) for line in text.splitlines() if line]
