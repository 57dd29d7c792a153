import h2.connection
import h2.events
import pytest
from h2.config import H2Configuration
from h2.exceptions import DenialOfServiceError, ProtocolError
from hyperframe.frame import GoAwayFrame

from benchmarks.flood_kinds import FLOODS, ending


def taken_in(title: str) -> list[h2.events.Event]:
    """What the first bytes of a flood are to h2."""
    flood = next(flood for flood in FLOODS if flood.title.startswith(title))
    connection = h2.connection.H2Connection(H2Configuration(client_side=False))
    connection.local_settings.max_concurrent_streams = 10_000
    connection.initiate_connection()
    return connection.receive_data(flood.begin + flood.again)


def kinds(title: str) -> set[type]:
    return {type(event) for event in taken_in(title)} - {
        h2.events.RemoteSettingsChanged,
        h2.events.SettingsAcknowledged,
    }


def test_rapid_resets_are_requests_that_are_reset() -> None:
    events = taken_in("rapid reset")
    assert sum(isinstance(event, h2.events.RequestReceived) for event in events) == 900
    assert sum(isinstance(event, h2.events.StreamReset) for event in events) == 900


def test_floods_of_control_frames_are_sound_frames_of_their_kind() -> None:
    assert kinds("PING") == {h2.events.PingReceived}
    assert kinds("PRIORITY") == {h2.events.PriorityUpdated}
    assert len(taken_in("SETTINGS")) > 1000


def test_continuation_without_end_and_header_bomb_are_what_h2_guards_against() -> None:
    with pytest.raises(ProtocolError, match="continuation"):
        taken_in("CONTINUATION")
    with pytest.raises(DenialOfServiceError):
        taken_in("header bomb")


def test_readers_without_a_window_ask_for_large_answers() -> None:
    asked = [event for event in taken_in("window 0") if isinstance(event, h2.events.RequestReceived)]
    assert len(asked) == 50
    assert {dict(event.headers)[b":path"] for event in asked} == {b"/large"}


@pytest.mark.parametrize(
    ("tail", "told"),
    [
        (b"...." + GoAwayFrame(0, last_stream_id=7, error_code=11).serialize(), "GOAWAY ENHANCE_YOUR_CALM"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 408 Request Timeout\r\n\r\n", "408"),
        (b"", "closed"),
        (GoAwayFrame(0).serialize()[:-1], "closed"),
    ],
)
def test_end_of_a_connection_is_told_by_the_last_that_was_said(tail: bytes, told: str) -> None:
    assert ending(tail) == told
