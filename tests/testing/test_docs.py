"""docs/testing.md, and the example in the README: what they show is what is run."""

import re
from pathlib import Path

import pytest

import gateway.testing.app

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent.parent
RECIPES = [
    "A slow dependency",
    "A rolling restart",
    "A retry that must not happen",
    "A stream that stalls",
    "A deadline shared by two backends",
]


def blocks(document: str) -> dict[str, str]:
    """Each block of Python under the heading that it stands below; a heading with several has them numbered."""
    found: dict[str, str] = {}
    parts = re.split(r"^#+ (.*)\n", (ROOT / document).read_text(encoding="utf-8"), flags=re.MULTILINE)
    for heading, text in zip(parts[1::2], parts[2::2], strict=True):
        for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)):
            found[f"{heading} {number}" if number else heading] = code
    return found


PAGE = blocks("docs/testing.md")
README = {heading: code for heading, code in blocks("README.md").items() if "def test_" in code}


def test_all_five_recipes_are_there() -> None:
    assert [heading for heading in PAGE if heading in RECIPES] == RECIPES
    assert README


@pytest.mark.parametrize("code", [*PAGE.values(), *README.values()], ids=[*PAGE, *README])
def test_example_passes_as_it_stands(pytester: pytest.Pytester, code: str) -> None:
    assert gateway.testing.app.__file__  # imported here: pytester would have each run import the gateway anew
    pytester.makepyfile(test_example=code)
    result = pytester.runpytest_inprocess("-W", "error", "--strict-markers", "-p", "no:asyncio", "-p", "no:anyio")
    outcomes = result.parseoutcomes()
    assert outcomes.keys() == {"passed"}
    assert outcomes["passed"] >= code.count("def test_")


FOUND = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (ROOT / "docs/testing.md").read_text(encoding="utf-8"))


def test_every_defect_that_is_told_of_has_the_test_that_is_named_beside_it() -> None:
    assert len(FOUND) >= 18
    missing = [name for file, name in FOUND if f"def {name}(" not in (ROOT / file).read_text(encoding="utf-8")]
    assert missing == []
