"""Certificates and keys: what is wrong with a file. Each function returns what is expected instead, or None.

What never lives here: the names of variables, the contexts that connections use.
"""

import ssl
from pathlib import Path


def unreadable(path: str) -> str | None:
    """Tell why the file cannot be read."""
    reason = "not a file"
    try:
        if Path(path).is_file() or not Path(path).exists():  # opening a FIFO would block
            Path(path).open("rb").close()
            return None
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError:
        reason = "not a path"
    return f"a file that can be read ({reason})"


def no_certificates(path: str) -> str | None:
    """Tell whether the readable file holds no certificate."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError:
        return "a PEM file with at least one certificate"
    return None


def no_key(cert: str, key: str) -> str | None:
    """Tell why the readable file is not the key of that certificate."""
    try:
        # A password, though there is none: without it OpenSSL stops and asks for one on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        reason = (error.reason or "not PEM").replace("_", " ").lower()
        return f"a PEM file with the private key of that certificate, without a passphrase ({reason})"
    return None
