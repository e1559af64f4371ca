"""Asks over HTTP every 20 ms, each time on a new connection: python ask_often.py ADDRESS PORT

Prints a line when a request has ended: when it began and ended, in seconds of CLOCK_MONOTONIC, and 1 if
it was answered. It goes on until standard input ends.
"""

import asyncio
import sys
import time

INTERVAL = 0.02
PATIENCE = 2.0


async def ask(address: str, port: int) -> None:
    began = time.monotonic()
    answered = False
    writer = None
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(address, port)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            answered = (await reader.read(64)).startswith(b"HTTP/1.")
    except (OSError, TimeoutError):
        pass
    finally:
        if writer is not None:
            writer.transport.abort()
    print(f"{began:.4f} {time.monotonic():.4f} {int(answered)}", flush=True)


async def main() -> None:
    address, port = sys.argv[1], int(sys.argv[2])
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    running: set[asyncio.Task[None]] = set()
    due = time.monotonic()
    while not ended.done():
        task = asyncio.create_task(ask(address, port))
        running.add(task)
        task.add_done_callback(running.discard)
        due = max(due + INTERVAL, time.monotonic())
        await asyncio.sleep(due - time.monotonic())
    await asyncio.gather(*running)


asyncio.run(main())
