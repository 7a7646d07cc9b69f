"""Convert the settings NATS_* to nats-py's options: servers, one login, TLS.

    NATS_URL             nats://USER:PASSWORD@HOST:4222 or nats://TOKEN@HOST, percent-encoded; several, comma separated
    instead of its user  NATS_USER and NATS_PASSWORD, or NATS_CREDS (a .creds file), or NATS_NKEY (a user's seed)
    TLS                  a tls:// URL, NATS_CA, or NATS_CERT and NATS_KEY: nothing is sent over a plain connection

The user is removed from the URLs, because nats-py 2.16.0 does not percent-decode it, and does not send it to other
servers of a cluster.
"""

from __future__ import annotations

import base64
import binascii
import re
import ssl
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

import nats.errors
from nats.aio.client import Client

from core.errors import Misconfigured
from core.settings import Settings

if TYPE_CHECKING:
    from nacl.signing import SigningKey

_PUBLIC_USER: Final = bytes([20 << 3])  # U in base32
SCHEMES: Final = ("nats", "tls", "ws", "wss")
_EXAMPLE: Final = "nats://USER:PASSWORD@HOST:4222, several separated by commas"
_ENCODE: Final = "percent-encode / ? # @ : % and , in a user or password, or set NATS_USER and NATS_PASSWORD"
_CREDS: Final = re.compile(
    r"BEGIN NATS USER JWT-+\s+(\S+)\s+-+END NATS USER JWT.*BEGIN USER NKEY SEED-+\s+(\S+)\s+-+END USER NKEY SEED",
    re.DOTALL,
)


class Login(NamedTuple):
    """Options for a connection. `servers` are URLs without users; with `encrypted`, send nothing over plain
    connections."""

    servers: list[str]
    options: dict[str, Any]
    encrypted: bool


def login(settings: Settings) -> Login:
    """Return the options. Raises Misconfigured for an invalid setting and for contradicting settings."""
    servers, url_login = _servers(settings.nats_url)
    logins = {
        "a user in NATS_URL": url_login,
        "NATS_USER": _user(settings.nats_user, settings.nats_password),
        "NATS_CREDS": _creds(settings.nats_creds),
        "NATS_NKEY": _nkey(settings.nats_nkey),
    }
    set_logins = [name for name, options in logins.items() if options]
    if len(set_logins) > 1:
        raise Misconfigured(f"{' and '.join(set_logins)} are both set: unset one")
    context = _tls(settings)
    options = logins[set_logins[0]] if set_logins else {}
    encrypted = context is not None or any(server.startswith("tls://") for server in servers)
    return Login(servers, {**options, **({"tls": context} if context else {})}, encrypted)


def _servers(url: str) -> tuple[list[str], dict[str, Any]]:
    """Return the servers without users, and the login in their URLs."""
    servers, users = [], []
    for each in map(str.strip, url.split(",")):
        scheme, separator, rest = each.rpartition("://")
        authority = re.split("[/?#]", rest, maxsplit=1)[0]
        if "@" in rest[len(authority) :] or authority.count("@") > 1:
            raise Misconfigured(f"NATS_URL: {_ENCODE}")
        if separator and scheme not in SCHEMES:
            raise Misconfigured(f"NATS_URL: must begin with one of {', '.join(f'{known}://' for known in SCHEMES)}")
        user, at, host = authority.rpartition("@")
        servers.append(f"{scheme}{separator}{host}{rest[len(authority) :]}")
        if at:
            users.append(user)
    try:
        Client()._setup_server_pool(servers)
    except nats.errors.Error as error:
        raise Misconfigured(f"NATS_URL: {str(error).removeprefix('nats: ')}; example: {_EXAMPLE}; {_ENCODE}") from None
    if len(set(users)) > 1:
        raise Misconfigured("NATS_URL: the servers have different users or passwords: set the same for all")
    return servers, _decoded(users[0]) if users else {}


def _decoded(user_and_password: str) -> dict[str, Any]:
    user, colon, password = user_and_password.partition(":")
    try:
        if not colon:
            return {"token": unquote(user, errors="strict")}
        return {"user": unquote(user, errors="strict"), "password": unquote(password, errors="strict")}
    except UnicodeDecodeError:
        raise Misconfigured("NATS_URL: user or password are not percent-encoded UTF-8") from None


def _user(user: str | None, password: str | None) -> dict[str, Any]:
    if (user is None) != (password is None):
        raise Misconfigured("NATS_USER and NATS_PASSWORD: only one is set; set both")
    return {} if user is None else {"user": user, "password": password}


def _creds(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    if not (match := _CREDS.search(text)):
        raise Misconfigured(
            "NATS_CREDS: has no user JWT and seed; set NATS_CREDS_FILE to a file of `nsc generate creds`"
        )
    jwt, seed = match.groups()
    return {"user_jwt_cb": jwt.encode, "signature_cb": _signer(_key("NATS_CREDS", seed))}


def _nkey(seed: str | None) -> dict[str, Any]:
    return {} if seed is None else {"signature_cb": _signer(_key("NATS_NKEY", seed))}


def public_nkey(settings: Settings) -> str | None:
    """Return the public key of NATS_NKEY, which identifies the user; None if it is not set."""
    if settings.nats_nkey is None:
        return None
    key = _PUBLIC_USER + bytes(_key("NATS_NKEY", settings.nats_nkey).verify_key)
    return base64.b32encode(key + _checksum(key)).rstrip(b"=").decode()


def _key(variable: str, seed: str) -> SigningKey:
    """Return the key of a user's seed: base32 of a two-byte prefix, 32 bytes of key and a two-byte checksum."""
    from nacl.signing import SigningKey  # noqa: PLC0415  # 1.1 MB that few need

    try:
        decoded = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except ValueError:
        decoded = b""
    if len(decoded) != 36 or not seed.startswith("SU") or _checksum(decoded[:34]) != decoded[34:]:
        raise Misconfigured(f"{variable}: is not a user seed, which begins with SU")
    return SigningKey(decoded[2:34])


def _checksum(data: bytes) -> bytes:
    return binascii.crc_hqx(data, 0).to_bytes(2, "little")


def _signer(key: SigningKey) -> Callable[[str], bytes]:
    """Return nats-py's callback that signs a server's nonce."""
    return lambda nonce: base64.b64encode(key.sign(nonce.encode()).signature)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """Return the TLS context for a CA or a client certificate; None if neither is set."""
    if (settings.nats_cert is None) != (settings.nats_key is None):
        raise Misconfigured("NATS_CERT and NATS_KEY: only one is set; set both")
    if settings.nats_ca is None and settings.nats_cert is None:
        return None
    try:
        context = ssl.create_default_context(cadata=settings.nats_ca)
    except (ssl.SSLError, ValueError):
        raise Misconfigured("NATS_CA: is not a certificate in PEM format; set NATS_CA_FILE") from None
    if settings.nats_cert is not None:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as pem_file:  # ssl loads a certificate only from a file
            pem_file.write(f"{settings.nats_cert}\n{settings.nats_key}\n")
            pem_file.flush()
            try:
                context.load_cert_chain(pem_file.name)
            except (ssl.SSLError, ValueError):
                raise Misconfigured("NATS_CERT, NATS_KEY: are not a certificate and its key in PEM format") from None
    return context
