"""Two connections joined: what either end says, the other hears, to the last byte."""

from __future__ import annotations

import asyncio
from typing import Any

SHUTDOWN_SECONDS = 600.0
"""``ssl_shutdown_timeout`` of a server whose streams may be read slowly, as by a pager.

What is not sent when it has passed since ``close`` is dropped; of itself the loop waits half a minute. It is
also how long a stranger can hold a connection that is being closed.
"""

_LINGER_SECONDS = 30.0
"""For how long a far end that takes nothing any more keeps what a near end said before it went."""


class Splice(asyncio.Protocol):
    """The protocol of the near connection, which is open already, and the maker of the far one.

    The far end decides when it is over: what it has said is then still passed on, however slowly the near end
    takes it. When the near end goes, so does the far one. *ended* is done when the near connection is closed.
    """

    def __init__(self, near: asyncio.Transport) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.near = near
        self.far: asyncio.Transport | None = None

    async def connect(self, **where: Any) -> None:
        """Open the far connection; *where* as for ``loop.create_connection``. Raises OSError."""
        loop = asyncio.get_running_loop()
        self.far, _ = await loop.create_connection(lambda: _Far(self), **where)
        if self.ended.done():
            self.far.abort()

    def data_received(self, data: bytes) -> None:
        if self.far is not None and not self.far.is_closing():
            self.far.write(data)

    def far_said(self, data: bytes) -> None:
        """The far end's side of `data_received`."""
        if not self.near.is_closing():
            self.near.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        if self.far is not None:
            self.far.close()
            asyncio.get_running_loop().call_later(_LINGER_SECONDS, self.far.abort)

    def pause_writing(self) -> None:
        if self.far is not None and not self.far.is_closing():
            self.far.pause_reading()

    def resume_writing(self) -> None:
        if self.far is not None and not self.far.is_closing():
            self.far.resume_reading()


class _Far(asyncio.Protocol):
    def __init__(self, splice: Splice) -> None:
        self._near = splice.near
        self._said = splice.far_said

    def data_received(self, data: bytes) -> None:
        self._said(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._near.close()

    def pause_writing(self) -> None:
        self._near.pause_reading()

    def resume_writing(self) -> None:
        if not self._near.is_closing():
            self._near.resume_reading()
