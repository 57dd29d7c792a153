"""Header lists as bytes and back: HPACK (RFC 7541), quicker than hpack's own coders, and just as strict.

What lives here: the two coders of one connection, over hpack's tables, integers and Huffman code. What never will: what
a field means, frames.

hpack's encoder looks through the whole table for each field, and puts each new one in, so that a connection whose
answers carry a request id has a table full of request ids. Its decoder copies the rest of the block for each literal.
"""

from collections.abc import Iterable

from hpack import Decoder
from hpack.exceptions import HPACKDecodingError, OversizedHeaderListError
from hpack.hpack import decode_integer, encode_integer
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable, table_entry_size

Field = tuple[bytes, bytes]

LATELY = 128
"""Fields that the encoder remembers having sent as literals."""
_LONGEST_INTEGER = 6
"""Bytes, as hpack reads them."""
_FIRST_DYNAMIC = HeaderTable.STATIC_TABLE_LENGTH + 1


def _integer(prefix: int, bits: int, number: int) -> bytes:
    """RFC 7541 section 5.1, behind the bits of ``prefix``."""
    if number < (1 << bits) - 1:
        return bytes((prefix | number,))
    encoded = encode_integer(number, bits)
    encoded[0] |= prefix
    return bytes(encoded)


def _string(text: bytes) -> bytes:
    """RFC 7541 section 5.2. Without Huffman's code: what comes often is in the table, what does not costs less so."""
    return _integer(0, 7, len(text)) + text


_INDEXED = [_integer(0x80, 7, index) for index in range(_FIRST_DYNAMIC + HeaderTable.DEFAULT_SIZE // 32 + 1)]
"""Each place that a field may have, as it is sent."""
_STATIC_FIELDS = {field: _INDEXED[index] for index, field in enumerate(HeaderTable.STATIC_TABLE, 1)}
_STATIC_NAMES = {name: index for name, (index, _) in HeaderTable.STATIC_TABLE_MAPPING.items()}


class FieldEncoder:
    """As much of hpack's ``Encoder`` as h2 asks for.

    The table is of our own size: what the client allows is a bound, not an order (RFC 7541 section 4.2), and it may
    allow four gigabytes. A field goes into it when it is sent for the second time: what is sent once, such as a request
    id, would only push out what is not. So does one whose name is new, for the sake of its name.
    """

    def __init__(self) -> None:
        self.table: dict[Field, int] = {}
        """The table, oldest first, and how many went into it before each."""
        self.table_size_changes: list[int] = []
        """To be told with the next head."""
        self._names: dict[bytes, int] = {}
        """The newest of each name, likewise."""
        self._limit = HeaderTable.DEFAULT_SIZE
        self._size = 0
        self._count = 0
        self._lately: set[int] = set()
        """Hashes: two fields that share one cost a place in the table, and no more."""

    @property
    def header_table_size(self) -> int:
        """Bytes of the table of fields that both sides remember."""
        return self._limit

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        value = min(value, HeaderTable.DEFAULT_SIZE)
        if value != self._limit:
            # However often it has changed since the last head: the smallest is to be told, and the last.
            smallest = min([value, *self.table_size_changes])
            self.table_size_changes = [value] if smallest == value else [smallest, value]
            self._limit = value
            self._evict()

    def encode(self, headers: Iterable[Field]) -> bytes:
        """One header block. Names are in lower case already."""
        block = [_integer(0x20, 5, size) for size in self.table_size_changes]
        self.table_size_changes.clear()
        for field in headers:
            place = _STATIC_FIELDS.get(field)
            if place is None:
                number = self.table.get(field)
                place = self._literal(field) if number is None else _INDEXED[self._place(number)]
            block.append(place)
        return b"".join(block)

    def _place(self, number: int) -> int:
        return _FIRST_DYNAMIC + self._count - 1 - number

    def _literal(self, field: Field) -> bytes:
        name, value = field
        index = _STATIC_NAMES.get(name)
        if index is None:
            index = self._place(self._names[name]) if name in self._names else 0
        mark = hash(field)
        if (mark in self._lately or not index) and table_entry_size(name, value) <= self._limit:
            self._put(field)
            start = _integer(0x40, 6, index)
        else:
            if len(self._lately) >= LATELY:
                self._lately.clear()
            self._lately.add(mark)
            start = _integer(0, 4, index)
        return start + _string(value) if index else start + _string(name) + _string(value)

    def _put(self, field: Field) -> None:
        self.table[field] = self._count
        self._names[field[0]] = self._count
        self._count += 1
        self._size += table_entry_size(*field)
        self._evict()

    def _evict(self) -> None:
        while self._size > self._limit:
            oldest, number = next(iter(self.table.items()))
            del self.table[oldest]
            self._size -= table_entry_size(*oldest)
            if self._names.get(oldest[0]) == number:
                del self._names[oldest[0]]


class FieldDecoder(Decoder):
    """hpack's, in one pass over the block. It takes the same blocks, and gives fields as plain pairs of bytes."""

    def decode(self, data: bytes, raw: bool = True) -> list[Field]:  # type: ignore[override]  # noqa: ARG002, FBT001, FBT002 -- hpack's signature; all is raw here
        """Take one header block. Raises HPACKDecodingError, after which the table is of no use any more."""
        table = self.header_table
        fields: list[Field] = []
        room = self.max_header_list_size
        at, end = 0, len(data)
        while at < end:
            first = data[at]
            if first >= 0x80:
                index, at = _read_integer(data, at, 7)
                field = table.get_by_index(index)
            elif first & 0xE0 == 0x20:
                if fields:
                    raise HPACKDecodingError("a change of the table's size behind a field")
                at += self._update_encoding_context(data[at : at + _LONGEST_INTEGER])
                continue
            else:
                index, at = _read_integer(data, at, 6 if first & 0x40 else 4)
                if index:
                    name = table.get_by_index(index)[0]
                else:
                    name, at = _read_string(data, at)
                value, at = _read_string(data, at)
                field = name, value
                if first & 0x40:
                    table.add(name, value)
            fields.append(field)
            room -= table_entry_size(*field)
            if room < 0:
                raise OversizedHeaderListError(f"a header list larger than {self.max_header_list_size}")
        self._assert_valid_table_size()
        return fields


def _read_integer(data: bytes, at: int, bits: int) -> tuple[int, int]:
    """The integer at ``at``, and where it ends."""
    most = (1 << bits) - 1
    if at < len(data) and (number := data[at] & most) != most:
        return number, at + 1
    number, size = decode_integer(data[at : at + _LONGEST_INTEGER], bits)
    return number, at + size


def _read_string(data: bytes, at: int) -> tuple[bytes, int]:
    """The string at ``at``, and where it ends."""
    start = at
    size, at = _read_integer(data, at, 7)
    end = at + size
    if end > len(data):
        raise HPACKDecodingError("a truncated header block")
    text = data[at:end]
    return (decode_huffman(text) if data[start] & 0x80 else text), end
