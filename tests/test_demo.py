"""The demo as its user meets it: a process, its page, each line of it pasted into a shell, Ctrl-C.

``python tests/test_demo.py`` prints the session as the README shows it: see ``transcript``.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trio

from gateway import demo

README = Path(__file__).parent.parent / "README.md"
READY_WITHIN = 20.0
NEWLINE = "\n"


class Demo:
    """A running ``gateway demo``."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.out = ""
        self.err = ""
        self._heard = trio.Event()

    async def says(self, text: str) -> None:
        """Wait until it has printed ``text``."""
        while text not in self.out:
            assert self.process.poll() is None, self.out + self.err
            await self._heard.wait()

    async def read_out(self) -> None:
        assert self.process.stdout is not None
        async for piece in self.process.stdout:
            self.out += piece.decode()
            self._heard.set()
            self._heard = trio.Event()
        await self.process.wait()
        self._heard.set()

    async def read_err(self) -> None:
        assert self.process.stderr is not None
        async for piece in self.process.stderr:
            self.err += piece.decode()

    @property
    def page(self) -> str:
        return self.out.partition(demo.LAST_LINE)[0]

    @property
    def url(self) -> str:
        found = re.search(r"The gateway listens on (http://\S+)", self.page)
        assert found, self.out + self.err
        return found[1]


