"""Keys and certificates for NATS servers of tests: nkeys, the JWTs of an operator, and certificates by openssl."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
import time
from pathlib import Path
from typing import Any

import nkeys

from tests.support.tools import require_tool

OPERATOR, ACCOUNT, USER = nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_USER
_NO_LIMITS = {
    "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1,
    "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
}  # fmt: skip


class Key:
    """A pair of keys. `name` is the public one, `seed` the secret one."""

    def __init__(self, prefix: int) -> None:
        self.seed = nkeys.encode_seed(secrets.token_bytes(32), prefix).decode()
        self._pair = nkeys.from_seed(bytearray(self.seed.encode()))
        self.name: str = self._pair.public_key.decode()

    def signs(self, subject: Key, **claims: Any) -> str:
        """A JWT about `subject`."""
        issued = {"iat": int(time.time()), "iss": self.name, "sub": subject.name, "name": "tests"}
        body = _part({**issued, "jti": secrets.token_hex(16), "nats": {"version": 2, **claims}})
        text = f"{_part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{body}"
        return f"{text}.{_encoded(self._pair.sign(text.encode()))}"


def _part(document: dict[str, Any]) -> str:
    return _encoded(json.dumps(document).encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def operator_mode() -> tuple[str, str]:
    """The configuration of a server that trusts an operator, and the .creds file of a user of its one account."""
    operator, system, account, user = Key(OPERATOR), Key(ACCOUNT), Key(ACCOUNT), Key(USER)
    accounts = {
        each.name: operator.signs(each, type="account", limits=limits)
        for each, limits in ((account, _NO_LIMITS), (system, {**_NO_LIMITS, "disk_storage": 0, "mem_storage": 0}))
    }
    preload = "\n".join(f"  {name}: {jwt}" for name, jwt in accounts.items())
    itself = operator.signs(operator, type="operator", system_account=system.name)
    configuration = (
        f"operator: {itself}\nsystem_account: {system.name}\nresolver: MEMORY\nresolver_preload: {{\n{preload}\n}}\n"
    )
    jwt = account.signs(user, type="user", pub={}, sub={}, subs=-1, data=-1, payload=-1)
    creds = (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n"
        f"NKEY Seed printed below can be used to sign and prove identity.\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    return configuration, creds


def certificates(folder: Path) -> None:
    """ca.pem, and server.pem and client.pem with their -key.pem, signed by it; the server is 127.0.0.1."""
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _openssl(folder, "req", "-x509", *curve, "-subj", "/CN=CA", "-keyout", "ca-key.pem", "-out", "ca.pem")
    for name in ("server", "client"):
        _openssl(
            folder,
            *("req", "-x509", *curve, "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-addext", "basicConstraints=critical,CA:FALSE", "-CA", "ca.pem", "-CAkey", "ca-key.pem"),
            *("-keyout", f"{name}-key.pem", "-out", f"{name}.pem"),
        )


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run([require_tool("openssl"), *arguments], cwd=folder, check=True, capture_output=True)
