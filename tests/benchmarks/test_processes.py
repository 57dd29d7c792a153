import os
import socket
import sys
import threading
from pathlib import Path

import pytest

from benchmarks import processes
from benchmarks.processes import LOAD_CORE, Command, DidNotStartError, answers, free_port, pinned, running
from benchmarks.procfs import cpu_seconds

WITH_A_WORKER = """
import http.server, os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[2] == "stubborn" else signal.SIG_DFL)
if os.fork():
    os.wait()
else:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/" else 404)
            self.end_headers()
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def command(port: int, *words: str) -> Command:
    return Command("server", [sys.executable, *words], f"http://127.0.0.1:{port}/", LOAD_CORE, dict(os.environ))


@pytest.mark.parametrize("manners", ["obedient", "stubborn"])
def test_process_and_its_worker_are_gone_behind_the_block_even_after_ctrl_c(
    manners: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.2)
    port = free_port()
    url = f"http://127.0.0.1:{port}/"

    def interrupted() -> None:
        with running(command(port, "-c", WITH_A_WORKER, str(port), manners), tmp_path) as session:
            assert cpu_seconds([session]) > 0
            assert answers(url)
            assert not answers(f"{url}elsewhere")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not answers(url)


def test_process_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path) -> None:
    failing = command(free_port(), "-c", "import sys; sys.exit('no such config')")
    with pytest.raises(DidNotStartError, match="server ended with 1: no such config"), running(failing, tmp_path):
        pass


def test_port_that_speaks_something_else_does_not_answer() -> None:
    def speak() -> None:
        accepted, _ = listener.accept()
        with accepted:
            accepted.sendall(b"-ERR unknown command\r\n")
            accepted.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=speak)
        thread.start()
        assert not answers(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join()


def test_command_is_pinned_to_one_core_where_there_are_two() -> None:
    words = pinned(LOAD_CORE, ["wrk"])
    assert words[-1] == "wrk"
    assert words == ["wrk"] or words[:2] == ["taskset", "--cpu-list"]
