"""The fixtures for pytest, which finds this plugin by its entry point wherever the gateway is installed.

    async def test_backend_that_hangs_is_504_after_thirty_seconds(backend, client):
        backend(hang())
        answer = await client().get("/api/service1/orders")
        assert (answer.status_code, trio.current_time()) == (504, 30.0)

==================== ==================================================================================================
``gateway_network``  the network in memory that all of the others are on: a ``MemoryNetwork``
``gateway_settings`` the gateway's settings: two services, or what the marker ``gateway`` says; override it at will
``gateway_app``      the gateway, running on it at ``gateway:80``: a ``RunningGateway``
``gateway_backend``  ``gateway_backend(script)`` puts a ``Backend`` at the address of a service; also as ``backend``
``gateway_client``   ``gateway_client()`` gives an ``httpx.AsyncClient`` for the gateway; also as ``client``
==================== ==================================================================================================

An async test that asks for one of them is run by trio, in virtual time that begins at 0 and jumps whenever everybody
waits. No setting is needed for that, and no mark.

Whoever does not use them must not notice that they are there. So nothing but pytest is imported before a fixture is
asked for, no hook does anything to any other test, and the short names give way to those of any other plugin.

What never lives here: behaviour. What the fixtures give is made by the other modules and can be made without pytest.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from inspect import iscoroutinefunction
from types import FunctionType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx
    import trio

    from gateway.config import Settings
    from gateway.testing.app import RunningGateway
    from gateway.testing.backend import Backend, Script
    from gateway.testing.network import MemoryNetwork

MARKER = "gateway(**variables): environment variables of the gateway under test, and probes=True for health checks"
DEFAULTS = {"SERVICE1_URL": "http://service1:8001", "SERVICE2_URL": "http://service2:8002"}
"""The environment of a gateway that no marker says anything about."""
RUNNING = frozenset({"gateway_app", "gateway_backend", "gateway_client"})
"""The fixtures that an async test alone can have."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, so that ``--strict-markers`` takes it."""
    config.addinivalue_line("markers", MARKER)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Give the fixtures their short names too, where no other plugin has them: pytest-django has a ``client``."""
    # Of two plugins with one name the one that came last wins, whichever that is.
    manager = session.config.pluginmanager
    taken = {name for plugin in manager.get_plugins() for name in _fixtures_of(plugin)}
    for short in (_Backend, _Client):
        if short.name not in taken:
            manager.register(short(), f"{__name__}.{short.name}")


def _fixtures_of(plugin: object) -> Iterator[str]:
    """Give the names of the fixtures that a plugin defines. Nothing but its own table is looked at."""
    for place in (plugin, type(plugin)):
        for name, thing in getattr(place, "__dict__", {}).items():
            # The one is what pytest makes of a fixture since 8.4, the other what it made before.
            made = thing if type(thing).__name__ == "FixtureFunctionDefinition" else None
            if made is None and isinstance(thing, FunctionType):
                made = thing.__dict__.get("_pytestfixturefunction")
            if made is not None:
                yield made.name or name


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the async tests that use these fixtures, and no others, for trio and its virtual time."""
    if not config.pluginmanager.hasplugin("trio"):
        return  # the fixture that all of them need will say so
    for place, item in enumerate(items):
        if not isinstance(item, pytest.Function) or "gateway_network" not in item.fixturenames:
            continue
        if iscoroutinefunction(item.obj):
            ours = items[place] = _taken_back(item)
            ours.add_marker(pytest.mark.trio(run=_run), append=False)
            if "anyio_backend" in ours.fixturenames:  # by which anyio, in its auto mode, would know it for its own
                ours.fixturenames.remove("anyio_backend")


def _taken_back(item: pytest.Function) -> pytest.Function:
    """Make an ordinary test of one that pytest-asyncio has taken for its own, as it does with all in its auto mode."""
    if not type(item).__module__.startswith("pytest_asyncio"):
        return item
    ours = pytest.Function.from_parent(
        item.parent,
        name=item.name,
        callspec=getattr(item, "callspec", None),
        callobj=item.obj,
        fixtureinfo=item._fixtureinfo,  # noqa: SLF001 -- pytest-asyncio makes its own items in just this way
        originalname=item.originalname,
    )
    ours.own_markers = [mark for mark in item.own_markers if mark.name != "asyncio"]
    return ours


def _run(main: Callable[..., Awaitable[Any]], *arguments: Any, clock: Any = None, **options: Any) -> Any:
    """As ``trio.run``, in virtual time unless the test brings a clock of its own."""
    import trio  # noqa: PLC0415 -- see the module's docstring
    from trio.testing import MockClock  # noqa: PLC0415 -- as above

    clock = MockClock(autojump_threshold=0) if clock is None else clock
    return trio.run(main, *arguments, clock=clock, **options)


def _trio_fixture(function: Callable[..., AsyncIterator[Any]]) -> Any:
    """Make a fixture that trio runs, whatever the modes of pytest-trio, pytest-asyncio and anyio.

    ``function`` is no async generator function, but gives an async generator: else each of the three would see one that
    it may have to take. pytest-trio's own decorator says the same; it is not imported, since it may not be there.
    """
    function._force_trio_fixture = True  # type: ignore[attr-defined] # noqa: SLF001 -- pytest_trio.trio_fixture does just this
    return pytest.fixture(function)


