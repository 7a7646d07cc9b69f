"""From the settings NATS_* to what nats-py connects with: servers, one proof of identity, TLS.

    NATS_URL             nats://USER:PASSWORD@HOST:4222 or nats://TOKEN@HOST, percent-encoded; several, comma separated
    instead of its user  NATS_USER and NATS_PASSWORD, or NATS_CREDS (a .creds file), or NATS_NKEY (a user's seed)
    TLS                  a tls:// URL, NATS_CA, or NATS_CERT and NATS_KEY: nothing is sent over a plain connection

The user is taken out of the URLs: nats-py 2.16.0 decodes no percent-encoding there, and sends no user to the servers
that a cluster names after the connect.
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
_EXAMPLE: Final = "like nats://USER:PASSWORD@HOST:4222, several separated by commas"
_ENCODE: Final = "write / ? # @ : % and , in a user or password percent-encoded, or set NATS_USER and NATS_PASSWORD"
_CREDS: Final = re.compile(
    r"BEGIN NATS USER JWT-+\s+(\S+)\s+-+END NATS USER JWT.*BEGIN USER NKEY SEED-+\s+(\S+)\s+-+END USER NKEY SEED",
    re.DOTALL,
)


class Login(NamedTuple):
    """`servers` are URLs without users, `options` are nats-py's; `encrypted`: send nothing over a plain connection."""

    servers: list[str]
    options: dict[str, Any]
    encrypted: bool


def login(settings: Settings) -> Login:
    """What to connect with. Raises Misconfigured for a wrong setting, and for two that contradict each other."""
    servers, url_login = _servers(settings.nats_url)
    logins = {
        "a user in NATS_URL": url_login,
        "NATS_USER": _user(settings.nats_user, settings.nats_password),
        "NATS_CREDS": _creds(settings.nats_creds),
        "NATS_NKEY": _nkey(settings.nats_nkey),
    }
    set_logins = [name for name, options in logins.items() if options]
    if len(set_logins) > 1:
        raise Misconfigured(f"{' and '.join(set_logins)} are both set: keep one")
    context = _tls(settings)
    options = logins[set_logins[0]] if set_logins else {}
    encrypted = context is not None or any(server.startswith("tls://") for server in servers)
    return Login(servers, {**options, **({"tls": context} if context else {})}, encrypted)


def _servers(url: str) -> tuple[list[str], dict[str, Any]]:
    """The servers without users, and the user that they name."""
    servers, users = [], []
    for each in map(str.strip, url.split(",")):
        scheme, separator, rest = each.rpartition("://")
        authority = re.split("[/?#]", rest, maxsplit=1)[0]
        if "@" in rest[len(authority) :] or authority.count("@") > 1:
            raise Misconfigured(f"NATS_URL: {_ENCODE}")
        if separator and scheme not in SCHEMES:
            raise Misconfigured(f"NATS_URL: begins with none of {', '.join(f'{known}://' for known in SCHEMES)}")
        user, at, host = authority.rpartition("@")
        servers.append(f"{scheme}{separator}{host}{rest[len(authority) :]}")
        if at:
            users.append(user)
    try:
        Client()._setup_server_pool(servers)
    except nats.errors.Error as error:
        raise Misconfigured(f"NATS_URL: {str(error).removeprefix('nats: ')}; give it {_EXAMPLE}; {_ENCODE}") from None
    if len(set(users)) > 1:
        raise Misconfigured("NATS_URL: its servers have different users or passwords: give all the same")
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
        raise Misconfigured("NATS_USER and NATS_PASSWORD: one of them is set alone; set both")
    return {} if user is None else {"user": user, "password": password}


def _creds(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    if not (match := _CREDS.search(text)):
        raise Misconfigured(
            "NATS_CREDS: holds no user JWT and seed; give NATS_CREDS_FILE, a file of `nsc generate creds`"
        )
    jwt, seed = match.groups()
    return {"user_jwt_cb": jwt.encode, "signature_cb": _signer(_key("NATS_CREDS", seed))}


def _nkey(seed: str | None) -> dict[str, Any]:
    return {} if seed is None else {"signature_cb": _signer(_key("NATS_NKEY", seed))}


def public_nkey(settings: Settings) -> str | None:
    """The public key of NATS_NKEY, by which a server knows its user; None where that is not set."""
    if settings.nats_nkey is None:
        return None
    key = _PUBLIC_USER + bytes(_key("NATS_NKEY", settings.nats_nkey).verify_key)
    return base64.b32encode(key + _checksum(key)).rstrip(b"=").decode()


def _key(variable: str, seed: str) -> SigningKey:
    """The key of a user's seed: two bytes that say so, 32 of the key, two of a checksum, all in base32."""
    from nacl.signing import SigningKey  # noqa: PLC0415  # 1.1 MB that few need

    try:
        decoded = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except ValueError:
        decoded = b""
    if len(decoded) != 36 or not seed.startswith("SU") or _checksum(decoded[:34]) != decoded[34:]:
        raise Misconfigured(f"{variable}: holds no user's seed, which begins with SU")
    return SigningKey(decoded[2:34])


def _checksum(data: bytes) -> bytes:
    return binascii.crc_hqx(data, 0).to_bytes(2, "little")


def _signer(key: SigningKey) -> Callable[[str], bytes]:
    """What nats-py calls with a server's nonce."""
    return lambda nonce: base64.b64encode(key.sign(nonce.encode()).signature)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """The context for a CA or a client's certificate; None where neither is set."""
    if (settings.nats_cert is None) != (settings.nats_key is None):
        raise Misconfigured("NATS_CERT and NATS_KEY: one of them is set alone; set both")
    if settings.nats_ca is None and settings.nats_cert is None:
        return None
    try:
        context = ssl.create_default_context(cadata=settings.nats_ca)
    except (ssl.SSLError, ValueError):
        raise Misconfigured("NATS_CA: holds no certificate in PEM form; give NATS_CA_FILE") from None
    if settings.nats_cert is not None:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as pem_file:  # ssl reads these from a file alone
            pem_file.write(f"{settings.nats_cert}\n{settings.nats_key}\n")
            pem_file.flush()
            try:
                context.load_cert_chain(pem_file.name)
            except (ssl.SSLError, ValueError):
                raise Misconfigured("NATS_CERT, NATS_KEY: are no certificate and its key in PEM form") from None
    return context
