"""What came of a soak: what of it is a failure, as Markdown, and as a drawing.

Pure. What never lives here: a measurement.
"""

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median

from benchmarks.plot import COLOURS, WIDTH, text
from benchmarks.report import cpu_model, table
from benchmarks.soak_clients import ASKING, MISBEHAVING, USERS, Seen
from benchmarks.soak_watch import Counters, Log, Sample, growth

MOST_GROWTH = 0.02
LEAST_SECONDS = 240.0
"""A shorter soak is no measure of memory: the allocator has not yet met the worst of what comes."""

PANEL, LEFT, RIGHT, GAP = 120, 60, 20, 40
"""Pixels: the height of a curve, what stands left and right of it, and the space between two."""


@dataclass(frozen=True, kw_only=True)
class Soak:
    """All that was seen."""

    seconds: float
    warm_up: float
    samples: Sequence[Sample]
    log: Log
    seen: Seen
    counters: Counters
    baseline: int
    """Descriptors before the first client came."""
    left: int
    """After the last one had left and the backends had ended."""
    stderr: str

    @property
    def judged(self) -> list[Sample]:
        """Those behind the warm-up."""
        return [sample for sample in self.samples if sample.second >= self.warm_up] or list(self.samples)

    def grown(self, of: Callable[[Sample], int]) -> float:
        """By what part it has grown, from the end of the warm-up to the end."""
        return growth([of(sample) for sample in self.judged])

    def failures(self) -> Iterator[str]:
        """What is not as it must be, as sentences."""
        yield from self._left_over()
        yield from self._unaccounted()

    def _left_over(self) -> Iterator[str]:
        # Resident memory alone may fall from outside, when the kernel drops pages of files: that hides a leak.
        grown = max(self.grown(lambda sample: sample.rss), self.grown(lambda sample: sample.anonymous))
        if self.seconds >= LEAST_SECONDS and grown >= MOST_GROWTH:
            yield f"memory has grown by {grown:.1%}"
        if self.left > self.baseline:
            yield f"{self.left} descriptors are left, there were {self.baseline}"
        if self.counters.in_flight or self.counters.leased:
            yield f"{self.counters.in_flight} requests and {self.counters.leased} connections never ended"

    def _unaccounted(self) -> Iterator[str]:
        log, seen = self.log, self.seen
        for what, lines in (
            ("errors of the gateway", log.ours),
            ("request ids that ended more than once", log.twice),
            ("lines of the log that are none", log.torn),
            ("phases that do not sum up", log.unbalanced),
            ("load generators that failed", seen.complaints),
            ("on standard error", self.stderr.splitlines()[:5]),
        ):
            if lines:
                yield f"{what}: {'; '.join(lines)}"
        if self.counters.dropped:
            yield f"{self.counters.dropped} lines of the log were lost"
        if differing := Counter(log.ends) - self.counters.ends + (self.counters.ends - log.ends):
            yield f"log and counters differ in {dict(differing)}"
        if lost := seen.asked - log.ids:
            first = min(lost)
            yield f"{len(lost)} requests never ended in the log, such as {first} ({seen.broken.get(first, 'answered')})"
        if seen.bad.total():
            ended = {how: count for how, count in log.steady.items() if not how.endswith(" ok")}
            yield f"requests to the good service failed: {dict(+seen.bad)}; {'; '.join(seen.why)}; in the log: {ended}"
        if log.ended == 0 or not log.events or log.events[-1] != "the gateway has stopped":
            yield "the log has no end"


def told(soak: Soak) -> str:
    """As Markdown."""
    good, log = soak.seen, soak.log
    first, last = (median(sample.rss for sample in part) / 1e6 for part in ends_of(soak.judged))
    open_files = [sample.descriptors for sample in soak.judged]
    faults, misbehaved = good.faults, good.misbehaved
    rows = [
        ["", "figure"],
        ["seconds, of them warm-up", f"{soak.seconds:.0f}, {soak.warm_up:.0f}"],
        ["requests that ended", f"{log.ended:,}"],
        ["of good clients, answered well", f"{good.good.total():,}"],
        ["of good clients, failed", f"{good.bad.total():,}"],
        ["their p99, ms, median of turns of 15 s", ", ".join(p99s(good))],
        ["backends' faults met (kinds)", f"{faults.total():,} ({len(faults)})"],
        ["clients' faults met (kinds)", f"{misbehaved.total():,} ({len(misbehaved)})"],
        ["ended as (cause)", ", ".join(f"{cause} {count:,}" for cause, count in causes(soak))],
        ["memory, MB: behind the warm-up, at the end", f"{first:.1f}, {last:.1f}"],
        ["growth of resident memory", f"{soak.grown(lambda sample: sample.rss):+.2%}"],
        ["growth of its proportional share (PSS)", f"{soak.grown(lambda sample: sample.pss):+.2%}"],
        ["growth of what is no file's", f"{soak.grown(lambda sample: sample.anonymous):+.2%}"],
        ["descriptors meanwhile: median, most", f"{median(open_files):.0f}, {max(open_files)}"],
        ["descriptors before, after", f"{soak.baseline}, {soak.left}"],
        ["errors in the log, lines lost", f"{log.levels['ERROR'] + log.levels['CRITICAL']}, {soak.counters.dropped}"],
        ["requests with no end, with two", f"{len(good.asked - log.ids)}, {len(log.twice)}"],
    ]
    failures = list(soak.failures())
    verdict = "Failed:\n\n" + "\n".join(f"- {each}" for each in failures) if failures else "All of it held."
    return "\n\n".join([conditions(), table(rows), verdict]) + "\n"


