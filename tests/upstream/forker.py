"""Serves ``app`` by stock Hypercorn's trio worker, in as many processes as it is told to, cheap forks of this one.

A command is a line of JSON on standard input, its answer a line on standard output:

``{"config": {…}, "log": path}``         fork a server → ``{"pid": …, "port": …}``
``{"pid": …, "seconds": …}``             wait for its end → ``{"status": exit status, or null: it lives}``
"""

import json
import os
import signal
import socket
import sys
import time
import traceback
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from tests.upstream.app import app


def fork(settings: dict[str, Any], log: str) -> dict[str, int]:
    listener = socket.create_server(("127.0.0.1", 0))
    pid = os.fork()
    if pid == 0:
        become_server(listener, settings, log)
    port = listener.getsockname()[1]
    listener.close()
    return {"pid": pid, "port": port}


def become_server(listener: socket.socket, settings: dict[str, Any], log: str) -> None:
    """Never returns."""
    status = 1
    try:
        for number in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        config = Config()
        config.bind = [f"fd://{listener.fileno()}"]
        for name, value in settings.items():
            setattr(config, name, value)
        trio.run(main, config)
        status = 0
    except BaseException:  # noqa: BLE001 -- the process ends here, with what the interpreter would have said
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


async def main(config: Config) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:

        async def shutdown() -> None:
            await anext(signals)

        await serve(app, config, shutdown_trigger=shutdown)


def wait(pid: int, seconds: float) -> dict[str, int | None]:
    end = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return {"status": os.waitstatus_to_exitcode(status)}
        if time.monotonic() > end:
            return {"status": None}
        time.sleep(0.005)


if __name__ == "__main__":
    servers: set[int] = set()
    for line in sys.stdin:
        command = json.loads(line)
        if "pid" in command:
            told: dict[str, Any] = wait(**command)
            servers -= {command["pid"]} if told["status"] is not None else set()
        else:
            told = fork(command["config"], command["log"])
            servers.add(told["pid"])
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
    for pid in servers:  # whoever told us has gone without ending them
        os.kill(pid, signal.SIGKILL)
