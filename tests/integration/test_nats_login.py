"""Every way to prove oneself to NATS, each against a real server that asks for it."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import nats.errors
import pytest
from nats.aio.client import Client

from core import jetstream
from core.errors import Misconfigured
from core.frames import receive_frames
from core.nats_login import login, public_nkey
from core.settings import NATS_VARIABLES, Settings, load, nats_variables
from gateway.settings import GatewaySettings
from ops.cli.connection import Unreachable, to_nats, where
from ops.local import Supervisor
from ops.local.nats import SETTINGS as USERS
from ops.local.nats import Nats
from ops.local.ports import free_port
from tests.support.gateway import start_gateway
from tests.support.nats_keys import ACCOUNT, USER, Key, certificates, operator_mode
from tests.support.operator import operator
from tests.support.stack import FreshNats
from tests.support.waiting import eventually

PASSWORD = "a/b#c?d%41%e@f:g,h+i j"
SEED = Key(USER).seed
AUTHORIZATION = f'authorization {{ user: "s/l", password: "{PASSWORD}" }}'


@asynccontextmanager
async def server(folder: Path, extra: str, *arguments: str) -> AsyncIterator[FreshNats]:
    """A server with the settings of ops/nats/nats.conf, these, and these arguments."""
    configuration = folder / "nats.conf"
    shared = USERS.with_name("nats.conf").read_text()
    configuration.write_text(f"{shared}\n{extra}\n")
    started = Nats(folder, free_port(), free_port())
    program = started.program()
    argv = [configuration if part == USERS else part for part in program.argv]
    async with Supervisor(folder) as supervisor:
        await supervisor.start(dataclasses.replace(program, argv=[*argv, *arguments]))
        yield FreshNats(started, supervisor, folder)


async def talks(settings: Settings | str) -> None:
    """Connect, and get back what is sent."""
    async with asyncio.timeout(20):
        client = await jetstream.connect(settings, name="tests")
        try:
            arrived = await client.subscribe("x")
            await client.publish("x", b"there and back")
            assert (await arrived.next_msg(timeout=10)).data == b"there and back"
        finally:
            await client.close()


async def rejection(settings: Settings) -> Exception:
    """The first error of a connect that never succeeds."""
    errors: asyncio.Queue[Exception] = asyncio.Queue()
    servers, options, encrypted = login(settings)
    receive_frames(client := Client(), encrypted=encrypted)
    client._public_nkey = public_nkey(settings)
    connecting = asyncio.create_task(client.connect(servers, error_cb=errors.put, reconnect_time_wait=1, **options))
    async with asyncio.timeout(20):
        error = await errors.get()
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)
    return error


async def test_a_password_of_any_characters(tmp_path: Path) -> None:
    """Percent-encoded in the URL as in a DSN, or as it is in NATS_PASSWORD, also from a file; and not another one."""
    (tmp_path / "password").write_text(PASSWORD + "\n")
    async with server(tmp_path, AUTHORIZATION) as started:
        address = f"127.0.0.1:{started.server.port}"
        plain = {"NATS_URL": f"nats://{address}", "NATS_USER": "s/l"}
        url = f"nats://{quote('s/l', safe='')}:{quote(PASSWORD, safe='')}@{address}"
        await talks(url)
        await talks(f"127.0.0.1:{free_port()}, {url}")  # one that is away, without a user
        await talks(load(Settings, {**plain, "NATS_PASSWORD": PASSWORD}))
        await talks(load(Settings, {**plain, "NATS_PASSWORD_FILE": str(tmp_path / "password")}))
        assert "authorization" in repr(await rejection(Settings(nats_url=f"nats://s%2Fl:other@{address}"))).lower()


async def test_a_gateway_and_an_operator_with_such_a_password(tmp_path: Path) -> None:
    """The services and `python -m ops` go by the same settings: the gateway is ready, a command connects."""
    async with server(tmp_path, AUTHORIZATION) as started:
        url = f"nats://127.0.0.1:{started.server.port}"
        async with start_gateway(
            started, wait_ready=False, NATS_URL=url, NATS_USER="s/l", NATS_PASSWORD=PASSWORD
        ) as gateway:
            ready = f"{gateway.url}/health/ready"

            async def is_ready() -> bool:
                return (await gateway.http.get(ready)).status_code == 200

            await eventually(is_ready, what="the gateway is ready")
        settings = operator(url, "", nats_user="s/l", nats_password=PASSWORD)
        async with to_nats(settings) as client:
            assert client.is_connected
        with pytest.raises(Unreachable, match="NATS_URL"):
            async with to_nats(operator(url, "")):
                pass


async def test_an_nkey(tmp_path: Path) -> None:
    """The seed of a user that the server knows by its public key."""
    user, other = Key(USER), Key(USER)
    (tmp_path / "seed").write_text(user.seed + "\n")
    async with server(tmp_path, f"authorization {{ users: [ {{ nkey: {user.name} }} ] }}") as started:
        url = f"nats://127.0.0.1:{started.server.port}"
        await talks(load(Settings, {"NATS_URL": url, "NATS_NKEY_FILE": str(tmp_path / "seed")}))
        assert public_nkey(Settings(nats_nkey=user.seed)) == user.name
        assert "authorization" in repr(await rejection(Settings(nats_url=url, nats_nkey=other.seed))).lower()


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
async def test_a_credentials_file(tmp_path: Path, line_end: str) -> None:
    """A .creds file, also with the line ends of Windows, at a server in operator mode."""
    configuration, creds = operator_mode()
    (tmp_path / "user.creds").write_bytes(creds.replace("\n", line_end).encode())
    async with server(tmp_path, configuration) as started:
        url = f"nats://127.0.0.1:{started.server.port}"
        await talks(load(Settings, {"NATS_URL": url, "NATS_CREDS_FILE": str(tmp_path / "user.creds")}))
        assert "authorization" in repr(await rejection(Settings(nats_url=url))).lower()


async def test_a_token(tmp_path: Path) -> None:
    """A URL with a user and no password gives a token."""
    async with server(tmp_path, 'authorization { token: "to/ken" }') as started:
        await talks(f"nats://to%2Fken@127.0.0.1:{started.server.port}")


async def test_tls_with_a_ca_and_a_certificate_of_ours(tmp_path: Path) -> None:
    """NATS_CA_FILE is trusted, and it alone; a server that asks for a certificate gets NATS_CERT_FILE."""
    certificates(tmp_path)
    tls = ("--tlsverify", "--tlscert", "server.pem", "--tlskey", "server-key.pem", "--tlscacert", "ca.pem")
    arguments = [str(tmp_path / part) if part.endswith(".pem") else part for part in tls]
    async with server(tmp_path, "", *arguments) as started:
        files = {"NATS_CA_FILE": "ca.pem", "NATS_CERT_FILE": "client.pem", "NATS_KEY_FILE": "client-key.pem"}
        named = {name: str(tmp_path / path) for name, path in files.items()}
        for scheme in ("nats", "tls"):
            url = f"{scheme}://127.0.0.1:{started.server.port}"
            await talks(load(Settings, {"NATS_URL": url, **named}))
            assert isinstance(await rejection(Settings(nats_url=url)), ssl.SSLCertVerificationError)
        without = load(Settings, {"NATS_URL": url, "NATS_CA_FILE": named["NATS_CA_FILE"]})
        assert isinstance(await rejection(without), OSError | nats.errors.Error)


@pytest.mark.parametrize("settings", [{"scheme": "tls"}, {"scheme": "nats", "nats_ca": True}])
async def test_tls_is_no_wish(tmp_path: Path, fresh_nats: FreshNats, settings: dict[str, str]) -> None:
    """A server that does not speak TLS gets no password where tls:// or NATS_CA says so."""
    certificates(tmp_path)
    url = fresh_nats.url.replace("nats://", f"{settings['scheme']}://")
    ca = (tmp_path / "ca.pem").read_text() if "nats_ca" in settings else None
    assert isinstance(await rejection(Settings(nats_url=url, nats_ca=ca)), nats.errors.SecureConnRequiredError)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"NATS_URL": "nats://s:a/b@h:4222"}, "NATS_URL: percent-encode / .* or set NATS_USER"),
        ({"NATS_URL": "nats://s:a#b@h:4222"}, "NATS_URL: percent-encode /"),
        ({"NATS_URL": "nats://s:a@b@h:4222"}, "NATS_URL: percent-encode /"),
        ({"NATS_URL": "nats://s:a%ff@h:4222"}, "NATS_URL: .* percent-encoded UTF-8"),
        ({"NATS_URL": "http://h:4222"}, "NATS_URL: must begin with one of nats://, tls://"),
        ({"NATS_URL": "nats://s:p@a,nats://t:p@b"}, "NATS_URL: the servers have different users"),
        ({"NATS_URL": "nats://a:4222,ws://b:80"}, "NATS_URL: mixing"),
        ({"NATS_URL": "nats://a,,b"}, "NATS_URL: invalid hostname"),
        ({"NATS_URL": "nats://s:p@h", "NATS_USER": "u", "NATS_PASSWORD": "x"}, "NATS_URL and NATS_USER are both set"),
        ({"NATS_USER": "u"}, "NATS_USER and NATS_PASSWORD: only one"),
        ({"NATS_PASSWORD": "u"}, "NATS_USER and NATS_PASSWORD: only one"),
        ({"NATS_CREDS": "xyzzy"}, "NATS_CREDS: has no user JWT"),
        ({"NATS_NKEY": SEED[:-1] + "AE"[SEED[-1] == "A"]}, "NATS_NKEY: is not a user seed"),
        ({"NATS_NKEY": "SUxyzzy"}, "NATS_NKEY: is not a user seed"),
        ({"NATS_NKEY": Key(ACCOUNT).seed}, "NATS_NKEY: is not a user seed"),
        ({"NATS_CA": "xyzzy"}, "NATS_CA: is not a certificate"),
        ({"NATS_CERT": "xyzzy"}, "NATS_CERT and NATS_KEY: only one"),
        ({"NATS_CERT": "xyzzy", "NATS_KEY": "xyzzy"}, "NATS_CERT, NATS_KEY: are not a certificate"),
    ],
)
def test_what_cannot_be_is_reported(variables: dict[str, str], said: str) -> None:
    """By the variables' names, with what is right, and never with what was set."""
    with pytest.raises(Misconfigured, match=f"(?s){said}") as caught:
        login(load(Settings, variables))
    for value in ("a/b", "a#b", "a@b", "xyzzy", "a%ff", "http:"):
        assert value not in str(caught.value)


