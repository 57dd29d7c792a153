"""The environment in, frozen settings out; or every fault in it at once.

    values.py       the text of one variable -> its value, or what is expected
    table.py        Settings and Service: which variables there are, their defaults, parsers and meanings
    files.py        what is wrong with a certificate or a key
    environment.py  the environment and .env -> settings; do the values fit together; what looks misspelt
    reference.py    the table, written out: docs/configuration.md and .env.example

This is the only door to pydantic-settings, which reads the environment and ``.env``. Whether a text is a good value is
decided here: pydantic's own messages speak of types and quote their input, and ours name what is expected and keep
secrets.

What never lives here: defaults that depend on the machine, anything that opens a socket.
"""

from gateway.config.environment import ConfigError, Fault, load
from gateway.config.table import Service, Settings, Variable, gateway_variables, service_variables

__all__ = [
    "ConfigError",
    "Fault",
    "Service",
    "Settings",
    "Variable",
    "gateway_variables",
    "load",
    "service_variables",
]
