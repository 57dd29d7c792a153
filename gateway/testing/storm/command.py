"""``python -m gateway.testing.storm``: storms from the command line, and what is left of one that fails.

What lives here: arguments in, lines and an exit status out. What never will: a storm.
"""

import argparse
import resource
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final

from gateway.testing.storm.moods import MOODS, Mood, moods_of
from gateway.testing.storm.plan import CONCURRENCY, Event, draw, from_json, to_json
from gateway.testing.storm.play import Report, play, play_over_sockets
from gateway.testing.storm.shrink import shrink

EVERY: Final = 5_000
"""Events from one line of progress to the next."""
PATIENCE: Final = 60.0
"""Seconds that cutting down may take at least, unless the command says otherwise."""
TIMES: Final = 4
"""And as many times as long as the storm took: to try one half takes half of that, a quarter a quarter."""
MEGABYTE: Final = 1 << 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Play a storm and print what became of it. Returns 1 where something did not hold, 2 where it cannot be played."""
    options = _parser().parse_args(arguments)
    moods = {**MOODS, **(_catalogue(options.faults) if options.faults else {})}
    if options.replay is None:
        events = draw(options.seed, options.events, list(moods), concurrency=options.concurrency)
    else:
        events = from_json(options.replay.read_text(encoding="utf-8"))
        if unknown := {event.mood for event in events if event.kind == "request" and event.mood not in moods}:
            _say(
                f"{options.replay} has moods that there are not: {', '.join(sorted(unknown))}; give --faults as before"
            )
            return 2
    run = partial(
        play_over_sockets if options.sockets else partial(play, seed=options.seed),
        moods=moods,
        concurrency=options.concurrency,
    )
    with _limits(options.descriptors, options.memory):
        report = run(events, progress=_progress(len(events)))
        _say(f"seed {options.seed}, {'real sockets' if options.sockets else 'in memory'}: {report}")
        if not report.violations:
            return 0
        if not options.sockets:
            seconds = max(PATIENCE, TIMES * report.seconds) if options.seconds is None else options.seconds
            _keep(_cut_down(events, report, run, seconds), options)
        return 1


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gateway.testing.storm", description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=5_000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="what they are drawn by (default: the time)")
    parser.add_argument("--concurrency", type=int, default=CONCURRENCY, help="requests at once (default: %(default)s)")
    parser.add_argument("--sockets", action="store_true", help="over real sockets in real time")
    parser.add_argument("--faults", metavar="MODULE:NAME", help="a catalogue of faults for the backends to draw from")
    parser.add_argument("--descriptors", type=int, help="open files that the process may have (RLIMIT_NOFILE)")
    parser.add_argument("--memory", type=int, help="megabytes that it may grow by (RLIMIT_AS)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="play the events in FILE instead")
    parser.add_argument(
        "--keep", type=Path, default=Path("storm.jsonl"), help="where a failing one goes (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        help="to spend on cutting it down, at most (default: a minute, or four times as long as the storm took)",
    )
    return parser


def _catalogue(where: str) -> dict[str, Mood]:
    module, _, name = where.partition(":")
    return moods_of(getattr(import_module(module), name))


def _progress(total: int) -> Callable[[int], None]:
    began, told = time.perf_counter(), 0

    def progress(done: int) -> None:
        nonlocal told
        if done >= told + EVERY:
            told = done - done % EVERY
            rate = done / (time.perf_counter() - began)
            _say(f"{done:,} of {total:,} events, {rate:,.0f} events/s")

    return progress


class _limits:  # noqa: N801 - read as a word behind "with"
    """The limits of this process for the length of the block, the hard ones left as they are."""

    def __init__(self, descriptors: int | None, memory: int | None) -> None:
        self._wanted: dict[int, int] = {}
        if descriptors is not None:
            self._wanted[resource.RLIMIT_NOFILE] = descriptors
        if memory is not None:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            self._wanted[resource.RLIMIT_AS] = pages * resource.getpagesize() + memory * MEGABYTE
        self._before: dict[int, tuple[int, int]] = {}

    def __enter__(self) -> None:
        for which, limit in self._wanted.items():
            self._before[which] = resource.getrlimit(which)
            resource.setrlimit(which, (limit, self._before[which][1]))

    def __exit__(self, *_exc: object) -> None:
        for which, limits in self._before.items():
            resource.setrlimit(which, limits)


def _cut_down(events: Sequence[Event], report: Report, run: Callable[..., Report], seconds: float) -> list[Event]:
    """Find the events that it takes to violate what was violated first."""
    kind = next(iter(report.violations))
    tries = 0

    def fails(part: Sequence[Event]) -> bool:
        nonlocal tries
        tries += 1
        return kind in run(part).violations

    found = shrink(events, fails, seconds=seconds)
    _say(f"cut down to {len(found)} events that still violate {kind!r}, in {tries} tries: {run(found)}")
    return found


def _keep(events: Sequence[Event], options: argparse.Namespace) -> None:
    options.keep.write_text(to_json(events), encoding="utf-8")
    again = ["--replay", str(options.keep), "--seed", str(options.seed)]
    if options.faults:
        again += ["--faults", options.faults]
    if options.concurrency != CONCURRENCY:
        again += ["--concurrency", str(options.concurrency)]
    _say(f"kept in {options.keep}; again: python -m gateway.testing.storm {shlex.join(again)}")