def test_nothing_of_another_system_is_mixed_in() -> None:
    """A NATS that a URL is enough for takes no user, key or CA from the environment."""
    environment = {name: "x" for name in NATS_VARIABLES if name != "NATS_URL"} | {"NATS_CREDS_FILE": "/nowhere"}
    settings = load(GatewaySettings, {**environment, **nats_variables("nats://s:p@h:1")})
    assert login(settings) == (["nats://h:1"], {"user": "s", "password": "p"}, False)


def test_an_address_is_shown_without_its_secrets() -> None:
    """Also that of a URL whose password is written as it may not be."""
    assert where("nats://s:a/b@h:1,nats://k:2, tls://t@i:3") == "h:1, k:2, i:3"
    assert where("postgresql://o:a#b?c@[::1]:5432/sluice?x=1") == "[::1]:5432"


async def test_the_users_own_client_has_no_users_in_its_servers() -> None:
    """A server that a cluster names after the connect gets the user, too: it is an option of all servers."""
    servers, options, _ = login(Settings(nats_url="nats://s:p@a:1,nats://s:p@b:1"))
    assert (servers, options) == (["nats://a:1", "nats://b:1"], {"user": "s", "password": "p"})
    client = Client()
    client._setup_server_pool(servers)
    assert [each.uri.username for each in client._server_pool] == [None, None]
