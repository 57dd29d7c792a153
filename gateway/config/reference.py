"""The written reference of the configuration, made from ``table``.

``python -m gateway.config.reference`` writes ``docs/configuration.md`` and ``.env.example`` below the working
directory; a test holds them equal to the table.

What never lives here: a fact about a variable that the table does not have.
"""

from collections.abc import Iterable
from pathlib import Path

from gateway.config.environment import ConfigError, load
from gateway.config.table import Variable, gateway_variables, service_variables

HEAD = """\
# Configuration

<!-- Written by `python -m gateway.config.reference` from the table in gateway/config/table.py. Do not edit. -->

The gateway is configured by the environment alone. A file `.env` in the working directory is read where there is one;
the environment wins. An empty value counts as none, and blanks around a value do not count.

A service is configured by variables alone: its name may hold letters, digits and inner hyphens, and its variables begin
with the name in upper case, hyphens as underscores (`order-desk` is configured by `ORDER_DESK_URL` and so on).
Without `GATEWAY_SERVICES` every `SERVICE<n>` that has a URL is a service, in numeric order, and nothing else is: a
`DATABASE_URL` that happens to be there never becomes a route.

- Durations: `30`, `1.5` (seconds), `500ms`, `90s`, `1m`, `1h`.
- Truth: `true`, `yes`, `on`, `1`; `false`, `no`, `off`, `0`; in any case.
- Paths (`_PREFIX`, `_UPSTREAM_PREFIX`): begin with `/`, hold no `//`, `.` or `..` segment, `%`, `?` or `#`; a slash at
  the end does not count. A prefix may lie within another service's (the longest wins), but not on the same path as
  another's, and neither over nor under the gateway's own `/health`, `/livez`, `/readyz` and `/api/gateway`.
- A path in `<NAME>_URL` is put before the upstream prefix and before the health path.
- Connecting is a part of the time-out of a service, so a connect time-out above it counts as equal to it.

`gateway check` reads the configuration and reports every fault at once, one line each; `gateway serve` does the same
before it starts. User names, passwords and queries of URLs are never shown.
"""

EXAMPLE = {
    "GATEWAY_TIMEUOT": "10",
    "GATEWAY_PORT": "70000",
    "SERVICE1_URL": "http://user:secret@service1:8001",
    "SERVICE1_PREFIX": "/health",
    "SERVICE2_URL": "service2:8002",
}


def configuration() -> str:
    """Write ``docs/configuration.md``."""
    parts = [
        HEAD,
        "## The gateway\n",
        _table(gateway_variables()),
        "## A service\n",
        _table(service_variables()),
        "## What a fault looks like\n",
        "```console",
        "$ gateway check",
        _report(),
        "```\n",
    ]
    return "\n".join(parts)


def dotenv() -> str:
    """Write ``.env.example``: two services, and every variable with its default as a comment."""
    lines = [
        "# Copy to .env and change what you need; docs/configuration.md tells more.",
        "# Written by `python -m gateway.config.reference`. Do not edit.",
        "",
        "SERVICE1_URL=http://localhost:8001",
        "SERVICE2_URL=http://localhost:8002",
    ]
    for heading, rows in (
        ("The gateway, with its defaults", gateway_variables()),
        ("Service1, with its defaults; so for every service", service_variables("SERVICE1_")[1:]),
    ):
        lines += ["", f"# --- {heading} ---"]
        for row in rows:
            lines += ["", f"# {row.meaning.replace('`', '')}", f"# {row.name}={_literal(row)}"]
    return "\n".join(lines) + "\n"


def _table(rows: Iterable[Variable]) -> str:
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    lines += [f"| `{row.name}` | {row.default} | {row.meaning} |" for row in rows]
    return "\n".join(lines) + "\n"


def _literal(row: Variable) -> str:
    """Give the default as a value to write; nothing where it is none or told in words."""
    return row.default.strip("`").replace("<name>", "service1") if row.default.startswith("`") else ""


def _report() -> str:
    try:
        load(EXAMPLE, dotenv=None)
    except ConfigError as error:
        return "\n".join([*(f"warning: {warning}" for warning in error.warnings), str(error)])
    raise AssertionError("the example has faults")


def main() -> None:
    """Write both files below the working directory."""
    Path("docs/configuration.md").write_text(configuration(), encoding="utf-8")
    Path(".env.example").write_text(dotenv(), encoding="utf-8")


if __name__ == "__main__":
    main()
