import ssl
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from gateway.server.tls import Certificates

from .conftest import GET, Start, quiet_config
from .test_serve import ok


class Authority:
    """Issues certificates into two files, and a client that trusts them."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = str(folder / "cert.pem"), str(folder / "key.pem")
        self._authority = trustme.CA()
        self.client = ssl.create_default_context()
        self._authority.configure_trust(self.client)

    def issue(self, organization: str, kind: trustme.KeyType = trustme.KeyType.ECDSA) -> None:
        issued = self._authority.issue_cert("127.0.0.1", organization_name=organization, key_type=kind)
        issued.cert_chain_pems[0].write_to_path(self.cert)
        issued.private_key_pem.write_to_path(self.key)

    async def connect(self, server: Any) -> trio.SSLStream[Any]:
        stream = trio.SSLStream(await server.connect(), self.client, server_hostname="127.0.0.1")
        await stream.do_handshake()
        return stream

    async def shown(self, server: Any) -> str:
        stream = await self.connect(server)
        name = organization(stream)
        await trio.aclose_forcefully(stream)
        return name


def organization(stream: trio.SSLStream[Any]) -> str:
    certificate = stream.getpeercert() or {}
    subject: Any = certificate["subject"]
    return str(dict(field[0] for field in subject)["organizationName"])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_new_connections_see_the_new_certificate_and_old_ones_go_on(start: Start, authority: Authority) -> None:
    authority.issue("old")
    config = quiet_config(certfile=authority.cert, keyfile=authority.key)
    certificates = Certificates(config)
    server = await start(ok, config=config, certificates=certificates)
    assert server.binds[0].startswith("https://")
    open_before = await authority.connect(server)
    authority.issue("new", trustme.KeyType.RSA)  # a key of another kind: the old one must not be offered beside it
    assert await authority.shown(server) == "old"
    certificates.reload()
    assert await authority.shown(server) == "new"
    await open_before.send_all(GET)
    assert (await open_before.receive_some()).startswith(b"HTTP/1.1 200 ")
    assert organization(open_before) == "old"
    await trio.aclose_forcefully(open_before)


@pytest.mark.parametrize("how", ["gone", "nonsense", "of another certificate"])
def test_files_that_cannot_be_used_change_nothing(authority: Authority, tmp_path: Path, how: str) -> None:
    authority.issue("old")
    certificates = Certificates(quiet_config(certfile=authority.cert, keyfile=authority.key))
    before = certificates.context
    if how == "gone":
        Path(authority.key).unlink()
    elif how == "nonsense":
        Path(authority.cert).write_text("nonsense")
    else:
        (tmp_path / "other").mkdir()
        other = Authority(tmp_path / "other")
        other.issue("other")
        Path(authority.key).write_bytes(Path(other.key).read_bytes())
    with pytest.raises((OSError, ssl.SSLError)):
        certificates.reload()
    assert certificates.context is before


def test_server_without_tls_has_no_certificates() -> None:
    with pytest.raises(ValueError, match="no certificate"):
        Certificates(quiet_config())
