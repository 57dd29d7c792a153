import pytest

from benchmarks.run import Results
from benchmarks.targets import (
    TARGETS,
    Target,
    cpu_ratio,
    errors,
    grown,
    idle_memory,
    idle_rate,
    rate_ratio,
    tail,
    verdicts,
)
from benchmarks.targets import latency_added as added
from benchmarks.workloads import WORKLOADS, Idle, Load, Memory, Sample


def sample(cpu: float, *, seconds: float = 1.0, p50: float = 0.001, p99: float = 0.002, errors: int = 0) -> Sample:
    return Sample(Load(1000, seconds, p50, p99, errors), cpu, Memory(100_000_000, 100_000_000 + int(cpu * 1e7)))


def results(**samples: list[Sample]) -> Results:
    """Samples by workload and subject, in a word: ``get32_gateway``."""
    made = Results(WORKLOADS, [])
    for word, values in samples.items():
        work, subject = word.split("_")
        made.samples[work, subject] = dict(enumerate(values))
    return made


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (0.6, "**missed**"),
        (0.5, "met, aim missed"),
        (0.36, "met, aim missed"),
        (0.35, "met, aim too"),
        (None, "not measured"),
    ],
)
def test_verdict_tells_must_and_aim_apart_and_the_bound_itself_is_met(value: float | None, verdict: str) -> None:
    assert Target("x", lambda _results: value, 0.5, 0.35).verdict(value) == verdict


@pytest.mark.parametrize(("value", "verdict"), [(7.9, "**missed**"), (8, "met, aim missed"), (15, "met, aim too")])
def test_more_is_better_where_the_target_says_so(value: float, verdict: str) -> None:
    assert Target("x", lambda _results: value, 8, 15, at_least=True).verdict(value) == verdict


def test_target_without_must_or_without_aim_has_its_own_words() -> None:
    only_aim, only_must = Target("x", lambda _results: 1, None, 1), Target("x", lambda _results: 1, 1)
    assert (only_aim.verdict(1), only_aim.verdict(2)) == ("aim met", "aim missed")
    assert (only_must.verdict(1), only_must.verdict(2)) == ("met", "**missed**")


def test_row_has_value_bounds_and_verdict() -> None:
    row = Target("added", lambda _results: 0.3, 0.35, 0.2, unit=" ms").row(results())
    assert row == ["added", "0.30 ms", "≤ 0.35 ms", "≤ 0.2 ms", "met, aim missed"]
    assert Target("x", lambda _results: None, 8, at_least=True).row(results()) == ["x", "", "≥ 8", "", "not measured"]


def test_ratios_are_taken_within_rounds() -> None:
    found = results(get_gateway=[sample(1, seconds=1), sample(4, seconds=2)], get_other=[sample(2), sample(4)])
    assert cpu_ratio("get", "other")(found) == 0.75
    assert rate_ratio("get", "other")(found) == 0.75
    assert cpu_ratio("get", "missing")(found) is None


def test_ratio_of_two_workloads_is_that_of_ours() -> None:
    found = results(post_gateway=[sample(3)], get_gateway=[sample(2)])
    assert cpu_ratio("post", "gateway", other_work="get")(found) == 1.5


def test_figures_of_the_rounds_are_put_together_each_in_its_way() -> None:
    found = results(
        get_gateway=[sample(1, p99=0.003, errors=1), sample(5, p99=0.005, errors=2), sample(2, p99=0.004)],
        get_direct=[sample(0, p50=0.0004)],
    )
    assert tail("get")(found) == pytest.approx(4)
    assert errors("get")(found) == 3
    assert grown("get")(found) == pytest.approx(50)
    assert added("get")(found) == pytest.approx(0.6)
    assert added("post")(found) is errors("post")(found) is None


def test_memory_of_idle_clients_is_that_of_as_many_as_are_wanted() -> None:
    found = results()
    assert idle_memory(found) is idle_rate(found) is None
    found.idle = Idle(
        wanted=10_000,
        held=5_000,
        before=60_000_000,
        after=110_000_000,
        alone={0: sample(1)},
        beside={0: sample(1, seconds=2)},
    )
    assert idle_memory(found) == pytest.approx(160)
    assert idle_rate(found) == 0.5


def test_targets_are_all_in_the_table_and_nothing_measured_meets_none() -> None:
    rows = verdicts(results()).splitlines()[2:]
    assert len(rows) == len(TARGETS)
    assert all(row.endswith("| not measured |") for row in rows)


def test_targets_name_workloads_that_there_are() -> None:
    everything = Results(WORKLOADS, [])
    for work in WORKLOADS:
        for key in ("gateway", "direct", "hypercorn", "nginx", "caddy", "fastapi"):
            everything.samples[work.key, key] = {0: sample(1)}
    everything.idle = Idle(wanted=1, held=1, before=1, after=1, alone={0: sample(1)}, beside={0: sample(1)})
    assert [target.title for target in TARGETS if target.value(everything) is None] == []
