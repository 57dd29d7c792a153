"""Rules of the house that no tool knows, checked on every file that git knows or would take."""

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway

ROOT = Path(__file__).parent.parent

MOST_LINES = 500
PINS = {"requirements.lock", "containers/requirements.txt", "containers/services.txt", "containers/build.txt"}
"""Written by `nox -s lock`, as long as they must be."""

NO_TESTS_OF_ITS_OWN = {
    "__init__": "says what a package is and names its parts",
    "__main__": "one call; the commands' tests start it",
}

ADDRESS_OF_AN_INDEX = re.compile(
    r"\b(?:pypi|pythonhosted|docker|quay|ghcr|npmjs|crates|debian)\.(?:org|io|com)\b"
    r"|https?://\S+\.(?:whl|tar\.gz|tgz|zip|deb)\b"
    r"|https?://\S+/simple\b"
    r"|(?:index-url|extra-index-url|find-links)[ =]+\S*//"
)

SUPPRESSION = re.compile(
    r"#\s*(?:pragma:\s*no \w+|(?:noqa|type:\s*ignore)"
    r"(?P<codes>:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*|\[[\w-]+(?:,\s*[\w-]+)*\])?)"
)


def tracked() -> list[str]:
    # The checkout may belong to somebody else, as in CI: git would refuse to tell without being told to trust it.
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout  # noqa: S603 - fixed
    return sorted(name for name in listing.split("\0") if name and (ROOT / name).is_file())


FILES = tracked()
PYTHON = [name for name in FILES if name.endswith(".py")]
DOCUMENTS = [name for name in FILES if name.endswith(".md")]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def unexplained(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of each suppression in ``source`` that names no code or gives no reason beside it."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        found = list(SUPPRESSION.finditer(token.string)) if token.type == tokenize.COMMENT else []
        reason = re.search(r"\w\w", SUPPRESSION.sub("", token.string))
        if found and not (reason and all(match["codes"] or "pragma" in match[0] for match in found)):
            yield token.start[0], token.string


def commands(document: str) -> Iterator[str]:
    """Yield each command of the fenced shell blocks: in a transcript those behind a prompt, else every line."""
    for language, block in re.findall(r"^```(bash|sh|console)\n(.*?)^```", document, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            prompt, command = re.fullmatch(r"(\$ )?(.*)", line.partition(" #")[0]).groups()  # type: ignore[union-attr] # it matches anything
            if command.strip() and (prompt or language != "console"):
                yield command.strip()


def nox_sessions() -> set[str]:
    functions = [node for node in ast.parse(text("noxfile.py")).body if isinstance(node, ast.FunctionDef)]
    return {each.name for each in functions if any("session" in ast.unparse(mark) for mark in each.decorator_list)}


def gateway_commands() -> set[str]:
    from gateway import cli  # noqa: PLC0415 - the other rules are checked even where it does not import

    return set(cli.main.commands)


def unknown(command: str) -> str | None:
    """Return what in a documented command nobody could run, or None where it is all there."""
    for part in re.split(r"&&|\|\|?|;", command):
        words = [word for word in part.split() if "=" not in word.partition("/")[0] or word.startswith("-")]
        if words[:2] == ["uv", "run"]:
            words = words[2:]
            if words and words[0] not in ("nox", "gateway") and (Path(sys.executable).parent / words[0]).exists():
                continue
        if not words:
            continue
        if words[0] == "nox":
            asked = words[words.index("-s") + 1 : words.index("--") if "--" in words else None] if "-s" in words else []
            if lost := set(asked) - nox_sessions():
                return f"no nox session {', '.join(sorted(lost))}"
        elif words[0] == "gateway":
            if len(words) > 1 and not words[1].startswith("-") and words[1] not in gateway_commands():
                return f"no command gateway {words[1]}"
        elif words[0] not in EVERYDAY and not (ROOT / words[0]).is_file():
            return f"nothing here knows {words[0]}"
    return None


EVERYDAY = {
    "cd",
    "curl",
    "docker",
    "echo",
    "export",
    "git",
    "grep",
    "kill",
    "kubectl",
    "mkdir",
    "openssl",
    "pip",
    "podman",
    "podman-compose",
    "python",
    "tee",
    "unset",
    "uv",
    "wait",
}


def test_every_module_of_the_gateway_has_its_test_file() -> None:
    modules = [Path(name) for name in PYTHON if name.startswith("gateway/")]
    wanted = {
        str(Path("tests", *module.parts[1:-1], f"test_{module.stem.lstrip('_')}.py"))
        for module in modules
        if module.stem not in NO_TESTS_OF_ITS_OWN
    }
    assert sorted(wanted - set(FILES)) == []


def test_no_file_is_longer_than_one_can_hold_in_mind() -> None:
    lengths = {name: text(name).count("\n") for name in FILES if name.endswith((".py", ".md", ".toml", ".yaml", ".sh"))}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_file_holds_the_address_of_an_index_or_a_download() -> None:
    assert [f"{name}: {hit[0]}" for name in FILES for hit in ADDRESS_OF_AN_INDEX.finditer(text(name))] == []


def test_the_lock_of_uv_stays_out_of_the_repository() -> None:
    assert "uv.lock" not in FILES


def test_every_suppression_names_its_rule_and_gives_a_reason() -> None:
    assert [f"{name}:{line}: {comment}" for name in PYTHON for line, comment in unexplained(text(name))] == []


@pytest.mark.parametrize(
    "comment",
    [
        "# noqa",
        "# noqa: S101",
        "# type: ignore",
        "# type: ignore[arg-type]",
        "# pragma: no cover",
        "# noqa - for a reason",
    ],
)
def test_suppression_without_rule_or_reason_is_found(comment: str) -> None:
    assert list(unexplained(f"x = 1  {comment}\n")) == [(1, comment)]


@pytest.mark.parametrize(
    "comment",
    ["# noqa: S101 - said so", "# type: ignore[arg-type]  # upstream's stub", "# pragma: no cover - on Windows"],
)
def test_suppression_with_rule_and_reason_passes(comment: str) -> None:
    assert list(unexplained(f"x = 1  {comment}\n")) == []


def test_every_documented_command_can_be_run() -> None:
    listed = [(name, command) for name in DOCUMENTS for command in commands(text(name))]
    assert listed
    assert [f"{name}: {command}: {why}" for name, command in listed if (why := unknown(command))] == []


@pytest.mark.parametrize("command", ["uv run nox -s nonsense", "uv run gateway nonsense", "tox -e py", "a=b make"])
def test_command_that_nobody_knows_is_found(command: str) -> None:
    assert unknown(command) is not None


def test_contributing_names_every_nox_session() -> None:
    told = set(re.findall(r"nox -s (\w+)", text("CONTRIBUTING.md")))
    assert told == nox_sessions()


def test_build_group_holds_what_every_member_is_built_with() -> None:
    projects = {name: tomllib.loads(text(name)) for name in FILES if Path(name).name == "pyproject.toml"}
    needed = {each for project in projects.values() for each in project["build-system"]["requires"]}
    assert set(projects["pyproject.toml"]["dependency-groups"]["build"]) == needed


def test_image_is_labelled_with_the_version_of_the_package() -> None:
    assert f"ARG VERSION={gateway.__version__}\n" in text("containers/Dockerfile")


def test_ci_runs_what_the_readme_tells_a_newcomer_to_run() -> None:
    assert "uv run nox" in text(".ci/run")
