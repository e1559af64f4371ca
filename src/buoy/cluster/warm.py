"""Imports, once, what the components need: each is forked from the process that has done so.

A component's package imports its insides when it is run, so that the rest of the program starts fast; what
is not named here is imported again by every process that needs it, into memory of its own.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys

from . import linux

_MODULES = (
    "encodings.idna",
    "buoy.apiserver.server",
    "buoy.controllers.process",
    "buoy.scheduler.process",
    "buoy.kubelet.agent",
    "buoy.dns.process",
    "buoy.loadbalancer.controller.process",
    "buoy.loadbalancer.speaker.process",
    "buoy.proxy.process",
    "buoy.proxy.iptables",
    "buoy.network.agent",
)


def import_components() -> None:
    """Import every component.

    Threads are few and idle in all of them: they share one heap, and libuv starts one helper instead of four.
    """
    linux.one_malloc_arena()
    os.environ.setdefault("UV_THREADPOOL_SIZE", "1")
    for name in _MODULES:
        importlib.import_module(name)


def share_memory() -> None:
    """Have the forks that follow write to as few as possible of the pages that they share with this process.

    The garbage collector leaves alone what is there now; new objects of C libraries come at the heap's end;
    and an attribute that is looked up does not drop the name of another one from the cache of such names.
    """
    gc.collect()
    gc.freeze()
    sys._clear_type_cache()
    linux.fill_heap()
