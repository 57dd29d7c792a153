"""The pins' own checker (.ci/pins.py), on texts small enough to see through."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
A, B, C = (f"--hash=sha256:{digit * 64}" for digit in "abc")

LOCK = f"left==1.0 \\\n    {A} \\\n    {B}\nright==2.0 ; sys_platform == 'win32' \\\n    {C}\n"
BUILD = f"left==1.0 \\\n    {A} \\\n    {B}\n"
PYPROJECT = """\
[tool.uv]
constraint-dependencies = [
    "left==1.0",
    "right==2.0",
]
build-constraint-dependencies = [
    "left==1.0",
]
"""


@pytest.fixture(scope="module")
def pins() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pins", ROOT / ".ci" / "pins.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exports(lock: str = LOCK, build: str = BUILD) -> dict[str, str]:
    return {"requirements.lock": lock, "containers/requirements.txt": "", "containers/build.txt": build}


def test_pins_that_agree_have_no_fault(pins: ModuleType) -> None:
    assert pins.faults(PYPROJECT, exports()) == []


@pytest.mark.requirement("FR-012")
def test_pins_of_this_repository_agree(pins: ModuleType) -> None:
    committed = {path: (ROOT / path).read_text() for path in pins.EXPORTS}
    assert pins.faults((ROOT / "pyproject.toml").read_text(), committed) == []


@pytest.mark.parametrize(
    ("lock", "fault"),
    [
        (LOCK.replace("right==2.0", "right>=2.0"), "is not one exact version"),
        (LOCK.replace("right==2.0", "right==2.*"), "is not one exact version"),
        (LOCK.replace(f" \\\n    {C}", ""), "lacks a sha256 hash"),
        (LOCK.replace(C, C[:-1]), "lacks a sha256 hash"),
        (LOCK.replace("right==2.0", "right @ https://example.com/right"), "an address or an index"),
        (f"--index-url example\n{LOCK}", "an address or an index"),
        (LOCK.replace("right==2.0", "right==2.1"), "lacks 'right==2.1'"),
        (LOCK.replace("right==2.0", "wrong==2.0"), "has 'right==2.0'"),
        (LOCK.replace(f" \\\n    {B}", ""), "containers/build.txt: 'left==1.0' is not the one of requirements.lock"),
    ],
)
def test_disagreement_is_told(pins: ModuleType, lock: str, fault: str) -> None:
    assert fault in "\n".join(pins.faults(PYPROJECT, exports(lock)))


def test_marker_is_pinned_only_where_it_tells_two_versions_apart(pins: ModuleType) -> None:
    one, two = "right==1.0 ; python_full_version < '3.13'", "right==2.0 ; python_full_version >= '3.13'"
    assert pins.constraints([two, one, "left==1.0 ; os_name == 'nt'"]) == ["left==1.0", one, two]


def test_fresh_resolve_with_another_version_is_drift(pins: ModuleType) -> None:
    fresh = exports(LOCK.replace("right==2.0", "right==2.1"))
    assert pins.drift(exports(), fresh) == [
        "requirements.lock: a fresh resolve also wants \"right==2.1 ; sys_platform == 'win32'\"",
        "requirements.lock: a fresh resolve does not want \"right==2.0 ; sys_platform == 'win32'\"",
    ]


def test_hash_no_longer_offered_is_drift_and_a_further_one_is_not(pins: ModuleType) -> None:
    fewer = exports(build=f"left==1.0 \\\n    {A}\n")
    assert pins.drift(exports(), fewer) == ["containers/build.txt: a hash of 'left==1.0' is no longer offered"]
    assert pins.drift(fewer, exports()) == []


def test_pins_are_written_over_the_old_ones_and_nothing_else_changes(pins: ModuleType) -> None:
    bare = pins.with_pins(PYPROJECT, {"constraint-dependencies": ()})
    assert bare == PYPROJECT.replace('    "left==1.0",\n    "right==2.0",\n', "", 1)
    assert pins.with_pins(bare, {"constraint-dependencies": ("left==1.0", "right==2.0")}) == PYPROJECT


def test_pyproject_without_the_array_is_refused(pins: ModuleType) -> None:
    with pytest.raises(SystemExit, match="no array 'constraint-dependencies'"):
        pins.with_pins("[tool.uv]\n", {"constraint-dependencies": ()})
