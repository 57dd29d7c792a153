"""The shell that documents are typed into fails where a document is wrong."""

from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

import pytest

from .pages import Block
from .shell import play, shell, steady


def console(text: str) -> list[Block]:
    return [Block("", "console", text)]


def test_what_is_typed_lasts(tmp_path: Path) -> None:
    with shell(tmp_path) as it:
        play(it, console("$ export COLOUR=red\n$ echo $COLOUR\nred\n"))


@pytest.mark.parametrize("text", ["$ echo red\nblue\n", "$ false\n", "$ nonsense\n", "$ uv build\n"])
def test_other_output_and_failing_commands_are_found(tmp_path: Path, text: str) -> None:
    with shell(tmp_path) as it, pytest.raises(AssertionError):
        play(it, console(text))


def test_port_of_the_document_is_a_free_one_and_is_told_as_the_documents(tmp_path: Path) -> None:
    with shell(tmp_path, (8001,)) as it:
        assert it.type("echo http://x:8001/ > told; cat told") == "http://x:8001/"
    assert (tmp_path / "told").read_text() != "http://x:8001/\n"


def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    with shell(tmp_path) as it:
        number = int(it.type("sleep 600 & echo $!"))
    deadline = monotonic() + 10
    with suppress(FileNotFoundError):
        while ") Z " not in Path(f"/proc/{number}/stat").read_text():
            assert monotonic() < deadline
            sleep(0.01)


def test_durations_and_ids_are_steady_and_statuses_and_addresses_are_not_touched() -> None:
    assert steady(f"{'0' * 32} took 1.25, up in 3 ms") == "ID took N, up in N ms"
    assert steady("503 from 127.0.0.1:8002") == "503 from 127.0.0.1:8002"
