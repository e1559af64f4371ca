"""Classic BPF programs: what the kernel lets through to a packet socket (linux/filter.h).

Only questions for addresses that are answered here wake the process, however busy the LAN is. A packet of
our own is never let through.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterable

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false (both relative to the next instruction), operand."""

_LOAD_WORD = 0x20
_LOAD_HALF = 0x28
_LOAD_BYTE = 0x30
_JUMP_IF_EQUAL = 0x15
_RETURN = 0x06

_PACKET_TYPE = 0xFFFFF000 + 4  # SKF_AD_OFF + SKF_AD_PKTTYPE
_OUTGOING = 4
_DROP: Instruction = (_RETURN, 0, 0, 0)
_PASS: Instruction = (_RETURN, 0, 0, 0xFFFFFFFF)
NOTHING = [_DROP]
"""The program that lets nothing through."""

_MOST_INSTRUCTIONS = 4096  # BPF_MAXINSNS
_SO_ATTACH_FILTER = 26


def arp_requests(addresses: Iterable[bytes]) -> list[Instruction]:
    """Requests for one of *addresses* (4 bytes each)."""
    return [*_unless_outgoing(), *_only(_LOAD_HALF, 20, 1), *_one_of(38, addresses)]


def solicitations(addresses: Iterable[bytes]) -> list[Instruction]:
    """Neighbour solicitations for one of *addresses* (16 bytes), or for one with the same last 4 bytes."""
    return [
        *_unless_outgoing(),
        *_only(_LOAD_BYTE, 20, 58),
        *_only(_LOAD_BYTE, 54, 135),
        *_one_of(74, (address[12:] for address in addresses)),
    ]


def attach(sock: socket.socket, program: list[Instruction]) -> None:
    """Have *sock* receive only what *program* lets through, from now on."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    sock.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(buffer))
    )


def _unless_outgoing() -> list[Instruction]:
    return [(_LOAD_BYTE, 0, 0, _PACKET_TYPE), (_JUMP_IF_EQUAL, 0, 1, _OUTGOING), _DROP]


def _only(load: int, offset: int, value: int) -> list[Instruction]:
    return [(load, 0, 0, offset), (_JUMP_IF_EQUAL, 1, 0, value), _DROP]


def _one_of(offset: int, words: Iterable[bytes]) -> list[Instruction]:
    program: list[Instruction] = [(_LOAD_WORD, 0, 0, offset)]
    for word in sorted(set(words)):
        program += [(_JUMP_IF_EQUAL, 0, 1, int.from_bytes(word)), _PASS]
    if len(program) > _MOST_INSTRUCTIONS - 16:
        return [_PASS]  # too many to be told apart here
    return [*program, _DROP]
