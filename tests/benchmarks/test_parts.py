import pytest

from benchmarks.parts import PARTS, part_of


@pytest.mark.parametrize(
    ("file", "function", "title"),
    [
        ("gateway/server/connection.py", "Connection.write", "system call: the answer to the client"),
        ("gateway/server/connection.py", "Connection.run", "server: connection, stream, ASGI"),
        ("gateway/server/h2_sender.py", "Sender.run", "server: HTTP/2"),
        ("gateway/api.py", "Entry._log", "the log line and the record"),
        ("gateway/api.py", "Entry.__call__", "entry"),
        ("trio/_core/_io_epoll.py", "EpollIOManager.get_events", "system calls: epoll"),
        ("<attrs generated methods trio._core._run.Task>", "__init__", "trio: tasks, scopes, deadlines"),
        ("gateway/new.py", "f", "the rest of the gateway"),
        ("random.py", "getrandbits", "everything else"),
    ],
)
def test_function_belongs_to_the_first_part_that_it_matches(file: str, function: str, title: str) -> None:
    assert part_of(file, function) == title


def test_every_part_can_be_reached_by_its_own_places() -> None:
    for part in PARTS:
        for place in part.places:
            assert part_of(*(place.split(":") if ":" in place else (place, "f"))) == part.title
