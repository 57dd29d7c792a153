"""What the gateway is to cost at most, as a table, and what of it a run has shown.

A ratio to another subject or another workload is taken within each round first; the median of these counts. What never
lives here: how something is measured.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from benchmarks.report import added_latency, ratio, table
from benchmarks.run import Results
from benchmarks.workloads import Sample

Value = Callable[[Results], float | None]
"""Takes a figure from the results; None where it was not measured."""

OURS = "gateway"


@dataclass(frozen=True, slots=True)
class Target:
    """One figure and its bounds: ``must`` is promised, ``aim`` is wanted."""

    title: str
    value: Value
    must: float | None
    aim: float | None = None
    at_least: bool = False
    """Whether more is better."""
    form: str = ".2f"
    unit: str = ""

    def met(self, value: float, bound: float) -> bool:
        """Whether the value keeps to a bound."""
        return value >= bound if self.at_least else value <= bound

    def verdict(self, value: float | None) -> str:
        """In words."""
        if value is None:
            return "not measured"
        if self.must is not None and not self.met(value, self.must):
            return "**missed**"
        if self.aim is None:
            return "met"
        if self.met(value, self.aim):
            return "aim met" if self.must is None else "met, aim too"
        return "aim missed" if self.must is None else "met, aim missed"

    def row(self, results: Results) -> list[str]:
        """As cells."""
        value = self.value(results)
        sign = "≥" if self.at_least else "≤"
        bounds = ["" if bound is None else f"{sign} {bound:g}{self.unit}" for bound in (self.must, self.aim)]
        return [self.title, "" if value is None else f"{value:{self.form}}{self.unit}", *bounds, self.verdict(value)]


def cpu(sample: Sample) -> float:
    """Microseconds per request."""
    return sample.cpu_per_request


def cpu_ratio(work: str, other: str, *, other_work: str | None = None) -> Value:
    """Our CPU time per request to that of another, or of ours in another workload."""
    return lambda results: ratio(results.of(work, OURS), results.of(other_work or work, other), cpu)


def rate_ratio(work: str, other: str) -> Value:
    """Our requests per second to those of another."""
    return lambda results: ratio(results.of(work, OURS), results.of(work, other), lambda sample: sample.rate)


def latency_added(work: str) -> Value:
    """In milliseconds, at the median."""

    def value(results: Results) -> float | None:
        added = added_latency(results.of(work, OURS), results.of(work, "direct"))
        return None if added is None else added * 1e3

    return value


def of_samples(work: str, figure: Callable[[Sample], float], total: Callable[[list[float]], float]) -> Value:
    """A figure of our samples, put together over the rounds."""

    def value(results: Results) -> float | None:
        figures = [figure(sample) for sample in results.of(work, OURS).values()]
        return total(figures) if figures else None

    return value


def tail(work: str) -> Value:
    """The p99 in terms of the p50."""
    return of_samples(work, lambda sample: sample.load.p99 / sample.load.p50, median)


def errors(work: str) -> Value:
    """Their number, over all rounds."""
    return of_samples(work, lambda sample: sample.load.errors, sum)


def grown(work: str) -> Value:
    """MB that memory grew by at most, in the worst round."""
    return of_samples(work, lambda sample: sample.memory.grown / 1e6, max)


def idle_memory(results: Results) -> float | None:
    """MB that the gateway has with all idle clients that are wanted; extrapolated where fewer could be held."""
    idle = results.idle
    if idle is None or not idle.held:
        return None
    return (idle.before + (idle.after - idle.before) * idle.wanted / idle.held) / 1e6


def idle_rate(results: Results) -> float | None:
    """Requests per second of an active client beside the idle ones, to those without them."""
    idle = results.idle
    return None if idle is None else ratio(idle.beside, idle.alone, lambda sample: sample.rate)


HYPERCORN, CADDY, NGINX, FASTAPI = "hypercorn", "caddy", "nginx", "fastapi"

TARGETS = (
    Target('GET, 32 connections: CPU ÷ stock Hypercorn\'s "ok"', cpu_ratio("get-32", HYPERCORN), 0.5, 0.35),
    Target("GET, 32 connections: CPU ÷ Caddy", cpu_ratio("get-32", CADDY), None, 1.2),
    Target("GET, 100 connections: CPU ÷ that at 32", cpu_ratio("get-100", OURS, other_work="get-32"), 1.3),
    Target("GET, 1,000 connections: CPU ÷ that at 32", cpu_ratio("get-1000", OURS, other_work="get-32"), 1.6),
    Target("GET, 1,000 connections: CPU ÷ Caddy", cpu_ratio("get-1000", CADDY), None, 1.0),
    Target("GET, 100 connections: p99 ÷ p50", tail("get-100"), 5, form=".1f"),
    Target("GET, 1,000 connections: p99 ÷ p50", tail("get-1000"), 5, form=".1f"),
    Target("GET, 100 connections: errors", errors("get-100"), 0, form=".0f"),
    Target("GET, 1,000 connections: errors", errors("get-1000"), 0, form=".0f"),
    Target("POST, 32 connections: CPU ÷ GET", cpu_ratio("post-32", OURS, other_work="get-32"), 1.15),
    Target('GET over HTTP/2: CPU ÷ stock Hypercorn\'s "ok"', cpu_ratio("h2-80", HYPERCORN), 0.8, 0.5),
    Target("GET, 1 connection: added latency (p50)", latency_added("get-1"), 0.35, 0.2, unit=" ms"),
    Target("GET of 8 MB: CPU ÷ nginx", cpu_ratio("download", NGINX), 2, 1.2),
    Target("GET of 8 MB: memory grows by", grown("download"), 8, form=".1f", unit=" MB"),
    Target("POST of 8 MB: CPU ÷ nginx", cpu_ratio("upload", NGINX), 2, 1.2),
    Target("POST of 8 MB: memory grows by", grown("upload"), 8, form=".1f", unit=" MB"),
    Target("GET, 32: requests/s ÷ fastapi-proxy-lib", rate_ratio("get-32", FASTAPI), 8, 15, at_least=True, form=".1f"),
    Target(
        "GET, 100: requests/s ÷ fastapi-proxy-lib", rate_ratio("get-100", FASTAPI), 12, 15, at_least=True, form=".1f"
    ),
    Target("10,000 idle clients: memory", idle_memory, 400, 250, form=".0f", unit=" MB"),
    Target("10,000 idle clients: requests/s beside them ÷ without", idle_rate, 0.9, at_least=True),
)
"""Memory is flat that grows by less than one of the bodies, of which four are under way at a time."""


def verdicts(results: Results) -> str:
    """All targets, as a table."""
    return table(
        [["target", "measured", "must", "aim", ""], *(target.row(results) for target in TARGETS)], words_last=True
    )
