"""Finding a free address in a pool of any size, at a cost that does not depend on the size. Pure."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Sequence

from .model import Range, is_buggy


class FreeAddresses:
    """The addresses of one family in one pool, as numbers; which of them are taken, *is_taken* says.

    The first free one, in the order of *ranges*, is either one that was given back or the first that has
    never been passed: a heap has the former, a cursor is at the latter. The cursor passes each address once,
    so that finding takes the logarithm of how many have been given back.
    """

    def __init__(
        self,
        version: int,
        ranges: Sequence[Range],
        is_taken: Callable[[int], bool],
        *,
        avoid_buggy: bool = False,
    ) -> None:
        self._version = version
        self._ranges = ranges
        self._is_taken = is_taken
        self._avoid_buggy = avoid_buggy
        self._sorted = sorted((part.first, index) for index, part in enumerate(ranges))
        self._cursor = (0, ranges[0].first if ranges else 0)
        self._returned: list[tuple[int, int]] = []
        self._in_heap: set[int] = set()
        self.capacity = sum(part.size - (_buggy(part) if self._avoids else 0) for part in ranges)
        self.assigned = 0

    @property
    def _avoids(self) -> bool:
        return self._avoid_buggy and self._version == 4

    @property
    def available(self) -> int:
        return self.capacity - self.assigned

    def position(self, number: int) -> tuple[int, int] | None:
        """Where *number* comes in the order of the pool, None if it may not be given out of it."""
        after = bisect_right(self._sorted, (number, len(self._ranges)))
        if not after:
            return None
        index = self._sorted[after - 1][1]
        if number > self._ranges[index].last or (self._avoids and is_buggy(4, number)):
            return None
        return index, number

    def first(self) -> tuple[int, int] | None:
        """The position of the first free address, None if there is none."""
        while self._returned and self._is_taken(self._returned[0][1]):
            self._in_heap.discard(heapq.heappop(self._returned)[1])
        if self._returned:
            return self._returned[0]
        index, number = self._cursor
        while index < len(self._ranges):
            while number <= self._ranges[index].last:
                if not (self._avoids and is_buggy(4, number)) and not self._is_taken(number):
                    self._cursor = (index, number)
                    return self._cursor
                number += 1
            index += 1
            number = self._ranges[index].first if index < len(self._ranges) else 0
        self._cursor = (index, number)
        return None

    def take(self) -> None:
        """One more address is taken now, and *is_taken* says so."""
        self.assigned += 1

    def give_back(self, number: int) -> None:
        """*number* is free again, and *is_taken* says so."""
        self.assigned -= 1
        position = self.position(number)
        if position and position < self._cursor and number not in self._in_heap:
            heapq.heappush(self._returned, position)
            self._in_heap.add(number)


def _buggy(part: Range) -> int:
    """How many of these IPv4 addresses end in .0 or .255."""
    return sum((part.last - end) // 256 - (part.first - 1 - end) // 256 for end in (0, 255))
