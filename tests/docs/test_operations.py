"""docs/operations.md: its tables are whole, its commands are typed, its figures are those of the code."""

import configparser
import inspect
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway import errors
from gateway.config import Settings
from gateway.errors import Cause, GatewayError, Phase
from gateway.observe import LineWriter, Record
from gateway.server import Limits
from gateway.serving import MANY_DESCRIPTORS
from gateway.testing import MemoryNetwork, running_gateway
from gateway.transport.pool import IDLE_SECONDS

from .pages import ROOT, Block, blocks, page, tables
from .shell import play, shell

DOCUMENT = "docs/operations.md"

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not there")


def names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def statuses() -> dict[str, set[int]]:
    """Cause to every status that a failure of this cause is answered with."""
    found: dict[str, set[int]] = {}
    for _, failure in inspect.getmembers(errors, inspect.isclass):
        if issubclass(failure, GatewayError):
            found.setdefault(failure.cause, set()).add(failure.status)
    return found


# ---- tables


def test_every_cause_has_its_row_which_says_what_to_do() -> None:
    (rows,) = tables(DOCUMENT, "What a cause means, and what to do")
    assert sorted(row[0].strip("`") for row in rows) == sorted(Cause)
    assert all(len(row) == 4 and len(row[3]) > 20 for row in rows)


def test_each_cause_has_the_statuses_of_its_failures() -> None:
    (rows,) = tables(DOCUMENT, "What a cause means, and what to do")
    told = {row[0].strip("`"): {int(number) for number in re.findall(r"\d+", row[1])} for row in rows}
    assert told.pop(Cause.OK) == set()
    told[Cause.BAD_REQUEST].remove(403)  # a WebSocket's, which is refused by the server
    assert told == statuses()


def test_each_variable_and_command_that_helps_is_there() -> None:
    told = page(DOCUMENT)
    known = page("docs/configuration.md")
    used = set(re.findall(r"`((?:GATEWAY_|<NAME>_)[A-Z_]+)", told))
    assert len(used) > 15
    assert {name for name in used if f"`{name}`" not in known} == set()


def test_log_table_has_each_field_of_a_line_and_the_phases() -> None:
    fields, phases = tables(DOCUMENT, "The log")
    assert sorted(name for row in fields for name in names(row[0])) == sorted(Record._fields)
    assert [row[0].strip("`") for row in phases] == list(Phase)


async def test_figures_are_those_of_the_admin_page(network: MemoryNetwork, autojump_clock: object) -> None:
    async with running_gateway(network) as gateway:
        metrics = gateway.metrics()
    _, rows = tables(DOCUMENT, "Admin pages")
    assert {name for row in rows for name in names(row[0])} == set(re.findall(r"^# TYPE (\w+)", metrics, re.MULTILINE))


# ---- commands


@needs_curl
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not there")
def test_tls_is_tried_by_typing_what_it_tells(tmp_path: Path) -> None:
    with shell(tmp_path, (8000, 8001)) as it:
        play(it, blocks(DOCUMENT, "TLS"))


def test_trusted_proxy_is_believed_and_nobody_else(tmp_path: Path) -> None:
    with shell(tmp_path) as it:
        play(it, blocks(DOCUMENT, "Trusted proxies"))


@needs_curl
def test_admin_pages_are_asked_by_typing_what_it_tells(tmp_path: Path) -> None:
    with shell(tmp_path, (8000, 9090)) as it:
        it.type("export SERVICE1_URL=http://127.0.0.1:1 GATEWAY_ADMIN_PORT=9090")
        it.type("uv run gateway serve > gateway.log &")
        it.type("curl -s --retry 30 --retry-connrefused --retry-delay 1 http://127.0.0.1:9090/readyz")
        (block,) = blocks(DOCUMENT, "Admin pages")
        play(it, [block])


def test_wheel_is_installed_as_it_tells(tmp_path: Path) -> None:
    uv = shutil.which("uv")
    if uv is None or not os.environ.get("CI"):
        pytest.skip("installs from an index: run in CI, or with CI=true")
    (block,) = blocks(DOCUMENT, "Install")
    script = block.text.replace("/opt/gateway", str(tmp_path / "gateway")).replace("dist/", f"{tmp_path}/dist/")
    script = script.replace("uv build --wheel", f"uv build --wheel --out-dir {tmp_path}/dist")
    subprocess.run(["bash", "-euc", script], cwd=ROOT, check=True)  # noqa: S603, S607 - the document's own
    done = subprocess.run(  # noqa: S603 - what was installed a moment ago
        [tmp_path / "gateway/bin/gateway", "version"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() in page("containers/Dockerfile")


# ---- what is not typed


def test_haproxy_is_configured_as_in_the_test_that_loses_no_request() -> None:
    (block,) = blocks(DOCUMENT, "Drain")
    tried = {line.strip() for line in page("tests/test_rolling.py").splitlines()}
    ours = {line.strip() for line in block.text.splitlines() if not line.strip().startswith("server ")}
    assert len(ours) > 10
    assert ours - tried == set()


def test_systemd_waits_for_longer_than_a_drain_takes() -> None:
    unit, _ = (each for each in blocks(DOCUMENT, "Where it listens") if each.language == "ini")
    service = read(unit)["Service"]
    settings = Settings()
    assert float(service["TimeoutStopSec"]) > settings.drain_delay + settings.drain_timeout
    assert service["ExecStart"].endswith("/gateway serve")
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"


def read(unit: Block) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # as the documentation of configparser has it
    parser.read_string(unit.text)
    return parser


def test_figures_in_the_text_are_those_of_the_code() -> None:
    told = " ".join(page(DOCUMENT).split())
    limits = Limits()
    assert f"kept for {IDLE_SECONDS:.0f} s." in told
    assert f"keeps them for {IDLE_SECONDS:.0f} s; let it keep them for {limits.keep_alive_timeout:.0f} s" in told
    assert f"up to {MANY_DESCRIPTORS:,}" in told
    assert f"sent away after {limits.keep_alive_timeout:.0f} s" in told
    assert limits.request_buffer == limits.response_buffer == 128 * 1024
    assert f"{inspect.signature(LineWriter).parameters['limit'].default:,} at most" in told
