import os
import sys
from pathlib import Path

import pytest

from gateway.testing.processes import GatewayProcess, clean_environment, far_descriptor, free_port

SAYS = """
import json, sys, time
for number in range(2):
    print(json.dumps({"message": "hello", "number": number}), flush=True)
print("oh", file=sys.stderr)
time.sleep(60 * int(sys.argv[1]))
"""


def command(*, stays: bool) -> list[str]:
    return [sys.executable, "-c", SAYS, str(int(stays))]


def test_lines_of_the_log_are_waited_for_and_its_end_is_told(tmp_path: Path) -> None:
    with GatewayProcess({}, tmp_path, command=command(stays=False)) as process:
        assert [line["number"] for line in process.until("hello", 2)] == [0, 1]
        assert process.wait() == 0
        assert process.err == "oh\n"
        with pytest.raises(AssertionError, match=r"not 3 x 'hello' in \[.*standard error: 'oh"):
            process.until("hello", 3)


def test_process_does_not_outlive_its_block_and_is_told_to_stop(tmp_path: Path) -> None:
    with GatewayProcess({}, tmp_path, command=command(stays=True)) as process:
        process.until("hello", 2)
    assert process.process.returncode == -9
    with GatewayProcess({}, tmp_path, command=command(stays=True)) as process:
        process.until("hello", 2)
        assert process.stop() == -15


def test_variables_of_the_gateway_do_not_leak_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_PORT", "1")
    monkeypatch.setenv("SERVICE1_URL", "http://a")
    monkeypatch.setenv("OTHER", "x")
    environ = clean_environment(SERVICE2_URL="http://b")
    assert ("GATEWAY_PORT" in environ, "SERVICE1_URL" in environ) == (False, False)
    assert (environ["OTHER"], environ["SERVICE2_URL"]) == ("x", "http://b")


def test_descriptor_is_doubled_far_from_the_low_ones(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        number = far_descriptor(file.fileno())
        assert number >= 100
        os.write(number, b"x")
        os.close(number)
    assert (tmp_path / "file").read_text() == "x"


def test_gateway_that_runs_answers(tmp_path: Path) -> None:
    with GatewayProcess({"SERVICE1_URL": f"http://127.0.0.1:{free_port()}"}, tmp_path) as gateway:
        gateway.until("the gateway is running")
        assert gateway.get("/readyz") == (200, b"ok")
        assert gateway.get("/api/service1/x")[0] == 503
        assert gateway.stop() == 0
    assert gateway.err == ""