@pytest.fixture
def gateway_network(request: pytest.FixtureRequest) -> "MemoryNetwork":
    """Give an empty network in memory."""
    from gateway.testing.network import MemoryNetwork  # noqa: PLC0415 -- see the module's docstring

    if not request.config.pluginmanager.hasplugin("trio"):
        pytest.fail(
            "the fixtures of gateway.testing need pytest-trio: pip install 'api-gateway[testing]'", pytrace=False
        )
    # pytest-trio would say so too, but leave its fixtures in a state in which the next test that asks for them fails.
    running = sorted(RUNNING.intersection(request.fixturenames))
    if running and request.node.get_closest_marker("trio") is None:
        pytest.fail(f"{', '.join(running)} run beside the test, so it must be async: write async def", pytrace=False)
    return MemoryNetwork()


@pytest.fixture
def gateway_settings(request: pytest.FixtureRequest) -> "Settings":
    """Give the gateway's settings, from the marker's variables alone: neither the environment nor ``.env`` counts.

    What is faulty in them fails the test, and so does a name that is no variable's: it would do nothing, unseen.
    """
    from gateway.config import ConfigError, load  # noqa: PLC0415 -- see the module's docstring

    variables: dict[str, str] = {}
    for mark in request.node.iter_markers("gateway"):  # the closest one comes first, and wins
        if mark.args:
            pytest.fail(f"the mark gateway takes NAME=value, not {mark.args[0]!r}", pytrace=False)
        variables = {name: str(value) for name, value in mark.kwargs.items() if name != "probes"} | variables
    try:
        settings = load(DEFAULTS | variables, dotenv=None)
    except ConfigError as error:
        pytest.fail(f"the mark gateway: {error}", pytrace=False)
    if unknown := sorted(variables.keys() - _known(settings)):
        told = [f"the mark gateway has what is no variable: {', '.join(unknown)}", *settings.warnings]
        pytest.fail("\n".join(told), pytrace=False)
    return settings


def _known(settings: "Settings") -> set[str]:
    """The names of all variables that there are for these services."""
    from gateway.config import gateway_variables, service_variables  # noqa: PLC0415 -- see the module's docstring
    from gateway.config.table import stem  # noqa: PLC0415 -- as above

    rows = [*gateway_variables()]
    for service in settings.services:
        rows += service_variables(stem(service.name))
    return {row.name for row in rows}


def _probes(request: pytest.FixtureRequest) -> bool:
    return any(mark.kwargs.get("probes", False) for mark in request.node.iter_markers("gateway"))


@_trio_fixture
def gateway_backend(
    gateway_network: "MemoryNetwork", gateway_settings: "Settings", nursery: "trio.Nursery"
) -> AsyncIterator[Callable[..., "Backend"]]:
    """Give ``gateway_backend(script, service="service1")``: a backend at that service's address, until the test's end.

    ``at=("host", port)`` puts it elsewhere. What else is given goes to ``Backend``. What its script raises fails the
    test.

    :raises KeyError: there is no service of that name.
    :raises OSError: something listens there already (``EADDRINUSE``).
    """
    return _backends(gateway_network, gateway_settings, nursery)


async def _backends(
    network: "MemoryNetwork", settings: "Settings", nursery: "trio.Nursery"
) -> AsyncIterator[Callable[..., "Backend"]]:
    from gateway.testing.backend import Backend  # noqa: PLC0415 -- see the module's docstring

    addresses = {service.name: (service.host, service.port) for service in settings.services}

    def backend(
        script: "Script | Sequence[Script]",
        service: str = "service1",
        *,
        at: tuple[str, int] | None = None,
        **options: Any,
    ) -> "Backend":
        if at is None and service not in addresses:
            raise KeyError(f"no service {service!r}; there are {', '.join(addresses)}")
        host, port = addresses[service] if at is None else at
        made = Backend(network, host, port, script, **options)
        nursery.start_soon(made.run, name=f"backend {host}:{port}")
        return made

    yield backend


@_trio_fixture
def gateway_app(
    request: pytest.FixtureRequest,
    gateway_network: "MemoryNetwork",
    gateway_settings: "Settings",
    gateway_backend: object,  # noqa: ARG001 -- so that backends live longer than the gateway
) -> AsyncIterator["RunningGateway"]:
    """Give the gateway, running at ``gateway:80``; it is drained at the end of the test, in virtual time."""
    return _apps(gateway_network, gateway_settings, probes=_probes(request))


async def _apps(network: "MemoryNetwork", settings: "Settings", *, probes: bool) -> AsyncIterator["RunningGateway"]:
    from gateway.testing.app import running_gateway  # noqa: PLC0415 -- see the module's docstring

    async with running_gateway(network, settings, probes=probes) as app:
        yield app


@_trio_fixture
def gateway_client(gateway_app: "RunningGateway") -> AsyncIterator[Callable[..., "httpx.AsyncClient"]]:
    """Give ``gateway_client(http2=False)``: an ``httpx.AsyncClient`` that speaks to the gateway, until the test's end.

    It has no timeout of its own, so what a test sees end was ended by the gateway. What else is given goes to
    ``http_client``.
    """
    return _clients(gateway_app)


async def _clients(app: "RunningGateway") -> AsyncIterator[Callable[..., "httpx.AsyncClient"]]:
    made: list[httpx.AsyncClient] = []

    def client(*, http2: bool = False, **options: Any) -> "httpx.AsyncClient":
        made.append(app.h2_client(**options) if http2 else app.client(**options))
        return made[-1]

    yield client
    for each in made:
        await each.aclose()


class _Backend:
    name = "backend"

    @pytest.fixture
    def backend(self, gateway_backend: Any) -> Any:
        """See ``gateway_backend``."""
        return gateway_backend


class _Client:
    name = "client"

    @pytest.fixture
    def client(self, gateway_client: Any) -> Any:
        """See ``gateway_client``."""
        return gateway_client
