"""What CI does is what ``nox`` does: the workflow, held against the noxfile and against the rules for workflows."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / ".github/workflows/ci.yml").read_text()
WORKFLOW: dict[str, Any] = yaml.safe_load(TEXT)
JOBS = sorted(WORKFLOW["jobs"])
SESSIONS = re.findall(r"@nox\.session\ndef (\w+)", (ROOT / "noxfile.py").read_text())


def test_nothing_is_permitted_unless_a_job_says_so() -> None:
    assert WORKFLOW["permissions"] == {}


@pytest.mark.parametrize("job", JOBS)
def test_a_job_reads_and_does_no_more(job: str) -> None:
    assert WORKFLOW["jobs"][job]["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("job", JOBS)
def test_a_job_ends_by_itself(job: str) -> None:
    assert 0 < WORKFLOW["jobs"][job]["timeout-minutes"] <= 30


def test_actions_are_pinned_by_hash_and_say_their_version() -> None:
    used = re.findall(r"uses: (.*)", TEXT)
    assert used
    assert [use for use in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use)] == []


def test_checkouts_leave_no_token_behind() -> None:
    checkouts = [
        step for job in WORKFLOW["jobs"].values() for step in job["steps"] if "actions/checkout" in step.get("uses", "")
    ]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_the_default_sessions_run_and_the_others_exist() -> None:
    commands = [step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step]
    assert "uv run nox" in commands
    named = {name for command in commands for name in re.findall(r"nox -s (\w+)", command)}
    assert named == {"documents", "wheel", "containers"}
    assert named <= set(SESSIONS)
