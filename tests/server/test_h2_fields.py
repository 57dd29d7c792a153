"""HPACK, with hpack itself as the judge: what ours says it must understand, and what it understands ours must."""

import pytest
from h2.settings import SettingCodes
from hpack import Decoder, Encoder
from hpack.exceptions import HPACKDecodingError, OversizedHeaderListError
from hyperframe.frame import SettingsFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.server.h2_connection import StreamwiseConnection
from gateway.server.h2_fields import LATELY, Field, FieldDecoder, FieldEncoder
from gateway.server.heads import PREFACE
from gateway.server.limits import Limits

TABLE = 4096

# Few enough of each that they come again, some in the static table, some longer than one byte can tell.
NAMES = st.sampled_from([b":status", b"content-type", b"date", b"x", b"x-request-id", b"y" * 150])
VALUES = st.sampled_from([b"", b"200", b"text/plain", b"v" * 127, b"w" * 900, b"u" * 5000]) | st.binary(max_size=3)
FIELDS = st.lists(st.tuples(NAMES | st.binary(max_size=3), VALUES), max_size=12)
SIZES = st.sampled_from([0, 40, 100, 1000, TABLE, 2**20])


class Ears:
    """A client's decoder, and what it has understood."""

    def __init__(self) -> None:
        self.decoder = Decoder()

    def hears(self, block: bytes) -> list[Field]:
        return [(name, value) for name, value in self.decoder.decode(block, raw=True)]

    @property
    def table(self) -> list[Field]:
        return list(self.decoder.header_table.dynamic_entries)


# ---- the encoder


@given(st.lists(FIELDS | SIZES, max_size=30))
@settings(deadline=None)
def test_encoded_fields_are_understood_whatever_came_before(steps: list[list[Field] | int]) -> None:
    encoder, ears = FieldEncoder(), Ears()
    for step in steps:
        if isinstance(step, int):
            encoder.header_table_size = step
            ears.decoder.max_allowed_table_size = max(step, TABLE)
        else:
            assert ears.hears(encoder.encode(step)) == step
            assert ears.table == list(reversed(encoder.table))
            assert ears.decoder.header_table_size == encoder.header_table_size


def test_field_is_put_into_the_table_when_it_comes_again() -> None:
    encoder, ears = FieldEncoder(), Ears()
    field = (b"content-type", b"application/json")
    for table, longest in [([], 30), ([field], 30), ([field], 1), ([field], 1)]:
        block = encoder.encode([field])
        assert len(block) <= longest
        assert ears.hears(block) == [field]
        assert ears.table == table


def test_values_that_never_come_again_leave_the_table_to_those_that_do() -> None:
    encoder, ears = FieldEncoder(), Ears()
    for number in range(2 * LATELY):
        fields = [(b":status", b"200"), (b"server", b"s"), (b"x-request-id", b"%032x" % number)]
        assert ears.hears(encoder.encode(fields)) == fields
    assert ears.table == [(b"server", b"s"), (b"x-request-id", b"%032x" % 0)]
    assert len(encoder.encode([(b"x-request-id", bytes(32))])) == 3 + 32  # the name is there to be pointed to


def test_names_are_known_as_long_as_a_field_has_them() -> None:
    encoder = FieldEncoder()
    for number in range(1000):
        encoder.encode([(b"x-%d" % number, b"y"), (b"x-0", b"z")])
    assert encoder._names.keys() == {name for name, _ in encoder.table}  # noqa: SLF001 -- as above


def test_what_was_sent_lately_is_remembered_within_bounds() -> None:
    encoder = FieldEncoder()
    encoder.encode([(b"x", b"%d" % number) for number in range(10 * LATELY)])
    assert len(encoder._lately) <= LATELY  # noqa: SLF001 -- memory shows nowhere else


def test_full_table_loses_its_oldest_fields() -> None:
    encoder, ears = FieldEncoder(), Ears()
    fields = [(b"x", b"%03d" % number) for number in range(150)]
    for field in fields:
        for _ in range(2):
            ears.hears(encoder.encode([field]))
    assert ears.table == fields[: -(TABLE // 36) - 1 : -1]  # of 32 + 1 + 3 bytes each
    assert len(encoder.encode([fields[-1]])) == 1
    assert len(encoder.encode([fields[37]])) == 2  # a place beyond what one byte can tell
    assert ears.hears(encoder.encode(fields)) == fields


def test_field_larger_than_the_table_leaves_it_as_it_is() -> None:
    encoder, ears = FieldEncoder(), Ears()
    fields = [(b"x", b"y"), (b"z", b"v" * TABLE)]
    for _ in range(3):
        assert ears.hears(encoder.encode(fields)) == fields
    assert ears.table == [(b"x", b"y")]


def test_table_of_fields_is_as_large_as_we_like() -> None:
    encoder = FieldEncoder()
    encoder.header_table_size = 2**32 - 1
    fields = [(b"x-%d" % number, b"y" * 100) for number in range(1000)]
    for field in fields:
        encoder.encode([field, field])
    assert sum(32 + len(name) + len(value) for name, value in encoder.table) <= TABLE
    assert len(encoder.table) == TABLE // (32 + 5 + 100)


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ([0, 100] * 200, [0, 100]),
        ([100, 0], [0]),
        ([100, 100], [100]),
        ([100, 2**20], [100, 4096]),
        ([2**20], []),
        ([4096], []),
    ],
)
def test_sizes_of_the_table_are_told_in_short(sizes: list[int], told: list[int]) -> None:
    h2 = StreamwiseConnection(Limits(), lambda: 0.0)
    h2.initiate_connection()
    h2.receive_data(PREFACE)
    for size in sizes:
        h2.receive_data(SettingsFrame(0, settings={SettingCodes.HEADER_TABLE_SIZE: size}).serialize())
    assert h2.encoder.table_size_changes == told
    ears = Ears()
    for fields in ([(b":status", b"200"), (b"x", b"y")], [(b":status", b"404")]):
        assert ears.hears(h2.encoder.encode(fields)) == fields
    assert ears.decoder.header_table_size == h2.encoder.header_table_size


