"""The wheel: built twice to the same bytes, described by an SBOM, and tested as it would be installed.

    python .ci/wheel.py dist TESTS...

writes the wheel and its CycloneDX SBOM into ``dist`` and runs the tests against the installed wheel. The environment
for that is new, its packages are those of requirements.lock by their hashes, and ``gateway`` is not there but from the
wheel: the tests and what they use are copied away from the sources. What never lives here: a version, an address.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BESIDE = ("tests", "fixtures", "benchmarks", "docs", "containers", "pyproject.toml", "README.md", ".env.example")
"""What the tests read, and is not the gateway."""
NAMESPACE = uuid.UUID("9d0c3c52-6f0e-5b0c-9c59-6b9b0c6a5d3e")
"""Of the SBOM's serial numbers: any fixed value will do."""


def main(out: Path, tests: Sequence[str]) -> int:
    """See the module. The exit status is pytest's."""
    epoch = commit_time()
    with tempfile.TemporaryDirectory() as scratch:
        first, second = (build(Path(scratch) / name, epoch) for name in "ab")
        if first.read_bytes() != second.read_bytes():
            print("two builds of the wheel differ", file=sys.stderr)
            return 1
        out.mkdir(exist_ok=True)
        wheel = Path(shutil.copy(first, out))
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        sbom = out / "api-gateway.cdx.json"
        sbom.write_text(json.dumps(described(exported_sbom(), wheel.name, digest, epoch), indent=2) + "\n")
        print(f"{wheel.name}: twice the same {wheel.stat().st_size:,} bytes, sha256 {digest}")
        print(f"{sbom.name}: {len(json.loads(sbom.read_text())['components'])} components", flush=True)
        return tested(wheel, Path(scratch) / "installed", tests)


def commit_time() -> int:
    """SOURCE_DATE_EPOCH where it is set, else when the last commit was made: seconds since 1970."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return int(given or run("git", "log", "-1", "--format=%ct"))


def build(into: Path, epoch: int) -> Path:
    """Build the wheel, with the build backend that is pinned."""
    run("uv", "build", "--quiet", "--wheel", "--out-dir", str(into), SOURCE_DATE_EPOCH=str(epoch))
    [wheel] = into.glob("*.whl")
    return wheel


def exported_sbom() -> dict[str, Any]:
    """What the wheel needs at run time, as uv tells it."""
    command = ("uv", "export", "--quiet", "--preview", "--format", "cyclonedx1.5", "--no-default-groups")
    sbom: dict[str, Any] = json.loads(run(*command))
    return sbom


def described(sbom: dict[str, Any], wheel: str, digest: str, epoch: int) -> dict[str, Any]:
    """The SBOM of this very wheel: the same for the same bytes, whoever makes it and when."""
    sbom["serialNumber"] = f"urn:uuid:{uuid.uuid5(NAMESPACE, digest)}"
    sbom["metadata"]["timestamp"] = datetime.fromtimestamp(epoch, UTC).isoformat()
    component = sbom["metadata"]["component"]
    component["version"] = wheel.split("-")[1]
    component["hashes"] = [{"alg": "SHA-256", "content": digest}]
    for each in sbom["components"]:
        each.pop("externalReferences", None)  # addresses of whatever index was asked
    return sbom


def tested(wheel: Path, where: Path, tests: Sequence[str]) -> int:
    """Install the wheel into a new environment and run the tests there. Gives pytest's exit status."""
    venv, work = where / "venv", where / "work"
    python = venv / "bin" / "python"
    run("uv", "venv", "--quiet", "--python", sys.executable, str(venv))
    install = ("uv", "pip", "install", "--quiet", "--no-config", "--python", str(python))
    run(*install, "--require-hashes", "--no-deps", "-r", str(ROOT / "requirements.lock"))
    members = sorted(str(path.parent) for path in (ROOT / "fixtures").glob("*/pyproject.toml"))
    run(*install, "--no-deps", "--build-constraint", str(ROOT / "containers/build.txt"), str(wheel), *members)
    for name in BESIDE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, work / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, work / name)
    environ = {**os.environ, "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(work)}
    environ.pop("VIRTUAL_ENV", None)
    found = ("-c", "import gateway; print(f'testing {gateway.__file__}', flush=True)")
    subprocess.run([python, *found], cwd=work, env=environ, check=True)  # noqa: S603 - made here, see above
    pytest = [str(venv / "bin" / "pytest"), *tests]
    return subprocess.run(pytest, cwd=work, env=environ, check=False).returncode  # noqa: S603 - whoever calls us chose it


def run(*command: str, **environ: str) -> str:
    """What the command prints; ends with its message where it fails."""
    done = subprocess.run(  # noqa: S603 - the commands stand above
        command, cwd=ROOT, env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:]))
