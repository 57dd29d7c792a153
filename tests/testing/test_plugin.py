"""The plugin as others have it: pytest is run anew on tests that know nothing of this repository."""

import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import httpx
import pytest
import trio

from gateway.testing import Backend, MemoryNetwork, RunningGateway, hang, respond

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).parent.parent / "conftest.py"

USES_IT = """
import pytest, trio
from gateway.testing import hang

async def test_thirty_seconds_are_exactly_thirty(backend, client):
    backend(hang())
    answer = await client().get("/api/service1/orders")
    assert (answer.status_code, trio.current_time()) == (504, 30.0)

@pytest.mark.gateway(GATEWAY_TIMEOUT="5", SERVICE1_URL="http://orders:80")
@pytest.mark.parametrize("http2", [False, True])
async def test_marker_and_parameters(backend, client, gateway_app, http2):
    backend(hang())
    answer = await client(http2=http2).get("/api/service1/orders")
    assert (answer.status_code, trio.current_time()) == (504, 5.0)

def test_network_without_trio(gateway_network):
    assert gateway_network.open_streams == []
"""

KNOWS_NOTHING_OF_IT = """
import asyncio, sys, pytest

def test_nothing_of_the_gateway_was_imported():
    ours = {name for name in sys.modules if name.partition(".")[0] == "gateway"}
    assert ours == {"gateway", "gateway.testing", "gateway.testing.plugin"}
    assert not {"httpx", "quart", "hypercorn"} & set(sys.modules)

@pytest.fixture
def client():
    return "somebody else's"

def test_own_fixture_of_a_short_name(client):
    assert client == "somebody else's"
"""

QUIET = ("-W", "error", "--strict-markers", "-p", "no:cov", "-p", "no:hypothesispytest")
ALONE = ("-p", "no:asyncio", "-p", "no:anyio")
ASYNCIO = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """In a process of its own, as in a project of somebody else's."""
    return pytester.runpytest_subprocess(*QUIET, *arguments)


