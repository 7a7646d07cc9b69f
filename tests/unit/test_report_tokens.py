"""Tokens of the reporter: their file, what a request may present, and the sources that a token may read."""

from base64 import b64encode

import pytest

from core.errors import Misconfigured
from core.sources import SOURCES
from reporter.tokens import MIN_TOKEN_CHARACTERS, SourceForbidden, Tokens, Unauthenticated, parse_tokens

ONE, TWO, OLD = "one-" + "a" * 40, "two/" + "B" * 40 + "==", "old." + "c" * 40
FILE = f"# who reads\ngrafana:{ONE}\nagency:{TWO}:facebook  agency:{OLD}:facebook\n"


def tokens(text: str = FILE) -> Tokens:
    parsed = parse_tokens(text)
    assert parsed is not None
    return parsed


def basic(name: str, token: str) -> str:
    return "Basic " + b64encode(f"{name}:{token}".encode()).decode()


@pytest.mark.parametrize("text", [None, "", "  \n", "# no token yet\n\n"])
def test_no_token_is_no_authentication(text: str | None) -> None:
    """An unset or empty setting, or one with comments only, has no tokens."""
    assert parse_tokens(text) is None


def test_each_entry_is_a_name_and_a_token() -> None:
    """Entries are separated by spaces or lines. A name may have several tokens, so that one can replace another."""
    assert tokens().names == ("grafana", "agency")
    for text, name, sources in ((ONE, "grafana", None), (TWO, "agency", ("facebook",)), (OLD, "agency", ("facebook",))):
        for header in (f"Bearer {text}", f"bearer  {text}", basic(name, text), basic(name, text).replace("B", "b", 1)):
            token = tokens().authenticate(header)
            assert (token.name, token.sources) == (name, sources)
            assert text not in repr(token)


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "Bearer", "Bearer ", f"Bearer {ONE}x", f"Bearer {ONE[:-1]}", ONE, f"Token {ONE}"),
        *(f"Bearer grafana:{ONE}", basic("agency", ONE), basic("", ONE), basic("Grafana", ONE), basic("grafana", "")),
        *("Basic", "Basic !", "Basic " + b64encode(ONE.encode()).decode(), "Basic \xff", "Bearer \xff"),
    ],
)
def test_anything_else_is_unauthenticated(header: str | None) -> None:
    """A wrong token, a token of another name, or a malformed header. The message has no part of the token."""
    with pytest.raises(Unauthenticated) as caught:
        tokens().authenticate(header)
    assert ONE[:8] not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        *(ONE, f"grafana {ONE}", f":{ONE}", f"gra/fana:{ONE}", f"grafana:{'s' * (MIN_TOKEN_CHARACTERS - 1)}"),
        *(f"grafana:{ONE}:", f"grafana:{ONE}:facebook,", f"grafana:{ONE}:myspace", f"a:{ONE} b:{ONE}"),
    ],
)
def test_a_wrong_file_ends_the_start(text: str) -> None:
    """The message names the entry by its number and never has a token."""
    with pytest.raises(Misconfigured) as caught:
        parse_tokens(text)
    assert "REPORTER_TOKENS" in str(caught.value)
    assert ONE[:8] not in str(caught.value)


def test_a_token_of_all_sources_changes_no_query() -> None:
    """The query string is passed on as it is."""
    assert tokens().authenticate(f"Bearer {ONE}").restrict(b"from=1&source=tiktok") == b"from=1&source=tiktok"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", b"source=facebook"),
        (b"from=1&to=2", b"from=1&to=2&source=facebook"),
        (b"source=facebook&from=1", b"source=facebook&from=1"),
        (b"from=%FF", b"from=%FF"),  # malformed: the report rejects it
    ],
)
def test_a_bound_token_reads_its_sources(query: bytes, expected: bytes) -> None:
    """A query without a source gets those of the token."""
    assert tokens().authenticate(f"Bearer {TWO}").restrict(query) == expected


@pytest.mark.parametrize(
    "query",
    [
        *(b"source=tiktok", b"sourc%65=tik%74ok", b"source=facebook&source=tiktok", b"source=facebook,tiktok"),
        *(b"source=", b"source", b"source=Facebook"),
    ],
)
def test_a_bound_token_reads_no_other_source(query: bytes) -> None:
    """However the query spells it; the error lists the sources that the token may read."""
    with pytest.raises(SourceForbidden) as caught:
        tokens().authenticate(f"Bearer {TWO}").restrict(query)
    assert caught.value.allowed == ("facebook",)


def test_sources_have_the_declared_order() -> None:
    """Whatever the order in the file."""
    names = ",".join(reversed(tuple(SOURCES)))
    assert tokens(f"a:{ONE}:{names}").authenticate(f"Bearer {ONE}").sources == tuple(SOURCES)
