from collections import Counter

from benchmarks.storm import Aftermath, as_table, run


def test_storm_tells_of_both_transports_how_every_request_ended() -> None:
    head, _line, ours, stock = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in run(requests=200, seed=1).splitlines()
    )
    assert head[1:6] == ["slots lost of 10", "answered", "cancelled", "broken", "pool timeout"]
    assert ours[:2] == ["BackendTransport", "0"]
    assert stock[0] == "AsyncHTTPTransport"
    assert sum(map(int, ours[2:6])) == sum(map(int, stock[2:6])) == 200


def test_table_of_aftermaths_has_a_row_for_each() -> None:
    table = as_table([Aftermath("ours", Counter(answered=4000), 1.26, 0), Aftermath("theirs", Counter(), 9, 6)])
    assert "| ours | 0 | 4,000 | 0 | 0 | 0 | 1.3 |\n| theirs | 6 | 0 | 0 | 0 | 0 | 9.0 |" in table
