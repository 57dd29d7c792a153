"""The pictures of a run: which figures each shows. How bars are drawn is in ``plot``."""

from collections.abc import Callable
from statistics import median

from benchmarks.plot import bars
from benchmarks.run import Results
from benchmarks.subjects import Subject
from benchmarks.workloads import Sample, Workload

LEFT_OUT = ("direct", "fastapi")
"""The backend is no proxy, and beside what takes ten times as long nothing else would be seen: the tables have both."""


def drawings(results: Results) -> dict[str, str]:
    """Name of the file to what is in it."""
    small = [workload for workload in results.workloads if not workload.bulk]
    large = [workload for workload in results.workloads if workload.bulk]
    return {
        "performance.svg": bars(
            "CPU time per request, µs (less is better)", groups(results, small, lambda sample: sample.cpu_per_request)
        ),
        "performance-large.svg": bars(
            "CPU time per body of 8 MB, ms (less is better)",
            groups(results, large, lambda sample: sample.cpu_per_request / 1e3),
            digits=1,
        ),
    }


def groups(
    results: Results, workloads: list[Workload], value: Callable[[Sample], float]
) -> dict[str, list[tuple[str, float]]]:
    """The medians, for each workload that was measured."""
    found: dict[str, list[tuple[str, float]]] = {}
    for workload in workloads:
        for subject in filter(shown, results.subjects):
            if samples := results.of(workload, subject):
                found.setdefault(workload.title, []).append((subject.title, median(map(value, samples.values()))))
    return found


def shown(subject: Subject) -> bool:
    """Whether it is in the pictures."""
    return subject.key not in LEFT_OUT
