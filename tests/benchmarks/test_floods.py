import socket
import threading
from collections import Counter

from benchmarks.flood_kinds import Flood
from benchmarks.floods import HEAD, Attacker, Good, Outcome, row

FLOOD = Flood(title="a flood", begin=b"hello", again=b"x" * 1000)


def serve(listener: socket.socket, said: bytes, connections: int) -> None:
    for _ in range(connections):
        accepted, _ = listener.accept()
        accepted.recv(5)
        accepted.sendall(said)
        accepted.close()


def test_attacker_begins_anew_where_the_server_ends_a_connection_and_tells_how_it_ended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener, b"HTTP/1.1 408 Request Timeout\r\n\r\n", 3))
        thread.start()
        attacker = Attacker(Flood(title="slow", begin=b"hello"), listener.getsockname()[1])
        attacker.run(0.3)
        thread.join()
    assert attacker.ends == Counter({"408": 3, "open": 1})
    assert (attacker.opened, attacker.sent) == (4, 20)


def test_attacker_that_is_not_ended_floods_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        attacker = Attacker(FLOOD, listener.getsockname()[1])
        attacker.run(0.05)
    assert attacker.ends == Counter(open=1)
    assert attacker.sent > 1000


def test_good_client_counts_answers_and_what_is_none() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port, good = listener.getsockname()[1], Good()
    thread = threading.Thread(target=serve, args=(listener, b"HTTP/1.1 200 OK\r\n\r\n", 1))
    thread.start()
    good.ask(port)
    thread.join()
    listener.close()
    good.ask(port)
    assert len(good.latencies) == good.unanswered == 1


def test_row_tells_cpu_memory_ends_and_what_the_good_client_met() -> None:
    ends = Counter({"GOAWAY ENHANCE_YOUR_CALM": 4, "open": 1})
    outcome = Outcome(FLOOD, 1.234, 5_600_000, 7_890_000, 5, ends, Good([0.001, 0.002, 0.1]))
    cells = row(outcome)
    assert len(cells) == len(HEAD)
    assert cells == [
        "a flood", "7.9", "5", "GOAWAY ENHANCE_YOUR_CALM (4), open (1)", "1.23", "5.6", "all 3", "2.0", "100",
    ]  # fmt: skip


def test_row_tells_when_the_good_client_was_left_waiting() -> None:
    cells = row(Outcome(FLOOD, 0, 0, 0, 1, Counter(open=1), Good([0.5], unanswered=2)))
    assert cells[3] == "open"
    assert cells[6] == "1 of 3"
