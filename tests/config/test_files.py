import os
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from gateway.config import files


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths of an authority, two certificates with their keys, an encrypted key and a text."""
    folder = tmp_path_factory.mktemp("pem")
    authority = trustme.CA()
    paths = {name: str(folder / name) for name in ("ca", "cert", "key", "other_key", "encrypted", "text")}
    authority.cert_pem.write_to_path(paths["ca"])
    leaf = authority.issue_cert("gateway.example")
    leaf.cert_chain_pems[0].write_to_path(paths["cert"])
    leaf.private_key_pem.write_to_path(paths["key"])
    authority.issue_cert("other.example").private_key_pem.write_to_path(paths["other_key"])
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    Path(paths["encrypted"]).write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
    )
    Path(paths["text"]).write_text("no PEM at all", encoding="utf-8")
    return paths


def test_good_files_have_no_faults(pem: dict[str, str]) -> None:
    assert files.unreadable(pem["cert"]) is None
    assert files.no_certificates(pem["ca"]) is None
    assert files.no_key(pem["cert"], pem["key"]) is None


def test_missing_file_is_told_with_the_systems_reason(tmp_path: Path) -> None:
    assert files.unreadable(str(tmp_path / "nope")) == "a file that can be read (No such file or directory)"


def test_folder_is_not_a_file(tmp_path: Path) -> None:
    assert files.unreadable(str(tmp_path)) == "a file that can be read (not a file)"


def test_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert files.unreadable(str(tmp_path / "fifo")) == "a file that can be read (not a file)"


def test_text_that_no_path_can_be_is_refused() -> None:
    assert files.unreadable("a\0b") == "a file that can be read (not a path)"


@pytest.mark.parametrize("name", ["text", "key"])
def test_file_without_certificate_is_found(pem: dict[str, str], name: str) -> None:
    assert files.no_certificates(pem[name]) == "a PEM file with at least one certificate"


def test_key_of_another_certificate_is_found(pem: dict[str, str]) -> None:
    assert "key values mismatch" in str(files.no_key(pem["cert"], pem["other_key"]))


def test_key_with_a_passphrase_is_refused_without_asking_for_it(pem: dict[str, str]) -> None:
    assert "without a passphrase" in str(files.no_key(pem["cert"], pem["encrypted"]))


def test_file_that_is_no_key_is_found(pem: dict[str, str]) -> None:
    assert "a PEM file with the private key" in str(files.no_key(pem["cert"], pem["text"]))
