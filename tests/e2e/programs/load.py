"""A running loop of requests: each on a new connection, several in flight, every failure remembered.

load.py URL-HOST PORT [--count N] [--seconds S] [--workers W] [--pause P] [--until-eof]: ends at the first of
so many requests, so many seconds, SIGTERM, or (if asked) the end of its input. Writes ``started`` when the
first answer is there, and at the end one line of JSON: ``answers`` (how often each body came), ``failures``
(seconds since the start, and what happened), ``slowest`` in seconds.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections import Counter

PATIENCE = 10.0
REMEMBERED = 50


async def request(host, port):
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith((b"HTTP/1.0 200", b"HTTP/1.1 200")) or not body:
        raise ConnectionError(f"answer cut off or bad: {answer[:80]!r}")
    return body.decode().strip()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--until-eof", action="store_true")
    options = parser.parse_args()

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if options.until_eof:
        loop.add_reader(sys.stdin.fileno(), lambda: sys.stdin.buffer.raw.read(4096) or stop.set())
    loop.call_later(options.seconds, stop.set)

    answers = Counter()
    failures = []
    begun = time.monotonic()
    slowest = 0.0
    left = options.count

    async def worker():
        nonlocal left, slowest
        while left > 0 and not stop.is_set():
            left -= 1
            started = time.monotonic()
            try:
                answers[await asyncio.wait_for(request(options.host, options.port), PATIENCE)] += 1
            except (TimeoutError, OSError) as error:
                failures.append([round(started - begun, 3), f"{type(error).__name__}: {error}"])
            else:
                if sum(answers.values()) == 1:
                    print("started", flush=True)
            slowest = max(slowest, time.monotonic() - started)
            if options.pause:
                await asyncio.sleep(options.pause)

    await asyncio.gather(*(worker() for _ in range(options.workers)))
    result = {
        "answers": answers,
        "failed": len(failures),
        "failures": failures[:REMEMBERED],
        "slowest": round(slowest, 3),
        "seconds": round(time.monotonic() - begun, 3),
    }
    print(json.dumps(result), flush=True)


asyncio.run(main())
