"""The gateway as several processes: a supervisor that holds the sockets, and workers that serve (``serving.work``).

The supervisor is small: it imports nothing that only serves, so it is there in a moment and takes little memory. What
never lives here: when a worker is replaced (``server.workers``).
"""

import os
import pickle
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import trio

from gateway import server
from gateway.config import ConfigError, Settings, load
from gateway.observe import Sink, WallClock, open_log
from gateway.sockets import CannotListen, bind, bind_admin, inherited, listen

SLACK = 20.0
"""Seconds that a worker may take over those of its drain: for clients of one that is replaced, for the app to end."""


def worker_count(settings: Settings) -> int:
    """How many processes serve: as set, or one for each core that this process may use."""
    return settings.workers or len(os.sched_getaffinity(0))


def run(settings: Settings) -> int:
    """Serve by several workers until SIGTERM or SIGINT; return the exit status. Raises CannotListen."""
    public, admin = inherited()
    if not public:
        public = [bind(settings)]
    for sock in public:
        listen(sock, settings)
    sink, _writer = open_log(
        log_format=settings.log_format, level=settings.log_level, timestamp=lambda: WallClock.start(0.0).iso(0.0)
    )
    holder = Holder(settings, sink, public, admin)
    crew = holder.crew(settings)
    for warning in settings.warnings:
        sink.event("WARNING", warning)
    return trio.run(partial(server.supervise, crew, reload=holder.reload, log=sink.event))


@dataclass(slots=True)
class Holder:
    """Holds the sockets for as long as the supervisor lives, and tells each worker what to serve on them."""

    settings: Settings
    """Those of the start."""
    sink: Sink
    public: Sequence[socket.socket]
    admin: list[socket.socket]
    """By the worker's place; those that were inherited come first."""

    def crew(self, settings: Settings) -> server.Crew:
        """The crew that runs with these settings. Raises CannotListen where there is no address for its admin pages."""
        count = worker_count(settings)
        while len(self.admin) < count and (more := bind_admin(self.settings, len(self.admin))) is not None:
            self.admin.append(more)
        # A worker reads no environment: one that is replaced because it died must be what its fellows are. It has no
        # warnings to give, and it is one of several even where there is one.
        ordered = replace(settings, warnings=(), workers=0)

        def order(place: int) -> bytes:
            admin = self.admin[place].fileno() if place < len(self.admin) else None
            return pickle.dumps((ordered, [sock.fileno() for sock in self.public], admin))

        def descriptors(place: int) -> list[int]:
            return [sock.fileno() for sock in (*self.public, *self.admin[place : place + 1])]

        return server.Crew(
            count=count,
            command=command,
            order=order,
            descriptors=descriptors,
            patience=settings.drain_delay + settings.drain_timeout + SLACK,
            close=self.close,
        )

    def close(self) -> None:
        """Close the sockets. Workers have theirs."""
        for sock in (*self.public, *self.admin):
            sock.close()

    def reload(self) -> server.Crew | None:
        """Read the configuration again; None, with the reasons in the log, where it cannot be used."""
        try:
            settings = load()
            crew = self.crew(settings)
        except (ConfigError, CannotListen) as error:
            for line in str(error).splitlines():
                self.sink.event("ERROR", line)
            self.sink.event("ERROR", "SIGHUP: the configuration cannot be used, the old one stays")
            return None
        for warning in settings.warnings:
            self.sink.event("WARNING", warning)
        for name in ("host", "port", "admin_host", "admin_port"):
            if getattr(settings, name) != getattr(self.settings, name):
                self.sink.event("WARNING", f"SIGHUP: GATEWAY_{name.upper()} takes a restart; the old one stays")
        self.sink.event("INFO", "SIGHUP: every worker is replaced", workers=crew.count)
        return crew


def command(number: int) -> list[str]:
    """The command line of a worker. It finds the package where this process did."""
    # -m would put the working directory first; only where it is there already, this process was started by -m too.
    path = [] if sys.path[0] in {"", str(Path.cwd())} else ["-P"]
    return [sys.executable, *path, "-m", "gateway", "worker", str(number)]
