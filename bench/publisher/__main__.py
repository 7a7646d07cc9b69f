"""The command of the stand-in publisher.

    python -m bench.publisher                                   the publisher's own load, until Ctrl-C
    python -m bench.publisher --seconds 60 --seed 7 --json counts.json
    python -m bench.publisher --prepare 40 --every 0 --concurrency 4     as fast as possible

Prints progress every second, and the counts at the end. The first Ctrl-C (or SIGTERM) stops sending and waits for
outstanding responses, a second one does not wait.
"""

import argparse
import asyncio
import gc
import json
import os
import secrets
import signal
from pathlib import Path

import uvloop

from bench.publisher.bodies import Bodies
from bench.publisher.sender import Sender, steady_sizes, varied_sizes
from bench.publisher.values import VALUES

DEFAULT_ENDPOINT = "http://127.0.0.1:8080/events"
MAX_LATE_SECONDS = 6 * 24 * 3600


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share between 0 and 1")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.publisher",
        description="Posts ad-funnel events as the publisher does: every second a JSON array of 1,000 to 50,000, "
        "a tenth of them with a corrupt event at the end, without waiting for replies and without retrying.",
    )
    parser.add_argument(
        "endpoint",
        nargs="?",
        default=os.environ.get("EVENT_ENDPOINT") or DEFAULT_ENDPOINT,
        help=f"URL to post to (default: $EVENT_ENDPOINT, else {DEFAULT_ENDPOINT})",
    )

    rate = parser.add_argument_group("rate and size")
    rate.add_argument("--min-events", type=_positive, metavar="N", help="minimum events per POST (default 1000)")
    rate.add_argument("--max-events", type=_positive, metavar="N", help="maximum events per POST (default 50000)")
    rate.add_argument("--events-per-second", type=float, metavar="N", help="a steady rate instead of random sizes")
    rate.add_argument(
        "--every", type=_seconds, default=1.0, metavar="S", help="seconds between POSTs (default 1); 0: no pause"
    )
    rate.add_argument("--concurrency", type=_positive, metavar="N", help="maximum POSTs in flight (default: no limit)")
    rate.add_argument(
        "--prepare",
        type=_positive,
        metavar="N",
        help="build N bodies (11 MB each) before sending; without --posts and --seconds, it also sets --posts",
    )

    end = parser.add_argument_group("end (default: Ctrl-C)")
    end.add_argument("--posts", type=_positive, metavar="N", help="stop after N POSTs")
    end.add_argument("--seconds", type=_seconds, metavar="S", help="stop after S seconds")
    end.add_argument(
        "--wait", type=_seconds, default=30.0, metavar="S", help="maximum wait for the last responses (default 30)"
    )

    load = parser.add_argument_group("content")
    load.add_argument("--seed", metavar="TEXT", help="makes all but the clock reproducible (default: random, printed)")
    load.add_argument(
        "--values",
        choices=VALUES,
        default="publisher",
        help="distribution of values: new ones in each event (publisher, the default), by Zipf's law, one for all "
        "events, or plausible (Zipf's law and a funnel)",
    )
    load.add_argument(
        "--corrupt-share",
        type=_share,
        default=0.10,
        metavar="P",
        help="share of POSTs with a corrupt event (default 0.10)",
    )
    load.add_argument(
        "--duplicates", type=_share, default=0.0, metavar="P", help="share of events that were sent before"
    )
    load.add_argument("--resend-posts", type=_share, default=0.0, metavar="P", help="share of POSTs that repeat a body")
    load.add_argument(
        "--late", type=_share, default=0.0, metavar="P", help="share of events with a timestamp in the past"
    )
    load.add_argument(
        "--late-up-to",
        type=_seconds,
        default=3600.0,
        metavar="S",
        help="maximum age of late events, at most 6 days: the gateway rejects events older than 7 (default 3600)",
    )

    output = parser.add_argument_group("output")
    output.add_argument("--json", type=Path, metavar="FILE", help="write the final counts to FILE")
    output.add_argument("--quiet", action="store_true", help="print no progress")
    return parser


def _sender(options: argparse.Namespace) -> Sender:
    """Return the sender for these options. Raises ValueError if they contradict each other."""
    steady = options.events_per_second is not None
    if steady and (options.min_events or options.max_events):
        raise ValueError("--events-per-second cannot be combined with --min-events or --max-events")
    min_events, max_events = options.min_events or min(1000, options.max_events or 1000), options.max_events or 50_000
    if min_events > max_events:
        raise ValueError(f"--min-events {min_events} is more than --max-events {max_events}")
    if options.late_up_to > MAX_LATE_SECONDS:
        raise ValueError(f"--late-up-to is at most {MAX_LATE_SECONDS} seconds")
    if options.duplicates + options.late > 1:
        raise ValueError("--duplicates and --late together exceed 1")
    bodies = Bodies(
        options.seed,
        corrupt_share=options.corrupt_share,
        duplicates=options.duplicates,
        late=options.late,
        late_up_to_seconds=options.late_up_to,
        values=VALUES[options.values],
    )
    return Sender(
        options.endpoint,
        bodies,
        steady_sizes(options.events_per_second, options.every)
        if steady
        else varied_sizes(options.seed, min_events, max_events),
        every_seconds=options.every,
        concurrency=options.concurrency,
        resend_share=options.resend_posts,
        seed=options.seed,
    )


async def _run(sender: Sender, options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, sender.stop)
    progress = asyncio.create_task(_print_progress(sender)) if not options.quiet else None
    posts = options.prepare if options.posts is None and options.seconds is None else options.posts
    await sender.run(posts=posts, seconds=options.seconds, wait_seconds=options.wait)
    if progress:
        progress.cancel()


async def _print_progress(sender: Sender) -> None:
    started, tally = asyncio.get_running_loop().time(), sender.tally
    while True:
        events, answers = tally.events_sent, len(tally.latencies)
        await asyncio.sleep(1)
        print(tally.line(asyncio.get_running_loop().time() - started, events, answers), flush=True)


def main() -> None:
    """Run the command. The exit code is 2 for invalid options, otherwise 0."""
    parser = _parser()
    options = parser.parse_args()
    options.seed = options.seed or secrets.token_hex(4)
    try:
        sender = _sender(options)
    except ValueError as error:
        parser.error(str(error))
    sender.prepare(options.prepare or 0)
    gc.freeze()  # templates are permanent: exclude them from garbage collection
    print(f"posting to {options.endpoint}, seed {options.seed}", flush=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(sender, options))
    report = {"endpoint": options.endpoint, "seed": options.seed, **sender.tally.report()}
    text = json.dumps(report, indent=2)
    if options.json:
        options.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
