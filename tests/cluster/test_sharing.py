"""Forked components share their memory."""

from __future__ import annotations

import subprocess
import sys

# A heap with a gap beside each block that stays; then, in a fork, the allocations that would go there.
_PROGRAM = """
import ctypes, os, sys
from buoy.cluster import linux, warm

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_size_t
libc.malloc.argtypes = libc.free.argtypes = (ctypes.c_size_t,)
blocks = [libc.malloc(600) for _ in range(4000)]
for gap in blocks[::2]:
    libc.free(gap)
if "share" in sys.argv:
    warm.share_memory()
if os.fork() == 0:
    pages = {libc.malloc(100) // 4096 for _ in range(2000)}
    print(len(pages & {block // 4096 for block in blocks}), flush=True)
    os._exit(0)
os.wait()
"""


def _pages_copied(*arguments: str) -> int:
    command = [sys.executable, "-c", _PROGRAM, *arguments]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_what_a_fork_allocates_lies_apart_from_what_it_shares() -> None:
    assert _pages_copied() > 100
    assert _pages_copied("share") <= 1