# ---- the decoder


def both(blocks: list[bytes], *, limit: int = 1000, allowed: int = TABLE) -> None:
    """Ours and hpack's, side by side, until one of them refuses."""
    ours, theirs = FieldDecoder(max_header_list_size=limit), Decoder(max_header_list_size=limit)
    ours.max_allowed_table_size = theirs.max_allowed_table_size = allowed
    for block in blocks:
        try:
            expected = [tuple(field) for field in theirs.decode(block, raw=True)]
        except HPACKDecodingError as error:
            oversized = isinstance(error, OversizedHeaderListError)
        else:
            assert ours.decode(block) == expected
            assert ours.header_table.dynamic_entries == theirs.header_table.dynamic_entries
            assert ours.header_table_size == theirs.header_table_size
            continue
        with pytest.raises(HPACKDecodingError) as raised:
            ours.decode(block)
        assert isinstance(raised.value, OversizedHeaderListError) is oversized
        return


@given(steps=st.lists(FIELDS | SIZES, max_size=30), huffman=st.booleans())
@settings(deadline=None)
def test_what_hpack_encodes_is_understood(steps: list[list[Field] | int], *, huffman: bool) -> None:
    encoder, decoder = Encoder(), FieldDecoder(max_header_list_size=2**20)
    decoder.max_allowed_table_size = 2**20
    for step in steps:
        if isinstance(step, int):
            if step != encoder.header_table_size:  # hpack forgets to tell of a change where the same is set once more
                encoder.header_table_size = step
        else:
            sensitive = [(name, value, name == b"x") for name, value in step]
            assert decoder.decode(encoder.encode(sensitive, huffman=huffman)) == step
            assert decoder.header_table.dynamic_entries == encoder.header_table.dynamic_entries


# Bytes that begin something: fields by index, literals of each kind, sizes, long integers, strings with and without
# Huffman's code; and any others.
BEGINNINGS = (
    "82 84 be bf 80 ff00 ffffffffff01 ff80808080 ff8080808000 ff808080808000"
    " 4001610162 0001610162 1001610162 410162 0f000162 7f000162"
    " 20 3fe11f 3fe21f 3f00 048360d54f 0481ff 407f00 4001617f01"
    " 400161 400561 0482 40 0f"
)
PIECES = st.sampled_from([*map(bytes.fromhex, BEGINNINGS.split()), b"\x40\x01a\x7f\x01" + b"v" * 128])


@given(st.lists(st.lists(PIECES | st.binary(max_size=4), max_size=8).map(b"".join), max_size=5))
@settings(deadline=None, max_examples=300)
def test_any_block_is_understood_as_hpack_does_or_refused_as_hpack_does(blocks: list[bytes]) -> None:
    both(blocks)


@pytest.mark.parametrize(
    "block", ["410561626364 65", "40016105 6263646566", "048360d54f", "7f0005 6263646566", "3fe11f 82"]
)
def test_block_is_understood_to_its_last_byte(block: str) -> None:
    whole = bytes.fromhex(block)
    for size in range(len(whole) + 1):
        both([whole[:size]])


@pytest.mark.parametrize(
    "length", ["7f00", "7f8000", "7f80808000", "7f8080808000", "7f808080808000", "7f80808080808000"]
)
def test_integers_may_be_as_long_as_hpack_takes_them(length: str) -> None:
    both([b"\x40\x01a" + bytes.fromhex(length) + b"v" * 127])


def test_size_of_the_table_must_come_down_to_what_is_allowed() -> None:
    """RFC 7541 section 4.2: with the first block after the client has agreed, and never up again."""
    for block in (b"\x82", b"\x3f\x46\x82", b"\x3f\x45\x3f\x46\x82"):  # nothing; 101 bytes; 100 and 101
        both([block], allowed=100)
        decoder = FieldDecoder()
        decoder.max_allowed_table_size = 100
        with pytest.raises(HPACKDecodingError):
            decoder.decode(block)
    both([b"\x3f\x45\x82"], allowed=100)
    assert decoder.decode(b"\x3f\x45\x82") == [(b":method", b"GET")]


@pytest.mark.parametrize("over", [False, True])
def test_list_is_counted_as_the_limit_is_told(*, over: bool) -> None:
    """RFC 9113 section 6.5.2: names, values, and 32 bytes each. A few bytes may stand for much."""
    decoder = FieldDecoder(max_header_list_size=5 * (32 + 1 + 100))
    decoder.decode(b"\x40\x01a\x64" + b"v" * 100)
    if over:
        with pytest.raises(OversizedHeaderListError):
            decoder.decode(b"\xbe" * 6)
    else:
        assert decoder.decode(b"\xbe" * 5) == [(b"a", b"v" * 100)] * 5
