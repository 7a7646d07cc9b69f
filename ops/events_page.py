"""Write docs/events.md and docs/events.schema.json from the structs of the contract.

`python -m ops.events_page` writes both files; a test checks that they are up to date.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from core.events.examples import AT, EXAMPLES
from core.events.reference import MEANINGS, rows, schema

PAGE: Final = Path(__file__).parents[1] / "docs" / "events.md"
SCHEMA: Final = PAGE.with_name("events.schema.json")
_END: Final = "<!-- end -->\n"


def page() -> str:
    """Return docs/events.md with the current examples, fields and reasons."""
    text = PAGE.read_text()
    for name, content in (("examples", _examples()), ("fields", _fields()), ("reasons", _reasons())):
        begin = f"<!-- {name}: python -m ops.events_page -->\n"
        before, _, behind = text.partition(begin)
        text = f"{before}{begin}{content}{_END}{behind.partition(_END)[2]}"
    return text


def schema_text() -> str:
    """Return the text of docs/events.schema.json."""
    return json.dumps(schema(), indent=2) + "\n"


def _examples() -> str:
    return "\n".join(
        f"### {name}\n\n```sh\ncurl http://127.0.0.1:8080/events --data @- <<END\n{_shell(event)}\nEND\n```\n"
        for name, event in EXAMPLES.items()
    )


def _shell(event: object) -> str:
    return json.dumps(event, indent=2).replace(AT, "$(date -u +%FT%TZ)")


def _fields() -> str:
    lines = ["| field | events | type | allowed |\n", "| --- | --- | --- | --- |\n"]
    lines += [f"| `{row.path}` | {row.events} | {row.field_type} | {row.allowed} |\n" for row in rows()]
    return "".join(lines)


def _reasons() -> str:
    return "| reason | meaning |\n| --- | --- |\n" + "".join(
        f"| `{reason}` | {meaning} |\n" for reason, meaning in MEANINGS.items()
    )


if __name__ == "__main__":
    PAGE.write_text(page())
    SCHEMA.write_text(schema_text())
