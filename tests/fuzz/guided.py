"""Hold the native parser to the Python reference on lines that coverage of the reference leads to (atheris, libFuzzer).

    python -m tests.fuzz.guided -max_total_time=600 [any option of libFuzzer] [FOLDER]

It begins with the corpus, and keeps in FOLDER, where one is given, the lines that led further. It ends at the first
line that both do not read alike; libFuzzer then writes it to a file and exits with 77.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["collector", "core", "msgspec"]):
    from core.events import wire
    from tests.fuzz.differential import pairs
    from tests.fuzz.mutations import RECEIVED, corpus
    from tests.support.events import part

MOST_BYTES = 2048
"""Of a line: events are some 450, and the limits of texts and depth have tests of their own."""


def main() -> None:
    """Fuzz as libFuzzer's options say. Does not return."""
    both = pairs()

    def read(line: bytes) -> None:
        lines = line.split(b"\n")
        for pair in both:
            pair.read(wire.encode([part(len(lines), received_at=RECEIVED)], lines))

    with tempfile.TemporaryDirectory(prefix="sluice-fuzz-") as seeds:
        for number, line in enumerate(corpus()):
            (Path(seeds) / f"{number:04}").write_bytes(line)
        options = [argument for argument in sys.argv[1:] if argument.startswith("-")]
        kept = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
        limits = [f"-max_len={MOST_BYTES}", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *limits, *options, *kept, seeds], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
