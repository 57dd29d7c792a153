"""ARCHITECTURE.md tells what is so: its modules and files exist, and its requirements have their tests."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
REQUIREMENTS = [*(f"FR-{number:03}" for number in range(1, 14)), *(f"SC-{number:03}" for number in range(1, 9))]


def section(title: str) -> str:
    """The text under one heading."""
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    """The cells of the first table in a section, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def modules_in(text: str) -> list[str]:
    return re.findall(r"`(gateway(?:\.\w+)+)`", text)


def file_of(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def marks(source: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each test in this module, with each requirement that it is marked with."""
    for node in ast.walk(ast.parse(source)):
        for mark in getattr(node, "decorator_list", []):
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.requirement":
                yield from ((node.name, str(ast.literal_eval(name))) for name in mark.args)  # type: ignore[attr-defined] # what is decorated has a name


def marked() -> Mapping[str, Mapping[str, set[str]]]:
    """Requirement to file to the tests in it."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in sorted(ROOT.glob("tests/**/test_*.py")):
        for test, requirement in marks(path.read_text(encoding="utf-8")):
            found[requirement][str(path.relative_to(ROOT))].add(test)
    return found


MARKED = marked()
TABLE = {
    requirement: re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", tests)
    for requirement, _, tests in rows("Requirements and their tests")
}


def test_every_requirement_has_its_row_and_no_mark_names_another() -> None:
    assert list(TABLE) == REQUIREMENTS
    assert set(MARKED) <= set(REQUIREMENTS)


@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_row_names_exactly_the_files_that_carry_its_mark(requirement: str) -> None:
    assert sorted(file for file, _ in TABLE[requirement]) == sorted(MARKED[requirement])


@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_row_begins_with_a_test_that_carries_its_mark(requirement: str) -> None:
    assert TABLE[requirement][0][1]
    for file, test in TABLE[requirement]:
        assert not test or test in MARKED[requirement][file]


def test_mark_on_a_function_or_a_class_is_found_with_each_of_its_names() -> None:
    source = '@pytest.mark.requirement("A", "B")\nasync def test_x(): ...\n@pytest.mark.skip\ndef test_y(): ...'
    assert list(marks(source)) == [("test_x", "A"), ("test_x", "B")]


@pytest.mark.parametrize("module", sorted(set(modules_in(TEXT))))
def test_module_that_is_named_exists(module: str) -> None:
    # A class may be named with its module: `gateway.api.Entry`.
    owner = module.rpartition(".")[0] if module.rpartition(".")[2][0].isupper() else module
    assert file_of(owner).is_file()


def test_every_module_and_package_of_the_gateway_has_its_row() -> None:
    found = {f"gateway.{path.stem}" for path in (ROOT / "gateway").glob("*.py") if path.stem != "__init__"}
    found |= {f"gateway.{path.parent.name}" for path in (ROOT / "gateway").glob("*/__init__.py")}
    named = [module for row in rows("Modules") for module in modules_in(row[0])]
    assert sorted(named) == sorted(found)


def test_exactly_the_parts_that_are_named_open_nurseries() -> None:
    opening = {
        top_level(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for path in (ROOT / "gateway").rglob("*.py")
        if "open_nursery(" in path.read_text(encoding="utf-8")
    }
    named = [module for row in rows("Scopes and nurseries") for module in modules_in(row[0])]
    assert {top_level(module) for module in named} == opening - {"gateway.testing"}


def top_level(module: str) -> str:
    return ".".join(module.split(".")[:2])


def test_policy_in_the_table_is_policy_to_import_linter() -> None:
    contracts = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition('name = "policy does no I/O"')[2]
    kept_pure = set(re.findall(r'"(gateway\.\w+)"', contracts))
    named = {module for row in rows("Modules") if row[1].startswith("policy: ") for module in modules_in(row[0])}
    assert named == kept_pure


def test_every_file_that_is_linked_or_named_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    paths = re.findall(r"`((?:tests|fixtures|containers|benchmarks)/[\w/.]*)(?:::\w+)?`", TEXT)
    assert links
    assert [name for name in (*links, *paths) if not (ROOT / name).exists()] == []
