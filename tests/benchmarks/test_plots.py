from benchmarks.plots import drawings, groups
from benchmarks.run import Results
from benchmarks.subjects import Subject
from benchmarks.workloads import Load, Sample, Workload

GET = Workload(key="get", title="GET", connections=1)
LARGE = Workload(key="large", title="large", connections=1, path="/large")
SUBJECTS = [Subject(key, key, 1, "http://x", None) for key in ("direct", "gateway", "nginx", "fastapi")]


def results() -> Results:
    made = Results([GET, LARGE], SUBJECTS)
    for number, subject in enumerate(SUBJECTS, 1):
        costs = (number / 8, number / 2, number / 4)
        for workload in (GET, LARGE):
            made.samples[workload.key, subject.key] = {
                each: Sample(Load(1000, 1.0, 0.001, 0.002), cost) for each, cost in enumerate(costs)
            }
    return made


def test_bars_are_medians_of_all_but_those_that_would_hide_the_others() -> None:
    assert groups(results(), [GET], lambda sample: sample.cpu) == {"GET": [("gateway", 0.5), ("nginx", 0.75)]}


def test_workload_that_was_not_measured_is_in_no_picture() -> None:
    assert groups(Results([GET], SUBJECTS), [GET], lambda sample: sample.cpu) == {}


def test_small_and_large_have_a_picture_each_in_its_own_unit() -> None:
    drawn = drawings(results())
    assert ">500<" in drawn["performance.svg"]
    assert ">0.5<" in drawn["performance-large.svg"]
    assert ">large<" not in drawn["performance.svg"]
