import subprocess
from pathlib import Path

import pytest

from benchmarks.ab import WORK, NoSuchRevisionError, check_out, comparison, spread, workload
from benchmarks.run import Results
from benchmarks.subjects import Subject
from benchmarks.workloads import Load, Sample, Workload

GET = Workload(key="get", title="GET", connections=1)
SIDES = [Subject("base", "abc1234", 1, "http://x/", None), Subject("tree", "working tree", 2, "http://x/", None)]


def sample(cpu: float, requests: int = 1000) -> Sample:
    return Sample(Load(requests, 1.0, 0.001, 0.002, errors=1), cpu)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "gateway").mkdir(parents=True)
    (folder / "gateway" / "__init__.py").write_text("OLD = True\n")
    (folder / "README.md").write_text("of no use here\n")
    identity = ["-c", "user.name=a", "-c", "user.email=a@example"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=folder, check=True)  # noqa: S603, S607 -- fixed words, git from the path
    (folder / "gateway" / "__init__.py").write_text("OLD = False\n")
    return folder


def test_revision_is_checked_out_as_it_was_and_nothing_but_the_gateway(repository: Path, tmp_path: Path) -> None:
    state = check_out("HEAD", tmp_path / "out", repository=repository)
    assert len(state.title) >= 7
    assert (state.root / "gateway" / "__init__.py").read_text() == "OLD = True\n"
    assert [path.name for path in state.root.iterdir()] == ["gateway"]
    assert (repository / "gateway" / "__init__.py").read_text() == "OLD = False\n"


def test_revision_that_is_none_is_refused_in_the_words_of_git(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(NoSuchRevisionError, match="single revision"):
        check_out("nonsense", tmp_path / "out", repository=repository)


@pytest.mark.parametrize("name", WORK)
def test_every_short_name_has_a_workload(name: str) -> None:
    assert workload(name).key == WORK[name]


def test_comparison_takes_its_ratios_within_rounds() -> None:
    results = Results([GET], SIDES, others=0.25)
    results.samples["get", "base"] = {0: sample(0.2), 1: sample(0.4), 2: sample(0.6)}
    results.samples["get", "tree"] = {0: sample(0.1), 1: sample(0.2, 2000), 5: sample(9)}
    results.failures.append("GET: working tree failed")
    text = comparison(results)
    assert "| GET | abc1234 | 400.0 (200.0-600.0) | 1,000 (1,000-1,000) | 1.00 | 2.00 | 3 |" in text
    assert "|  | ratio | 0.375 (0.250-0.500) | 1.500 (1.000-2.000) |" in text
    assert "3 rounds. Other processes used 25% of the machine" in text
    assert text.endswith("- GET: working tree failed")


def test_comparison_of_what_failed_has_empty_cells() -> None:
    assert "| GET | working tree |  |  |  |  |  |" in comparison(Results([GET], SIDES))


def test_spread_is_the_median_and_the_middle_half() -> None:
    assert spread([8, 1, 2, 3, 4, 5, 6, 7], ".0f") == "4 (3-6)"
    assert spread([1.5], ".1f") == "1.5 (1.5-1.5)"
    assert spread([], ".1f") == ""
