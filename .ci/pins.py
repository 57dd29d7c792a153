"""Exact pins without a committed lock: writes them, and checks that they agree.

    python .ci/pins.py renew     resolve afresh, write every pin
    python .ci/pins.py check     the pins agree with each other, and with a fresh resolve

``uv.lock`` records the download addresses of whatever index made it, so it stays out of git. The pins are kept in a
form that any index serves:

    pyproject.toml               [tool.uv] constraint-dependencies and build-constraint-dependencies: names and versions
    requirements.lock            every group, extra and member: names, versions and hashes
    containers/requirements.txt  what the gateway's image runs: a part of requirements.lock, byte for byte
    containers/services.txt      what the image of the services and of the worker runs: likewise
    containers/build.txt         what builds the wheels inside the images: likewise

Resolving is uv's work, done in a copy of the tree: a ``uv.lock`` that lies about here is neither used nor touched. What
never lives here: a version number, an address.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent

LOCK = "requirements.lock"
EXPORTS: Mapping[str, tuple[str, ...]] = {
    LOCK: ("--all-groups", "--all-extras", "--all-packages"),
    "containers/requirements.txt": ("--no-default-groups",),
    "containers/services.txt": tuple(f"--package=fixture-{name}" for name in ("service1", "service2", "worker")),
    "containers/build.txt": ("--only-group", "build"),
}
PINNED_BY: Mapping[str, str] = {
    "constraint-dependencies": LOCK,
    "build-constraint-dependencies": "containers/build.txt",
}

SPECIFIER = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[^\s;*]+)(?: ; (?P<marker>.+))?")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
ADDRESS = re.compile(r"://|@ |--(?:extra-)?index-url|--find-links")
UNREACHABLE = re.compile(
    r"failed to fetch|error sending request|dns error|connection refused|timed out|network was disabled", re.IGNORECASE
)

Requirements = dict[str, set[str]]
"""Specifier (``name==version``, with `` ; marker`` where it has one) to the hashes behind it."""


def parse(text: str) -> Requirements:
    """Read the text of an export, without judging it: one requirement to a line, its hashes on continued lines."""
    requirements: Requirements = {}
    for line in text.replace("\\\n", " ").splitlines():
        specifier, *hashes = (part.strip() for part in line.split(" --hash="))
        if specifier and not specifier.startswith("#"):
            requirements.setdefault(specifier, set()).update(f"--hash={value}" for value in hashes)
    return requirements


def constraints(specifiers: Iterable[str]) -> list[str]:
    """Return what to pin for these specifiers. A marker stays only where it tells two versions of one name apart.

    Elsewhere the marker says who needs the package, and that may change without the version doing so.
    """
    matches = [match for specifier in sorted(specifiers) if (match := SPECIFIER.fullmatch(specifier))]
    names = [match["name"] for match in matches]
    return [match[0] if names.count(match["name"]) > 1 else f"{match['name']}=={match['version']}" for match in matches]


def faults(pyproject: str, exports: Mapping[str, str]) -> list[str]:
    """Return every disagreement between the pins of ``pyproject`` and the ``exports`` (path to text), one line each."""
    found = []
    for path, text in exports.items():
        found += [f"{path}: an address or an index in {line!r}" for line in text.splitlines() if ADDRESS.search(line)]
        for specifier, hashes in parse(text).items():
            if not SPECIFIER.fullmatch(specifier):
                found.append(f"{path}: {specifier!r} is not one exact version")
            if not hashes or not all(HASH.fullmatch(value) for value in hashes):
                found.append(f"{path}: {specifier!r} lacks a sha256 hash")
    lock = parse(exports[LOCK])
    whole = {(match["name"], match["version"]): lock[match[0]] for match in map(SPECIFIER.fullmatch, lock) if match}
    for path, text in exports.items():
        for specifier, hashes in parse(text).items():
            match = SPECIFIER.fullmatch(specifier)
            if match and whole.get((match["name"], match["version"])) != hashes:
                found.append(f"{path}: {specifier!r} is not the one of {LOCK}")
    settings = tomllib.loads(pyproject)["tool"]["uv"]
    for key, path in PINNED_BY.items():
        pinned, wanted = set(settings.get(key, ())), set(constraints(parse(exports[path])))
        found += [f"pyproject.toml: {key} lacks {pin!r}, which {path} has" for pin in sorted(wanted - pinned)]
        found += [f"pyproject.toml: {key} has {pin!r}, which {path} lacks" for pin in sorted(pinned - wanted)]
    return found


def drift(committed: Mapping[str, str], fresh: Mapping[str, str]) -> list[str]:
    """Return where a fresh resolve differs from what is committed. More hashes are no drift: wheels are added later."""
    found = []
    for path, text in committed.items():
        ours, theirs = parse(text), parse(fresh[path])
        found += [f"{path}: a fresh resolve also wants {pin!r}" for pin in sorted(theirs.keys() - ours.keys())]
        found += [f"{path}: a fresh resolve does not want {pin!r}" for pin in sorted(ours.keys() - theirs.keys())]
        found += [
            f"{path}: a hash of {pin!r} is no longer offered"
            for pin in sorted(ours.keys() & theirs.keys())
            if not ours[pin] <= theirs[pin]
        ]
    return found


def with_pins(pyproject: str, pins: Mapping[str, Sequence[str]]) -> str:
    """Return ``pyproject`` with the arrays named in ``pins`` replaced; the rest of the text stays as it is."""
    for key, values in pins.items():
        array = f"{key} = [\n" + "".join(f'    "{value}",\n' for value in values) + "]\n"
        place = re.search(rf"^{key} = \[.*?^\]\n", pyproject, re.MULTILINE | re.DOTALL)
        if place is None:
            raise SystemExit(f"pyproject.toml: no array {key!r} to write to")
        pyproject = pyproject[: place.start()] + array + pyproject[place.end() :]
    return pyproject


def resolve(pyproject: str) -> dict[str, str]:
    """Resolve afresh, with ``pyproject`` in place of the real one, and return the exports (path to text).

    Raises ``subprocess.CalledProcessError``, with uv's words in ``stderr``, where there is no solution or no index.
    """
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch, "tree")
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "uv.lock", "tests", "docs"))
        (tree / "pyproject.toml").write_text(pyproject)
        return {path: uv("export", *options, cwd=tree) for path, options in EXPORTS.items()}


def uv(command: str, *options: str, cwd: Path) -> str:
    """Return what uv prints; the form is the same for every export."""
    form = ("--no-emit-workspace", "--no-header", "--no-annotate", "--format", "requirements-txt", "--quiet")
    # Inside `uv run` VIRTUAL_ENV names this tree's environment, which is not the copy's: uv would warn of it each time.
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    binary = os.environ.get("UV") or shutil.which("uv") or "uv"
    result = subprocess.run(  # noqa: S603 - the options stand above, none comes from outside
        [binary, command, *form, *options], cwd=cwd, env=environment, check=True, capture_output=True, text=True
    )
    return result.stdout


def renew() -> None:
    """Resolve without any pin and write what comes out."""
    path = ROOT / "pyproject.toml"
    bare = with_pins(path.read_text(), dict.fromkeys(PINNED_BY, ()))
    fresh = resolve(bare)
    path.write_text(with_pins(bare, {key: constraints(parse(fresh[source])) for key, source in PINNED_BY.items()}))
    for name, text in fresh.items():
        (ROOT / name).write_text(text)
        print(f"{name}: {len(parse(text))} pins")


def check() -> int:
    """Print every disagreement and return the exit code. Where no index can be reached, only CI fails."""
    pyproject = (ROOT / "pyproject.toml").read_text()
    committed = {path: (ROOT / path).read_text() for path in EXPORTS}
    found = faults(pyproject, committed)
    try:
        found += drift(committed, resolve(pyproject))
    except subprocess.CalledProcessError as error:
        if UNREACHABLE.search(error.stderr) and not os.environ.get("CI"):
            print("pins: no index can be reached, so a fresh resolve was not compared")
        else:
            found.append(f"a fresh resolve failed:\n{error.stderr}")
    print("\n".join(found) or "pins: pyproject.toml, requirements.lock and containers/*.txt agree")
    return 1 if found else 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["renew"]:
            renew()
        case ["check"]:
            sys.exit(check())
        case _:
            sys.exit(__doc__)
