import trio.testing

from gateway.testing.network import MemoryNetwork, MemoryStream, memory_stream_pair


async def make() -> tuple[MemoryStream, MemoryStream]:
    return memory_stream_pair()


async def make_clogged() -> tuple[MemoryStream, MemoryStream]:
    one, other = memory_stream_pair(1024)
    await one.send_all(bytes(1024))
    await other.send_all(bytes(1024))
    return one, other


async def test_stream_passes_trios_own_checks() -> None:
    await trio.testing.check_half_closeable_stream(make, make_clogged)
