import pytest

from benchmarks.report import added_latency, put_between, ratio, report, table
from benchmarks.run import Results
from benchmarks.subjects import Subject
from benchmarks.workloads import Idle, Load, Memory, Sample, Workload

DIRECT = Subject("direct", "direct", 1, "http://x/", None)
GATEWAY = Subject("gateway", "gateway", 2, "http://x/", None, proxy=True)
STOCK = Subject("hypercorn", "stock", 3, "http://x/", None)
GET = Workload(key="get", title="GET, 1 connection", connections=1)
H2 = Workload(key="h2", title="GET over HTTP/2", connections=1, streams=1)


def sample(cpu: float, p50: float = 0.001, errors: int = 0) -> Sample:
    return Sample(Load(1000, 0.5, p50, 2 * p50, errors), cpu)


def test_sample_tells_requests_per_second_and_microseconds_per_request() -> None:
    assert sample(0.4).rate == 2000
    assert sample(0.4).cpu_per_request == pytest.approx(400)


def test_ratio_is_the_median_of_ratios_within_rounds_that_have_both() -> None:
    ours = {0: sample(2), 1: sample(9), 2: sample(8), 3: sample(1)}
    base = {0: sample(1), 1: sample(3), 2: sample(1)}
    assert ratio(ours, base, lambda each: each.cpu) == 3
    assert ratio(ours, {}, lambda each: each.cpu) is None


def test_added_latency_is_the_median_difference_within_rounds() -> None:
    through = {0: sample(1, 0.005), 1: sample(1, 0.009), 2: sample(1, 0.007), 5: sample(1, 9.0)}
    direct = {0: sample(1, 0.001), 1: sample(1, 0.001), 2: sample(1, 0.002)}
    assert added_latency(through, direct) == pytest.approx(0.005)
    assert added_latency(through, {}) is None


def test_report_has_a_row_per_subject_and_tells_errors_failures_and_what_is_missing() -> None:
    results = Results([GET, H2], [DIRECT, GATEWAY, STOCK], others=0.25)
    results.samples["get", "direct"] = {0: sample(0.01, 0.0001), 1: sample(0.01, 0.0001)}
    results.samples["get", "gateway"] = {0: sample(0.2, 0.0004, errors=3), 1: sample(0.2, 0.0004)}
    results.samples["get", "hypercorn"] = {0: sample(0.4), 1: sample(0.4)}
    results.failures.append("GET over HTTP/2: stock failed: h2load said: nothing")
    text = report(results)
    assert "2 rounds. Other processes used 25% of the machine" in text
    assert "| direct | 2,000 (2,000-2,000) | 10 |  | 0.10 | 0.20 |" in text
    assert "| gateway (3 errors) | 2,000 (2,000-2,000) | 200 | 0.50 | 0.40 | 0.80 |" in text
    assert "| stock | 2,000 (2,000-2,000) | 400 | 1.00 |" in text
    assert "| GET, 1 connection | 0.30 |" in text
    assert "| GET over HTTP/2 |  |" in text
    assert "Not measured" in text
    assert "- GET over HTTP/2: stock failed" in text


def test_report_of_large_bodies_has_the_memory_of_the_worst_round_and_compares_with_nginx() -> None:
    large = Workload(key="large", title="GET of 8 MB", connections=4, path="/large")
    nginx = Subject("nginx", "nginx", 4, "http://x/", None, proxy=True)
    results = Results([large], [GATEWAY, nginx])
    load = Load(1000, 0.5, 0.001, 0.002)
    results.samples["large", "gateway"] = {
        0: Sample(load, 0.2, Memory(50_000_000, 51_000_000)),
        1: Sample(load, 0.2, Memory(60_000_000, 70_000_000)),
    }
    results.samples["large", "nginx"] = {0: Sample(load, 0.1), 1: Sample(load, 0.1)}
    text = report(results, "| the targets |")
    assert text.index("| the targets |") < text.index("**GET of 8 MB**")
    assert "| ÷ nginx |" in text
    assert "| gateway | 2,000 (2,000-2,000) | 200 | 2.00 | 1.00 | 2.00 | 60, 70 |" in text


def test_report_tells_what_an_active_client_has_with_and_without_idle_ones() -> None:
    results = Results([GET], [GATEWAY])
    assert "Idle" not in report(results)
    results.idle = Idle(
        wanted=10_000, held=9_900, before=60_000_000, after=160_000_000, alone={0: sample(0.1)}, beside={0: sample(0.2)}
    )
    assert "| none | 60 | 2,000 | 100 | 1.00 | 2.00 |\n| 9,900 | 160 | 2,000 | 200 | 1.00 | 2.00 |" in report(results)


def test_table_aligns_numbers_to_the_right() -> None:
    assert table([["", "n"], ["a", "1"]]) == "|  | n |\n| --- | ---: |\n| a | 1 |"
    assert table([["", "n", "x"]], words_last=True).endswith("| --- | ---: | --- |")


BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def test_measured_part_of_a_document_is_replaced_and_the_rest_kept() -> None:
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = put_between(document, "new\n")
    assert once == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert put_between(once, "new\n") == once


def test_parts_of_a_document_have_names() -> None:
    document = f"{BEGIN}{END}<!-- profile: begin -->old<!-- profile: end -->"
    assert put_between(document, "new", "profile").startswith(f"{BEGIN}{END}<!-- profile: begin -->\n\nnew\n")


@pytest.mark.parametrize("document", ["", BEGIN, END, f"{END} {BEGIN}"])
def test_document_without_a_place_for_figures_is_refused(document: str) -> None:
    with pytest.raises(ValueError, match="must stand"):
        put_between(document, "new")
