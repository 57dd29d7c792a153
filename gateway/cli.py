"""The ``gateway`` command: arguments in, exit status and lines out.

Each command imports what it needs when it runs. A container calls ``healthcheck`` every few seconds, for as long as it
lives, and must not load a server, a parser and pydantic for one GET.

What never lives here: anything another module could need; a traceback for what the user has set wrong.
"""

from __future__ import annotations

import os
import re
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from gateway import __version__

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.health import Verdict

HEALTHCHECK_TIMEOUT = 2.0
"""Seconds; less than the 3 s that a container's HEALTHCHECK is usually given."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """One address for a family of HTTP services. Configured by the environment: see docs/configuration.md."""


@main.command()
def version() -> None:
    """Print the version."""
    click.echo(__version__)


@main.command()
def serve() -> None:
    """Run, configured by the environment."""
    settings = _settings()

    from gateway import supervising
    from gateway.sockets import CannotListen

    try:
        if supervising.worker_count(settings) > 1:
            raise SystemExit(supervising.run(settings))

        from gateway import serving

        serving.run(settings)
    except CannotListen as error:
        _fail(str(error))


@main.command(hidden=True)
@click.argument("number", type=int)
def worker(number: int) -> None:
    """Serve what a supervisor orders over this descriptor. Started by `serve`, not by hand."""
    from gateway import serving

    serving.work(number)


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Instead of GATEWAY_PORT (8000). 0: any free port.")
def demo(port: int | None) -> None:
    """Run with two example services inside the same process; print what to try."""
    from gateway import demo as it

    raise SystemExit(it.run(port))


@main.command()
@click.option("--probe", is_flag=True, help="Also ask each service for its health; exit 1 where one is not up.")
def check(*, probe: bool) -> None:
    """Read the configuration and report every fault at once.

    Exit 0 where there is none, else 1.
    """
    settings = _settings()
    for warning in settings.warnings:
        click.echo(f"warning: {warning}", err=True)
    names = ", ".join(service.name for service in settings.services)
    click.echo(f"The configuration is good. Services: {names}.")
    if probe:
        import trio

        from gateway import serving

        verdicts = trio.run(serving.probe, settings)
        width = max(map(len, verdicts))
        for service in settings.services:
            click.echo(f"{service.name:<{width}}  {_told(verdicts[service.name])}")
        if any(verdict.state != "up" for verdict in verdicts.values()):
            raise SystemExit(1)


@main.command()
def routes() -> None:
    """Print the route table."""
    settings = _settings()
    rows = [(each.prefix, each.name, f"{each.origin}{each.upstream_path}") for each in settings.services]
    rows += [(path, "the gateway", "") for path in ("/health", "/livez", "/readyz", "/api/gateway")]
    for row in _aligned([("PREFIX", "SERVICE", "UPSTREAM"), *rows]):
        click.echo(row)


@main.command()
@click.argument("method")
@click.argument("url")
@click.option("-H", "--header", "received", multiple=True, metavar="NAME:VALUE", help="A header of the client's.")
@click.option("--client", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="The client's address.")
def explain(method: str, url: str, received: tuple[str, ...], client: str) -> None:
    """Tell which route a request takes, the exact upstream request line, headers added and dropped, and the clocks."""
    from ipaddress import ip_address

    from gateway.explain import explain

    if re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", method) is None:
        raise click.BadParameter(f"{method!r} is not a method", param_hint="METHOD")
    try:
        ip_address(client)
    except ValueError:
        raise click.BadParameter(f"{client!r} is not an IP address", param_hint="--client") from None
    fields = []
    for field in received:
        name, colon, value = field.partition(":")
        if not colon:
            raise click.BadParameter(f"{field!r} is not NAME:VALUE", param_hint="-H")
        fields.append((name, value.strip(" \t")))
    click.echo(explain(_settings(), method, url, received=fields, client=client))


@main.command()
def healthcheck() -> None:
    """Ask the gateway that runs beside this for its health.

    Exit 0 where it is healthy, else 1. For a container's HEALTHCHECK.
    """
    import http.client
    import socket
    import ssl

    host, port, tls, proxied = _address()
    where = host if host.startswith("unix:") else f"port {port}"
    connection = http.client.HTTPConnection("localhost")
    try:
        if host.startswith("unix:"):
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(HEALTHCHECK_TIMEOUT)
            connection.sock.connect(host.removeprefix("unix:"))
        else:
            connection.sock = socket.create_connection((host, port), HEALTHCHECK_TIMEOUT)
        if proxied:
            connection.sock.sendall(b"PROXY UNKNOWN\r\n")
        if tls:
            # Ourselves, over loopback: there is no name to verify, and our certificate does not name 127.0.0.1.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection.sock = context.wrap_socket(connection.sock)
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        _fail(f"unhealthy: no answer from {where} ({str(error) or type(error).__name__})")
    finally:
        connection.close()
    if status != http.HTTPStatus.OK:
        _fail(f"unhealthy: {status}")
    click.echo("healthy")


def _settings() -> Settings:
    """Read the settings; where that fails, print a line per fault and exit."""
    from gateway.config import ConfigError, load

    try:
        return load()
    except ConfigError as error:
        for warning in error.warnings:
            click.echo(f"warning: {warning}", err=True)
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    click.echo(message, err=True)
    raise SystemExit(1)


def _address() -> tuple[str, int, bool, bool]:
    """Where the gateway listens, as seen from here; whether it speaks TLS, and takes us for a proxy."""
    from gateway.config import Settings, gateway_variables

    if Path(".env").is_file():
        settings = _settings()
    else:
        # Only what is needed here. Other faults are the business of `serve`: if there were one, nothing would listen.
        given = {}
        for row in gateway_variables():
            text = os.environ.get(row.name, "").strip()
            if text and row.field in {"host", "port", "tls_cert", "proxy_protocol", "trusted_proxies"}:
                try:
                    given[row.field] = row.parse(text)
                except ValueError as error:
                    _fail(f"{row.name}: expected {error}")
        settings = Settings(**given)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    try:
        proxied = settings.proxy_protocol and any(ip_address(host) in each for each in settings.trusted_proxies)
    except ValueError:  # a name, or the path of a socket
        proxied = False
    return host, settings.port, settings.tls_cert is not None, proxied


def _told(verdict: Verdict) -> str:
    took = "" if verdict.latency_ms is None else f" in {verdict.latency_ms:.0f} ms"
    return f"{verdict.state}{took}" + (f": {verdict.last_error}" if verdict.last_error else "")


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
