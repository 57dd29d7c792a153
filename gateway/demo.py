"""``gateway demo``: the gateway and two example services in one process, and a page that says what to try.

The services (``fixtures/``) are no dependency of the gateway's, so that no wheel and no image of it carries them; they
are looked up by name when the demo is asked for.

What never lives here: anything that ``gateway serve`` needs.
"""

import errno
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any

import trio

from gateway import serving
from gateway.config import ConfigError, Settings, load
from gateway.sockets import CannotListen, bind

HOST = "127.0.0.1"
SERVICES = ("service1", "service2")
SERVING = "fixture_common.serving"
"""The example services' own way to be served: by stock Hypercorn."""

ENVIRONMENT = {
    "GATEWAY_HOST": HOST,
    "GATEWAY_LOG_FORMAT": "text",
    "GATEWAY_DRAIN_TIMEOUT": "2s",
    "SERVICE2_TIMEOUT": "2s",
}
"""What the demo sets; nobody wants to wait for half a minute to see a timeout, or to leave."""

TAKEN = ("GATEWAY_HOST", "GATEWAY_PORT", "GATEWAY_LOG_LEVEL", "GATEWAY_LOG_FORMAT")
"""What it takes from the environment. Nothing else: a setting made for the real services could break it."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something to try: what it shows, and the line to paste. ``URL`` in it stands for the gateway's address."""

    shows: str
    line: str


STEPS = (
    Step(
        "Place an order with service1, and read it as soon as its worker is done with it.",
        "curl -s URL/api/service1/orders -H 'Content-Type: application/json'"
        """ -d '{"order_id": "ORD-1", "customer_id": "CUST-7", "items": [{"product_id": "SKU-1", "quantity": 2}],"""
        """ "total_amount": 49.90}'""",
    ),
    Step("", "curl -s 'URL/api/service1/orders/ORD-1?wait=5'"),
    Step(
        "Send a notification with service2.",
        "curl -s URL/api/service2/notifications/send -H 'Content-Type: application/json'"
        """ -d '{"recipient": "ada@example.org", "notification_type": "EMAIL", "message": "ORD-1 is on its way."}'""",
    ),
    Step(
        "See what a service sees: the path as you wrote it, and what the gateway adds.",
        "curl -s 'URL/api/service1/echo/a%2Fb?q=1&q=2' -H 'X-Colour: green'",
    ),
    Step("Ask for what no service answers to.", "curl -si URL/api/nowhere"),
    Step(
        "Ask service2 for what takes it 10 s. It is given 2 s, and the gateway says where they went.",
        "curl -si 'URL/api/service2/slow?seconds=10'",
    ),
    Step("See how the services are.", "curl -s URL/api/gateway/status"),
)

LAST_LINE = "Each request is one line of the log, below. Ctrl-C stops it all."


def page(url: str, services: Mapping[str, str]) -> str:
    """Return what the demo prints when it is ready. ``services`` has the address of each by its name."""
    lines = [f"The gateway listens on {url}", ""]
    lines += [f"  {url}/api/{name}/*  goes to  {address}/api/*" for name, address in services.items()]
    lines += ["", "Try, in another terminal:"]
    for step in STEPS:
        if step.shows:
            lines += ["", f"  # {step.shows}"]
        lines.append(f"  {step.line.replace('URL', url)}")
    return "\n".join([*lines, "", LAST_LINE, ""])


def run(port: int | None = None) -> int:
    """Run until SIGINT or SIGTERM; return the exit code.

    The gateway listens on ``port``, on GATEWAY_PORT where that is None, and where another program has it, on any free
    one. What prevents the demo from starting is one line on standard error for each fault.
    """
    try:
        service1, service2 = (import_module(name) for name in SERVICES)
        serve_service = import_module(SERVING).serve
    except ModuleNotFoundError as error:
        if error.name not in {*SERVICES, SERVING.partition(".")[0]}:
            raise
        return _fail(
            "The example services are not part of the installed package: run `uv run gateway demo` in the project."
        )
    sockets = {name: socket.create_server((HOST, 0)) for name in SERVICES}
    addresses = {name: f"http://{HOST}:{sock.getsockname()[1]}" for name, sock in sockets.items()}
    try:
        settings = _on_a_free_port(_settings(addresses, port))
    except (ConfigError, CannotListen) as error:
        for sock in sockets.values():
            sock.close()
        return _fail(str(error))
    # The worker behind service1 is a thread of this process; it gives its notifications to service2.
    apps = {"service1": service1.create_app(notify=addresses["service2"]), "service2": service2.create_app()}
    services = [partial(serve_service, apps[name], f"fd://{sock.detach()}") for name, sock in sockets.items()]
    code = 0
    try:
        trio.run(_run, settings, services, addresses)
    except* CannotListen as group:
        code = _fail("\n".join(map(str, group.exceptions)))
    except* KeyboardInterrupt:
        # A second Ctrl-C, or one that came before the first could be waited for: at once, and without a traceback.
        code = 130
    return code


def _settings(addresses: Mapping[str, str], port: int | None) -> Settings:
    taken = {name: os.environ[name] for name in TAKEN if os.environ.get(name)}
    urls = {f"{name.upper()}_URL": address for name, address in addresses.items()}
    settings = load({**ENVIRONMENT, **taken, **urls}, dotenv=None)
    return settings if port is None else replace(settings, port=port)


def _on_a_free_port(settings: Settings) -> Settings:
    try:
        bind(settings).close()
    except CannotListen as error:
        if not (isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE):
            raise
        _say(f"Port {settings.port} is in use: taking a free one instead.\n")
        return replace(settings, port=0)
    return settings


async def _run(settings: Settings, services: list[partial[Any]], addresses: Mapping[str, str]) -> None:
    over = trio.Event()
    with serving.stop_signal() as stopped:
        async with trio.open_nursery() as nursery:
            # 1. The services come first and go last, so that the gateway finds them well at its first look.
            for serve_service in services:
                await nursery.start(partial(serve_service, shutdown=over.wait))
            # 2. The gateway, exactly as `gateway serve` runs it, until the signal and through its drain.
            try:
                await serving.serve(settings, shutdown=stopped, task_status=Announcement(addresses))
            finally:
                over.set()


class Announcement(trio.TaskStatus[list[str]]):
    """Prints the page as soon as the gateway listens."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._addresses = addresses

    def started(self, value: list[str] | None = None) -> None:
        """See trio.TaskStatus."""
        for url in value or ():
            # Where every address of the machine is listened on, this one is sure to be among them.
            _say(page(url.replace("//0.0.0.0:", f"//{HOST}:").replace("//[::]:", "//[::1]:"), self._addresses))


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _fail(message: str) -> int:
    sys.stderr.write(f"{message}\n")
    return 1
