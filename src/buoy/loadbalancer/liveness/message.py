"""What speakers tell each other, in bytes: a fixed header, the sender's name, whom it hears, and a MAC.

The MAC (HMAC-SHA256, 16 bytes of it) tells that the sender has the key; *incarnation* and *sequence* that the
message is none from before; *echo*, that it is for this life of its receiver, so that nothing said to one who
has been restarted can be said again.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

_HEADER = struct.Struct("!4sBHQQQBH")
_MAGIC = b"buo1"
_MAC = 16
_READY = 1
_HEARS_YOU = 2
_MOST_HEARD = 0xFFFF


@dataclass(frozen=True, slots=True)
class Message:
    """*ready*: the sender answers for what it wins. *interval*: seconds to its next message.

    *incarnation* numbers the lives of the sender, *sequence* the messages of this life. *echo* is the highest
    incarnation of the receiver that the sender knows of, *hears_you* whether it hears that one now. *hears*
    are the short ids of the ready speakers that it hears itself.
    """

    sender: str
    incarnation: int
    sequence: int
    interval: float
    ready: bool = True
    echo: int = 0
    hears_you: bool = False
    hears: frozenset[bytes] = frozenset()


@lru_cache(maxsize=4096)
def short_id(name: str) -> bytes:
    """Four bytes for a node's name."""
    return sha256(name.encode()).digest()[:4]


def encode(message: Message, key: bytes) -> bytes:
    name = message.sender.encode()
    flags = (_READY if message.ready else 0) | (_HEARS_YOU if message.hears_you else 0)
    header = _HEADER.pack(
        _MAGIC,
        flags,
        round(message.interval * 1000),
        message.incarnation,
        message.sequence,
        message.echo,
        len(name),
        min(len(message.hears), _MOST_HEARD),
    )
    body = header + name + _packed(message.hears)
    return body + _mac(body, key)


def decode(data: bytes, key: bytes) -> Message | None:
    """The message, None if it is none or not of somebody who has the key."""
    body, mac = data[:-_MAC], data[-_MAC:]
    if len(body) < _HEADER.size or not hmac.compare_digest(mac, _mac(body, key)):
        return None
    magic, flags, interval, incarnation, sequence, echo, name_length, heard = _HEADER.unpack_from(body)
    names = _HEADER.size + name_length
    if magic != _MAGIC or len(body) != names + 4 * heard:
        return None
    return Message(
        sender=body[_HEADER.size : names].decode(errors="replace"),
        incarnation=incarnation,
        sequence=sequence,
        interval=interval / 1000,
        ready=bool(flags & _READY),
        echo=echo,
        hears_you=bool(flags & _HEARS_YOU),
        hears=_unpacked(body[names:]),
    )


# Mostly everybody hears the same, time and again.
@lru_cache(maxsize=1024)
def _packed(hears: frozenset[bytes]) -> bytes:
    return b"".join(sorted(hears)[:_MOST_HEARD])


@lru_cache(maxsize=1024)
def _unpacked(data: bytes) -> frozenset[bytes]:
    return frozenset(data[at : at + 4] for at in range(0, len(data), 4))


def _mac(body: bytes, key: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")[:_MAC]
