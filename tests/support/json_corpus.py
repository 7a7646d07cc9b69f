"""Documents that strain a reader of JSON, none of them an event: what is JSON, what is not, and what may be either.

Written out as tables, then put into the places where a value may stand: alone, in an array, in an object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Final

_PLACES: Final = (b"%b", b"[%b]", b'{"a":%b}', b'[{"a":%b}]', b"[[%b]]", b" \t\r\n[ %b ]\n")
_STRING_PLACES: Final = (*_PLACES, b"{%b:1}")  # as a key, too


def _everywhere(values: tuple[bytes, ...], places: tuple[bytes, ...] = _PLACES) -> Iterator[bytes]:
    for value in values:
        yield from (place.replace(b"%b", value) for place in places)


def _strings(contents: tuple[bytes, ...]) -> Iterator[bytes]:
    return _everywhere(tuple(b'"' + content + b'"' for content in contents), _STRING_PLACES)


_NUMBERS: Final = (
    *(b"0", b"-0", b"1", b"-1", b"10", b"0.5", b"-0.0", b"1.50", b"1e5", b"1E5", b"1e+5", b"1E-5", b"0e0", b"0e+1"),
    *(b"123456789012345678", b"-9223372036854775808", b"9223372036854775807", b"1.7976931348623157e308"),
)
_STRINGS: Final = (
    *(b"", b" ", b"a", b'\\"', b"\\\\", b"\\/", b"\\b\\f\\n\\r\\t", b"\\u0041", b"\\u00e9", b"\\uD834\\uDD1E"),
    *("é".encode(), "田中".encode(), "🦊".encode(), "\u2028\u2029".encode(), "\u00a0\ufeff".encode(), b"\x7f"),
    *("\U0010ffff".encode(), b"null", b"[]", b"{}", b",", b"/*", b"a" * 300),
)
_STRUCTURES: Final = (
    *(b"[]", b"{}", b"[[]]", b"[{}]", b'{"a":[]}', b'{"a":{}}', b"[[],[]]", b"[[[[[[[[[]]]]]]]]]", b"null", b"true"),
    *(b"false", b"[null,true,false]", b'{"a":1,"b":2}', b'{"a":1,"a":2}', b'{"":0}', b'{"a":{"a":{"a":{"a":1}}}}'),
    *(b" [ ] ", b"\t{\n}\r", b'[ 1 , "a" , null ]', b'{ "a" : 1 }'),
)

JSON: Final = (*chain(_everywhere(_NUMBERS), _strings(_STRINGS), _everywhere(_STRUCTURES)),)
"""Valid JSON."""

_NO_NUMBERS: Final = (
    *(b"01", b"-01", b"00", b"+1", b".5", b"-.5", b"1.", b"1.e5", b"1e", b"1e+", b"1E-", b"0x10", b"0b1", b"1_000"),
    *(b"NaN", b"-NaN", b"nan", b"Infinity", b"-Infinity", b"inf", b"-", b"--1", b"-+1", b"1-", b"1+", b"1e5.5"),
    *(b"1eE5", b"1.2.3", b"1 2", b"0 1", b"1a", b"-a", b"1f", b"1n", b"0.", b"0.e1", b"0e", b"\xd9\xa1"),
    b"\xef\xbc\x91",
)  # fmt: skip
_NO_STRINGS: Final = (
    *(b"\\", b"\\x41", b"\\a", b"\\'", b"\\0", b"\\u", b"\\u1", b"\\u12", b"\\u123", b"\\u123g", b"\\uu1234"),
    b"\\U0041",
    *(b"\t", b"\n", b"\r", b"\x00", b"\x01", b"\x1f", b"a\x00b", b"\\\t", b"\\u{1}", b"\\u 041"),
    *(b"\\ud83d\\u", b"\\ud83d\\x"),
)  # fmt: skip
_NO_WORDS: Final = (
    *(b"nul", b"nulll", b"tru", b"truee", b"True", b"TRUE", b"None", b"undefined", b"fals", b"a", b"'a'", b"`a`"),
    *(b"#", b"/", b"//", b"/**/", b"<a/>", b"?", b"$", b"\\", b"\\u0031", b"a:1", b"\x00", b"\x0c1", b"\x0b1", b"\x7f"),
    *("\u00a01".encode(), "\u20281".encode(), "\u30001".encode(), "“a”".encode(), b"\xc2", b"1\x00"),
)  # fmt: skip
_NO_STRUCTURES: Final = (
    *(b"[", b"]", b"{", b"}", b"[[", b"]]", b"[}", b"{]", b"[1", b"1]", b"[1}", b"{1]", b"[[]", b"[]]", b"{{", b"{{}}"),
    *(b"[,", b"[,]", b"[1,", b"[1,,2]", b"[,1]", b"[1 2]", b"[1:2]", b"[1;2]", b"[1 true]", b'["a" "b"]', b'["a":1]'),
    *(b'{"a"', b'{"a"}', b'{"a":', b'{"a":}', b'{"a":1', b'{"a" 1}', b'{"a"::1}', b'{"a":1 "b":2}', b'{"a":1;"b":2}'),
    *(b'{"a":1,}', b'{,"a":1}', b'{"a":1,,"b":2}', b"{1:1}", b"{null:1}", b"{[]:1}", b"{a:1}", b"{'a':1}", b'{"a"=1}'),
    *(b'{"a":1]', b'{"a":[}', b'{"a":{]}', b'{"a', b'{"a\\', b'"', b'"a', b'["', b'["a', b'["a]', b'[" ', b"['a']"),
    *(b"[1]//", b"[1]#", b"[1]/**/", b"[/**/1]", b"[1//\n]", b"[1]a", b"{}a", b"{}}", b'{"a":1}}', b"[...]", b"{...}"),
    *(b"[*]", b"[a", b"[\x00]", b"\xff", b"\xfe\xff", b"[\xff]", b"\xef\xbb", b"[1\xef\xbb\xbf]", b"<html></html>"),
    *("[1]".encode(name) for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")),
    *(b"a=1&b=2", b"\x1f\x8b\x08", b"%5B%5D", b"data: []", b")]}',\n[]", b"while(1);[]", b"callback([])", b"--- []"),
)

NOT_JSON: Final = (*chain(_everywhere((*_NO_NUMBERS, *_NO_WORDS)), _strings(_NO_STRINGS), _NO_STRUCTURES),)
"""What no reader may take for JSON."""

_DIFFERING_STRINGS: Final = (
    *(b"\\ud800", b"\\udfff", b"\\udc00\\ud800", b"\\ud800a", b"\\ud800\\n", b"\\uD800\\uD800", b"\\ufdd0", b"\\uffff"),
    *(b"\\u0000", b"a\\u0000b", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\xbf\xbf\xbf", b"\xc0\xaf"),
    b"\xe0\x80\xaf",
    *(b"\xfc\x83\xbf\xbf\xbf\xbf", b"\x80", b"\xe6\x97", "\ufffe".encode()),
)  # fmt: skip
_DIFFERING: Final = (
    *(b"1e400", b"-1e400", b"1e-400", b"1e200000", b"-1e200000", b"9" * 400, b"0." + b"9" * 5000, b"1" + b"0" * 5000),
    *(b"18446744073709551616", b"-9223372036854775809", b"1e" + b"9" * 400),
    *(b"[" * depth + b"]" * depth for depth in (500, 1_024, 5_000)),
    *(b'{"a":' * depth + b"1" + b"}" * depth for depth in (500, 5_000)),
)

PERHAPS: Final = (
    *chain(_strings(_DIFFERING_STRINGS), _everywhere(_DIFFERING), (b"\xef\xbb\xbf[]", b"\xef\xbb\xbf{}")),
)
"""What the grammar leaves open: text that is no Unicode, numbers without end, depth."""

DOCUMENTS: Final[Mapping[str, tuple[bytes, ...]]] = {"json": JSON, "not json": NOT_JSON, "perhaps": PERHAPS}
