from pathlib import Path

import pytest

from benchmarks.peers import PEERS, backend_servers, packages, program


@pytest.mark.parametrize("key", PEERS)
def test_peer_is_told_its_port_and_its_backend(key: str, tmp_path: Path) -> None:
    words, settings = PEERS[key].configure(tmp_path, (10_001, 10_002), "127.0.0.1:10003")
    told = " ".join([*words, *settings.values(), *(path.read_text() for path in tmp_path.iterdir())])
    assert "10001" in told
    assert "127.0.0.1:10003" in told
    assert PEERS[key].port2 in (None, 0) or "10002" in told


def test_peer_with_a_setting_of_its_own_differs_in_that_alone(tmp_path: Path) -> None:
    for plain, tuned, setting in (("nginx", "nginx-large", "64k"), ("caddy", "caddy-many", "1024")):
        texts = []
        for key in (plain, tuned):
            folder = tmp_path / key
            folder.mkdir()
            PEERS[key].configure(folder, (1, 2), "127.0.0.1:3")
            texts.append({line.strip() for path in folder.iterdir() for line in path.read_text().splitlines()})
        more = {line for line in texts[1] - texts[0] if key not in line}
        assert len(more) == 1
        assert setting in more.pop()


def test_backend_has_eight_megabytes_to_download(tmp_path: Path) -> None:
    servers = backend_servers(tmp_path, 1, 2, 3)
    assert f"alias {tmp_path}/large;" in servers
    assert (tmp_path / "large").stat().st_size == 8 * 1024 * 1024


def test_what_is_missing_is_told_and_what_is_there_is_not() -> None:
    assert program("sh")() is None
    assert program("no-such-program")() == "no-such-program is not installed"
    assert packages("trio")() is None
    assert "group bench" in str(packages("trio", "no_such_package")())