def conditions() -> str:
    """Say where this was measured, and by whom."""
    crowd = f"{USERS} connections of wrk, h2load, {ASKING} clients who ask for faults, {MISBEHAVING} who misbehave"
    return f"{machine()} {crowd}."


def machine() -> str:
    """Where this is measured."""
    stack = ", ".join(f"{name} {version(name)}" for name in ("trio", "hypercorn"))
    cores = f"{os.cpu_count()} cores ({cpu_model()})"
    return f"{cores}, Python {platform.python_version()}, {stack}, {' '.join(platform.libc_ver())}."


def p99s(seen: Seen) -> Iterator[str]:
    """The p99 of each load generator."""
    for name, seconds in seen.p99.items():
        yield f"{name} {median(seconds) * 1e3:.1f}"


def causes(soak: Soak) -> list[tuple[str, int]]:
    """How exchanges ended, most often first."""
    found: Counter[str] = Counter()
    for (_service, _status, cause), count in soak.log.ends.items():
        found[cause] += count
    return found.most_common()


def ends_of(samples: Sequence[Sample]) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """The first fifth and the last."""
    fifth = max(1, len(samples) // 5)
    return samples[:fifth], samples[-fifth:]


# ---- the drawing


def drawing(soak: Soak) -> str:
    """Memory, descriptors and requests a second over time, each from zero."""
    curves: list[tuple[str, list[tuple[float, float]]]] = [
        ("memory, MB resident", [(each.second, each.rss / 1e6) for each in soak.samples]),
        ("descriptors", [(each.second, each.descriptors) for each in soak.samples]),
        ("requests/s that ended", list(rates(soak.samples))),
    ]
    height = len(curves) * (PANEL + GAP) + GAP
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    shapes: list[str] = []
    for number, (title, points) in enumerate(curves):
        shapes += panel(GAP + number * (PANEL + GAP), title, points, soak, COLOURS[number])
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            *shapes,
            "</svg>\n",
        ]
    )


def rates(samples: Sequence[Sample], span: float = 10.0) -> Iterator[tuple[float, float]]:
    """Requests a second, over spans of so many seconds or of a tenth of the whole, whichever is shorter."""
    if not samples:
        return
    span = min(span, max(samples[-1].second / 10, 0.1))
    before = samples[0]
    for sample in samples[1:]:
        if sample.second - before.second >= span:
            yield sample.second, (sample.ended - before.ended) / (sample.second - before.second)
            before = sample


def panel(top: int, title: str, points: Sequence[tuple[float, float]], soak: Soak, colour: str) -> Iterator[str]:
    """Draw one curve; the warm-up is shaded."""
    wide, most = WIDTH - LEFT - RIGHT, max((value for _, value in points), default=0) * 1.1 or 1
    last = max(soak.seconds, max((second for second, _ in points), default=0))

    def x(second: float) -> float:
        return LEFT + second / last * wide

    bottom = top + PANEL
    line = " ".join(f"{x(second):.1f},{bottom - value / most * PANEL:.1f}" for second, value in points)
    yield text(10, top - 8, title, "bold")
    yield f'<rect x="{LEFT}" y="{top}" width="{x(soak.warm_up) - LEFT:.1f}" height="{PANEL}" fill="#eeeeee"/>'
    yield f'<path d="M{LEFT} {top} V{bottom} H{LEFT + wide}" fill="none" stroke="#8d99ae"/>'
    yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    peak = max((value for _, value in points), default=0)
    yield text(LEFT - 8, bottom, "0", anchor="end")
    yield text(LEFT - 8, round(bottom - peak / most * PANEL) + 4, f"{peak:.0f}", anchor="end")
    yield text(LEFT, bottom + 16, "0 s")
    yield text(LEFT + wide, bottom + 16, f"{last:.0f} s", anchor="end")
