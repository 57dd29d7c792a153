"""All that can be set comes from the environment, and the house has one environment: FR-011, FR-012, SC-005."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
import service1
import trio
from fixture_common import serving as fixtures

from .conftest import running

ROOT = Path(__file__).parent.parent.parent

FAULTY = {
    "GATEWAY_PORT": "70000",
    "GATEWAY_TIMEOUT": "-1",
    "GATEWAY_CLIENT_TIMEOUT": "0",
    "GATEWAY_TLS_CERT": "missing.pem",
    "GATEWAY_TLS_KEY": "missing.pem",
    "GATEWAY_SERVICES": "one,two,three,four",
    "ONE_URL": "one:8001",
    "TWO_URL": "http://user:hunter2@two?key=hunter2",
    "TWO_PREFIX": "/api/gateway/two",
    "THREE_URL": "http://three",
    "THREE_PREFIX": "/api/four",
    "FOUR_URL": "http://four",
}


@pytest.mark.requirement("FR-011")
@pytest.mark.parametrize("command", ["check", "serve"])
def test_every_fault_is_one_line_that_names_its_variable(tmp_path: Path, command: str) -> None:
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "SERVICE"))}
    done = subprocess.run(  # noqa: S603 - fixed
        [sys.executable, "-m", "gateway", command],
        cwd=tmp_path,
        env=bare | FAULTY,
        check=False,
        capture_output=True,
        text=True,
    )
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
    named = [line.partition(":")[0] for line in lines]
    for variable in ("PORT", "TIMEOUT", "CLIENT_TIMEOUT", "TLS_CERT", "TLS_KEY"):
        assert named.count(f"GATEWAY_{variable}") == 1
    assert {"ONE_URL", "TWO_URL", "TWO_PREFIX"} <= set(named)
    assert any("/api/four" in line for line in lines)


@pytest.mark.requirement("SC-005")
async def test_third_service_takes_variables_and_no_code(services: dict[str, str]) -> None:
    async with trio.open_nursery() as nursery:
        third = await nursery.start(fixtures.serve, service1.create_app(), "127.0.0.1:0")
        fourth = await nursery.start(fixtures.serve, service1.create_app(), "127.0.0.1:0")
        environ = {
            **services,
            "GATEWAY_SERVICES": "service1,service2,service3,order-desk",
            "SERVICE3_URL": third,
            "ORDER_DESK_URL": fourth,
            "ORDER_DESK_PREFIX": "/desk",
            "ORDER_DESK_UPSTREAM_PREFIX": "/api/echo",
        }
        async with running(environ) as gateway, gateway.client() as client:
            assert (await client.get("/api/service3/echo?x=1")).json()["target"] == "/api/echo?x=1"
            assert (await client.get("/desk/a/b")).json()["target"] == "/api/echo/a/b"
            listed = [each["name"] for each in (await client.get("/api/gateway/services")).json()]
            assert listed == ["service1", "service2", "service3", "order-desk"]
        nursery.cancel_scope.cancel()


@pytest.mark.requirement("SC-005")
async def test_numbered_service_needs_only_its_url(services: dict[str, str]) -> None:
    async with running({**services, "SERVICE3_URL": services["SERVICE1_URL"]}) as gateway, gateway.client() as client:
        assert (await client.get("/api/service3/health")).status_code == 200


@pytest.mark.requirement("FR-012")
def test_every_member_of_the_workspace_is_under_fixtures_and_in_one_environment() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    members = project["tool"]["uv"]["workspace"]["members"]
    names = [tomllib.loads((ROOT / member / "pyproject.toml").read_text())["project"]["name"] for member in members]
    assert all(member.startswith("fixtures/") for member in members)
    assert project["tool"]["uv"]["sources"] == {name: {"workspace": True} for name in names}
    homes = {Path(str(distribution(name).locate_file(""))) for name in ["api-gateway", *names]}
    assert homes == {Path(sys.prefix) / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"}


@pytest.mark.requirement("FR-012")
def test_no_member_has_a_lock_or_an_environment_of_its_own() -> None:
    strays = {".venv", "uv.lock", "requirements.txt", "requirements.lock"}
    assert [path for path in (ROOT / "fixtures").rglob("*") if path.name in strays] == []