@asynccontextmanager
async def running(
    *arguments: str, environ: dict[str, str] | None = None, cwd: str | None = None
) -> AsyncIterator[Demo]:
    """A demo whose page is printed. It must have ended when the block does; its output is complete then."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "gateway", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environ or {})},
        cwd=cwd,
    )
    it = Demo(process)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.read_out)
            nursery.start_soon(it.read_err)
            with trio.fail_after(READY_WITHIN):
                await it.says(demo.LAST_LINE)
            yield it
            with trio.fail_after(10):
                await process.wait()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


@dataclass(frozen=True)
class Session:
    """What was printed, tried and answered, from the start to Ctrl-C."""

    url: str = ""
    page: str = ""
    answers: dict[str, str] = field(default_factory=dict)
    log: str = ""
    err: str = ""
    code: int | None = None

    def answer(self, part: str) -> str:
        """The answer to the one line that has this part in it."""
        (found,) = [answer for line, answer in self.answers.items() if part in line]
        return found

    def body(self, part: str) -> dict[str, Any]:
        """The JSON body of that answer."""
        found = json.loads(self.answer(part).rpartition("\r\n\r\n")[2])
        assert isinstance(found, dict)
        return found


async def play() -> Session:
    # The .env and the variables of somebody who already runs the gateway: none of the demo's business.
    environ = {
        "GATEWAY_LOG_FORMAT": "json",
        "GATEWAY_SERVICES": "order-desk",
        "GATEWAY_TLS_CERT": "none.pem",
        "SERVICE1_URL": "http://192.0.2.1",
        "SERVICE1_PREFIX": "/other",
    }
    with TemporaryDirectory() as cwd:
        (Path(cwd) / ".env").write_text("GATEWAY_HOST=192.0.2.1\nSERVICE2_TIMEOUT=none\n")
        async with running("--port", "0", environ=environ, cwd=cwd) as it:
            answers = {}
            for line in re.findall(r"^  (curl .*)$", it.page, re.MULTILINE):
                # A shell, because it is what the line is pasted into: its quoting is tried as well.
                done = await trio.run_process(["sh", "-c", line], capture_stdout=True)
                answers[line] = done.stdout.decode()
            it.process.send_signal(signal.SIGINT)
    log = it.out.partition(demo.LAST_LINE)[2]
    return Session(it.url, it.page, answers, log, it.err, it.process.returncode)


@pytest.fixture(scope="module")
def session() -> Session:
    if shutil.which("curl") is None:
        pytest.skip("the demo's lines are curl's, and there is no curl here")
    return trio.run(play)


# ---- the session


def test_page_has_a_line_for_each_step(session: Session) -> None:
    assert len(session.answers) == len(demo.STEPS) == 7


@pytest.mark.requirement("FR-001")
def test_order_is_placed_processed_by_the_worker_and_read_through_the_gateway(session: Session) -> None:
    placed = session.body("service1/orders -H")
    read = session.body("service1/orders/ORD-1")
    assert placed["status"] == "accepted"
    assert (read["order_id"], read["task_id"]) == (placed["order_id"], placed["task_id"])
    assert read["status"] == "processed"
    assert read["notification_id"]


@pytest.mark.requirement("FR-002")
def test_notification_is_sent_through_the_gateway(session: Session) -> None:
    assert session.body("notifications/send")["status"] == "sent"


@pytest.mark.requirement("FR-003")
def test_echo_shows_the_path_as_written_and_what_the_gateway_adds(session: Session) -> None:
    echoed = session.body("/echo/")
    assert echoed["target"] == "/api/echo/a%2Fb?q=1&q=2"
    headers = {name.lower(): value for name, value in echoed["headers"]}
    assert headers["x-colour"] == "green"
    assert headers["x-forwarded-prefix"] == "/api/service1"
    assert headers["x-request-id"]


@pytest.mark.requirement("FR-007")
def test_path_of_no_service_is_an_explained_404(session: Session) -> None:
    assert session.answer("nowhere").startswith("HTTP/1.1 404 ")
    assert session.body("nowhere")["error"] == "not_found"


@pytest.mark.requirement("FR-007", "FR-008", "SC-008")
def test_slow_service_is_a_504_that_says_where_the_time_went(session: Session) -> None:
    told = session.body("slow")
    assert session.answer("slow").startswith("HTTP/1.1 504 ")
    assert (told["error"], told["service"], told["phase"]) == ("gateway_timeout", "service2", "first_byte")
    assert 1500 < told["timings_ms"]["first_byte"] < 3500


@pytest.mark.requirement("FR-006")
def test_status_shows_both_services_up(session: Session) -> None:
    told = session.body("gateway/status")
    assert told["status"] == "running"
    assert [(each["name"], each["health"]["state"]) for each in told["services"]] == [
        ("service1", "up"),
        ("service2", "up"),
    ]


@pytest.mark.requirement("FR-009")
def test_each_line_tried_is_one_line_of_the_log(session: Session) -> None:
    lines = [json.loads(line) for line in session.log.splitlines() if line]
    assert [line["status_code"] for line in lines if "request_id" in line] == [202, 200, 200, 200, 404, 504, 200]


def test_interrupt_stops_the_demo_without_a_word_on_stderr(session: Session) -> None:
    assert (session.code, session.err) == (0, "")


# ---- starting and stopping


async def test_sigterm_stops_the_demo() -> None:
    async with running("--port", "0") as it:
        it.process.send_signal(signal.SIGTERM)
    assert (it.process.returncode, it.err) == (0, "")


@asynccontextmanager
async def endless_download(url: str) -> AsyncIterator[None]:
    """A client in the middle of an answer that takes an hour."""
    host, port = url.removeprefix("http://").split(":")
    async with await trio.open_tcp_stream(host, int(port)) as client:
        await client.send_all(b"GET /api/service1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while b"event: tick" not in answer:
            piece = await client.receive_some()
            assert piece, answer
            answer += piece
        yield


async def test_interrupt_does_not_wait_for_an_answer_that_takes_an_hour() -> None:
    async with running("--port", "0") as it, endless_download(it.url):
        it.process.send_signal(signal.SIGINT)
        with trio.fail_after(8):
            await it.process.wait()
    assert (it.process.returncode, it.err) == (0, "")


async def test_second_interrupt_ends_it_at_once_and_without_a_traceback() -> None:
    async with running("--port", "0") as it, endless_download(it.url):
        it.process.send_signal(signal.SIGINT)
        await it.says("the gateway is stopping")
        it.process.send_signal(signal.SIGINT)
        with trio.fail_after(5):  # that it did not wait for the drain, its exit code tells
            await it.process.wait()
    assert (it.process.returncode, it.err) == (130, "")


async def test_port_in_use_is_said_and_another_one_taken() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        taken = listener.socket.getsockname()[1]
        async with running(environ={"GATEWAY_PORT": str(taken)}) as it:
            assert it.out.startswith(f"Port {taken} is in use: taking a free one instead.\n")
            assert not it.url.endswith(f":{taken}")
            it.process.send_signal(signal.SIGTERM)
    assert it.process.returncode == 0


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"GATEWAY_PORT": "many"}, "GATEWAY_PORT"),
        ({"GATEWAY_HOST": "192.0.2.1"}, "GATEWAY_HOST: 192.0.2.1 is no address of this machine"),
        ({"GATEWAY_LOG_FORMAT": "xml"}, "GATEWAY_LOG_FORMAT"),
    ],
)
def test_setting_that_cannot_be_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], environ: dict[str, str], told: str
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert demo.run() == 1
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("missing", ["service1", "service2"])
def test_demo_without_the_example_services_says_where_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert demo.run() == 1
    said = capsys.readouterr().err
    assert "uv run gateway demo" in said
    assert said.count("\n") == 1


def test_module_that_an_example_service_misses_is_no_missing_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "service2", raising=False)
    monkeypatch.setitem(sys.modules, "fixture_common.shelf", None)
    with pytest.raises(ModuleNotFoundError, match="shelf"):
        demo.run()


@pytest.mark.parametrize(
    ("listening", "told"), [("http://0.0.0.0:80", "http://127.0.0.1:80"), ("http://[::]:80", "http://[::1]:80")]
)
def test_page_gives_an_address_to_call_where_all_are_listened_on(
    capsys: pytest.CaptureFixture[str], listening: str, told: str
) -> None:
    demo.Announcement({}).started([listening])
    assert f"The gateway listens on {told}\n" in capsys.readouterr().out


# ---- the README's transcript


def transcript(session: Session) -> str:
    """The session as the README shows it: what differs from run to run is replaced by what does not.

    Ids are numbered as they come; times of day are one; durations are 0.3 ms, or, where they are long, rounded to the
    second; lengths are counted again after that.
    """
    shown = []
    for step, (line, answer) in zip(demo.STEPS, session.answers.items(), strict=True):
        head, blank, body = answer.rpartition("\r\n\r\n")
        body = steady(body)
        head = re.sub(r"(?m)^(content-length: )\d+", rf"\g<1>{len(body)}", steady(head))
        said = f"# {step.shows}\n" if step.shows else ""
        block = f"{said}$ {line}\n{head}{blank}{body.removesuffix(NEWLINE)}\n"
        shown.append(block.replace("\r", "").replace(session.url, "URL"))
    text = numbered(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "00000000-0000-4000-8000-{:012}", "\n".join(shown))
    text = numbered(r"[0-9a-f]{32}", "{:032}", text)
    authority = session.url.removeprefix("http://")
    return text.replace("URL", "http://127.0.0.1:8000").replace(authority, "127.0.0.1:8000")


def steady(text: str) -> str:
    """``text`` without what the clock, the machine and the version of curl put into it."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", "2026-01-01T12:00:00.000", text)
    text = re.sub(r"(?m)^(date: ).*?(?=\r?$)", r"\1Thu, 01 Jan 2026 12:00:00 GMT", text)
    text = re.sub(r"curl/[\d.]+", "curl/8.0.0", text)
    text = re.sub(r'("age_seconds": ?)[\d.]+', r"\g<1>2.1", text)
    return re.sub(
        r'("(?:queue|connect|send|first_byte|body|latency_ms)": ?)([\d.]+)',
        lambda found: f"{found[1]}{rounded(float(found[2]))}",
        text,
    )


def numbered(pattern: str, form: str, text: str) -> str:
    """``text`` with what matches replaced by its number, the same one for the same match."""
    found = list(dict.fromkeys(re.findall(rf"\b{pattern}\b", text)))
    for number, match in enumerate(found, start=1):
        text = text.replace(match, form.format(number))
    return text


def rounded(milliseconds: float) -> float:
    if 0 < milliseconds < 1500:
        return 0.3
    return round(milliseconds / 1000) * 1000.0


def test_readme_shows_this_very_session(session: Session) -> None:
    found = re.search(r"```console\n(# Place an order.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert found[1] == transcript(session), "write it anew: python tests/test_demo.py"


if __name__ == "__main__":
    sys.stdout.write(transcript(trio.run(play)))