def run_here(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """In this process, where it does not matter what was imported: quicker."""
    return pytester.runpytest_inprocess(*QUIET, *ALONE, *arguments)


@pytest.mark.parametrize(
    "mode",
    [ALONE, (*ALONE, "-o", "trio_mode=true"), ASYNCIO, ("-p", "no:asyncio", "-o", "anyio_mode=auto")],
    ids=["none", "trio", "asyncio", "anyio"],
)
def test_fixtures_work_in_every_mode_of_the_other_plugins(pytester: pytest.Pytester, mode: tuple[str, ...]) -> None:
    pytester.makepyfile(USES_IT)
    # In its auto mode anyio runs each async test once per backend of its own.
    run(pytester, *mode).assert_outcomes(passed=7 if "anyio_mode=auto" in mode else 4)


def test_async_fixture_of_the_test_is_run_by_trio_too(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest, trio

        @pytest.fixture
        async def slept():
            await trio.sleep(2)

        async def test_x(gateway_network, slept):
            assert trio.current_time() == 2.0
    """)
    run_here(pytester).assert_outcomes(passed=1)


def test_plugin_named_in_a_conftest_as_well_is_loaded_once(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["gateway.testing.plugin"]')
    pytester.makepyfile(USES_IT)
    run_here(pytester).assert_outcomes(passed=4)


def test_who_does_not_use_it_does_not_notice(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(KNOWS_NOTHING_OF_IT)
    # Others' plugins import more than ours does: without them, what is there is ours.
    run(pytester, *ALONE, "-p", "no:trio").assert_outcomes(passed=2)


@pytest.mark.parametrize("short", ["client", "backend"])
def test_short_name_gives_way_to_that_of_another_plugin(pytester: pytest.Pytester, short: str) -> None:
    pytester.syspathinsert()
    for order, name in enumerate(("aaa", "zzz")):  # one is loaded before ours, the other after it
        pytester.makepyfile(**{name: f"import pytest\n@pytest.fixture\ndef {short}():\n    return {order}"})
        pytester.makepyfile(f"def test_whose({short}):\n    assert {short} == {order}")
        run_here(pytester, "-p", name).assert_outcomes(passed=1)


def test_test_of_asyncio_beside_is_left_to_asyncio(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_ours=USES_IT,
        test_theirs="""
            import asyncio, pytest

            @pytest.fixture
            async def made():
                await asyncio.sleep(0)
                return 1

            async def test_theirs(made):
                await asyncio.sleep(0)
                assert made == 1
        """,
    )
    run(pytester, *ASYNCIO).assert_outcomes(passed=5)


def test_without_pytest_trio_it_says_what_is_missing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(USES_IT)
    result = run_here(pytester, "-p", "no:trio")
    result.assert_outcomes(errors=4)
    result.stdout.fnmatch_lines(["*pip install 'api-gateway[[]testing]'*"])


def test_faulty_variable_in_the_marker_is_told_as_the_command_tells_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest

        @pytest.mark.gateway(GATEWAY_TIMEOUT="soon")
        async def test_x(gateway_app): ...
    """)
    result = run_here(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*GATEWAY_TIMEOUT*soon*"])


@pytest.mark.parametrize(
    ("mark", "told"),
    [
        ('SERVICE1_TIMOUT="2s"', "*no variable: SERVICE1_TIMOUT*SERVICE1_TIMEOUT*"),
        ("timeout=2", "*no variable: timeout*"),
        ('"SERVICE1_TIMEOUT=2s"', "*takes NAME=value*"),
    ],
)
def test_mark_that_would_do_nothing_fails_the_test(pytester: pytest.Pytester, mark: str, told: str) -> None:
    pytester.makepyfile(f"""
        import pytest

        @pytest.mark.gateway({mark})
        async def test_x(gateway_app): ...
    """)
    result = run_here(pytester)
    result.assert_outcomes(errors=1)
    assert fnmatch(str(result.stdout), told)


def test_test_that_is_not_async_is_told_so_and_spoils_no_other(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        def test_forgot_async(backend, client): ...

        async def test_after_it(backend, client): ...
    """)
    result = run_here(pytester)
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["gateway_app, gateway_backend, gateway_client run beside*write async def"])


def test_what_a_script_raises_fails_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        async def script(conn):
            raise ZeroDivisionError("in the script")

        async def test_x(backend, client):
            backend(script)
            await client().get("/api/service1/x")
    """)
    result = run_here(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ZeroDivisionError: in the script*"])


def test_import_of_the_package_is_lazy_and_every_name_is_there() -> None:
    code = (
        "import sys, gateway.testing as kit\n"
        "assert 'trio' not in sys.modules\n"
        "assert sorted(kit.__all__) == sorted(kit._MODULE_OF)\n"
        "assert all(getattr(kit, name) for name in kit.__all__)\n"
        "import pkgutil\n"
        "parts = {module.name for module in pkgutil.iter_modules(kit.__path__)}\n"
        # What is imported stands in its package by its name, before anything that the package gives when it is asked.
        "assert not parts & set(kit.__all__)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - fixed


# In this process, so that coverage sees them


async def test_backend_and_client_of_the_gateway(
    gateway_backend: Callable[..., Backend],
    gateway_client: Callable[..., httpx.AsyncClient],
    gateway_network: MemoryNetwork,
) -> None:
    gateway_backend(respond(body=b"one"))
    gateway_backend(respond(body=b"two"), "service2")
    gateway_backend(hang(), at=("elsewhere", 80))
    for http2 in (False, True):
        client = gateway_client(http2=http2)
        assert (await client.get("/api/service1/x")).content == b"one"
        assert (await client.get("/api/service2/x")).content == b"two"
    with pytest.raises(KeyError, match="there are service1, service2"):
        gateway_backend(hang(), "service3")
    assert {listener.local_address for listener in gateway_network.listeners} >= {("elsewhere", 80)}


@pytest.mark.gateway(GATEWAY_TIMEOUT=1, probes=True)
async def test_marker_nearest_to_the_test_wins_and_probes_are_made(gateway_app: RunningGateway) -> None:
    assert trio.current_time() == 0
    assert gateway_app.app.gateway.limits.timeout == 1
    assert gateway_app.app.gateway.verdict("service1", trio.current_time()).state == "down"  # nobody is there


@pytest.mark.parametrize(
    "mark", ["requirement", "requirement()", 'requirement("")', "requirement(1)", 'requirement(name="X")']
)
def test_requirement_without_its_name_is_an_error(mark: str, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nmarkers = requirement(name): as here")
    pytester.makeconftest(CONFTEST.read_text(encoding="utf-8"))
    pytester.makepyfile(f"import pytest\n@pytest.mark.{mark}\ndef test_it(): pass")
    result = pytester.runpytest_inprocess("-p", "no:asyncio")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*::test_it: write requirement with its name, *"])


def test_each_network_of_our_own_gives_both_kinds_and_closes_its_listeners(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ntrio_mode = true\nfilterwarnings = error")
    pytester.makeconftest(CONFTEST.read_text(encoding="utf-8"))
    pytester.makepyfile(
        """
        async def test_listen(each_network):
            each_network.listen("service1", 8001)
            print(type(each_network).__name__)
        """
    )
    result = pytester.runpytest_inprocess("-s", "-p", "no:asyncio")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*MemoryNetwork*", "*SocketNetwork*"])
