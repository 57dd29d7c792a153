"""What was measured, as Markdown. Medians over the rounds; ratios within a round first, then their median."""

import os
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks.run import Results
from benchmarks.subjects import Subject
from benchmarks.workloads import Idle, Sample, Workload

BEGIN, END = "<!-- {name}: begin -->", "<!-- {name}: end -->"
"""What stands between these in a document is written by a run with --write."""

BASE = "hypercorn"
"""The subject that ratios are told against."""
BULK_BASE = "nginx"
"""And where large bodies are moved."""


def table(rows: Sequence[Sequence[str]], *, words_last: bool = False) -> str:
    """A Markdown table; the first row is its head, the first column is words, the others are numbers."""
    head, *body = rows
    line = ["---", *["---:"] * (len(head) - 1)]
    if words_last:
        line[-1] = "---"
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, line, *body))


def ratio(samples: dict[int, Sample], base: dict[int, Sample], value: Callable[[Sample], float]) -> float | None:
    """The median of the ratios within those rounds that have both; None where there is none."""
    ratios = [value(samples[number]) / value(base[number]) for number in samples.keys() & base.keys()]
    return median(ratios) if ratios else None


def added_latency(through: dict[int, Sample], direct: dict[int, Sample]) -> float | None:
    """Seconds: the median over the rounds of p50 through minus p50 direct; None where there is no such round."""
    added = [through[number].load.p50 - direct[number].load.p50 for number in through.keys() & direct.keys()]
    return median(added) if added else None


def report(results: Results, targets: str = "") -> str:
    """All tables of a run, those of the targets first."""
    parts = [conditions(results), *([targets] if targets else [])]
    for workload in results.workloads:
        rows = [row for subject in results.subjects if (row := _row(results, workload, subject))]
        parts.append(f"**{workload.title}**")
        parts.append(
            table([_head(workload), *rows]) if rows else "Not measured: no load generator for it is installed."
        )
    parts.append("**Added latency**: p50 through the proxy minus p50 of direct access, in ms")
    parts.append(table(_latency_rows(results)))
    if results.idle is not None:
        parts += ["**Idle clients**: they have asked once and stay", table(_idle_rows(results.idle))]
    parts += [f"- {failure}" for failure in results.failures]
    return "\n\n".join(parts) + "\n"


def conditions(results: Results) -> str:
    """Say where this was measured, and how much else went on there."""
    rounds = max((len(samples) for samples in results.samples.values()), default=0)
    stack = ", ".join(f"{name} {version(name)}" for name in ("trio", "hypercorn", "httpx"))
    return (
        f"{os.cpu_count()} cores ({cpu_model()}), Python {platform.python_version()}, {stack}. "
        f"{rounds} round{'s' * (rounds > 1)}. Other processes used {results.others:.0%} of the machine meanwhile."
    )


def cpu_model() -> str:
    """What Linux says that the processor is."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def put_between(document: str, text: str, name: str = "measured") -> str:
    """Replace what stands between BEGIN and END of this name. Raises ValueError where they are missing."""
    begin, end = BEGIN.format(name=name), END.format(name=name)
    before, found, rest = document.partition(begin)
    _, found_too, after = rest.partition(end)
    if not found or not found_too:
        raise ValueError(f"{begin} and {end} must stand in the document, in this order")
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}"


def _row(results: Results, workload: Workload, subject: Subject) -> list[str] | None:
    samples = results.of(workload, subject)
    if not samples:
        return None
    each = list(samples.values())
    rates = [sample.rate for sample in each]
    errors = sum(sample.load.errors for sample in each)
    base = BULK_BASE if workload.bulk else BASE
    to_base = ratio(samples, results.of(workload, base), lambda sample: sample.cpu_per_request)
    return [
        subject.title + (f" ({errors} errors)" if errors else ""),
        f"{median(rates):,.0f}" + (f" ({min(rates):,.0f}-{max(rates):,.0f})" if len(rates) > 1 else ""),
        f"{median(sample.cpu_per_request for sample in each):.0f}",
        "" if to_base is None or subject.key == "direct" else f"{to_base:.2f}",
        f"{median(sample.load.p50 for sample in each) * 1e3:.2f}",
        f"{median(sample.load.p99 for sample in each) * 1e3:.2f}",
        *([_memory(each)] if workload.bulk else []),
    ]


def _head(workload: Workload) -> list[str]:
    common = ["requests/s (range)", "CPU µs/request", "÷ nginx" if workload.bulk else "÷ stock", "p50 ms", "p99 ms"]
    return ["", *common, *(["memory, MB: before, peak"] if workload.bulk else [])]


def _memory(samples: Sequence[Sample]) -> str:
    """Of the round in which it grew most."""
    worst = max((sample.memory for sample in samples), key=lambda memory: memory.grown)
    return f"{worst.before / 1e6:.0f}, {worst.peak / 1e6:.0f}"


def _idle_rows(idle: Idle) -> list[list[str]]:
    rows = [["", "memory, MB", "requests/s", "CPU µs/request", "p50 ms", "p99 ms"]]
    for title, memory, samples in (("none", idle.before, idle.alone), (f"{idle.held:,}", idle.after, idle.beside)):
        figures = (
            (lambda sample: sample.rate, ",.0f"),
            (lambda sample: sample.cpu_per_request, ".0f"),
            (lambda sample: sample.load.p50 * 1e3, ".2f"),
            (lambda sample: sample.load.p99 * 1e3, ".2f"),
        )
        cells = [f"{median(map(figure, samples.values())):{form}}" if samples else "" for figure, form in figures]
        rows.append([title, f"{memory / 1e6:.0f}", *cells])
    return rows


def _latency_rows(results: Results) -> list[list[str]]:
    proxies = [subject for subject in results.subjects if subject.proxy]
    rows = [["", *(subject.title for subject in proxies)]]
    for workload in results.workloads:
        added = [added_latency(results.of(workload, each), results.of(workload, "direct")) for each in proxies]
        rows.append([workload.title, *("" if each is None else f"{each * 1e3:.2f}" for each in added)])
    return rows
