"""Answering for addresses on a LAN: ARP (RFC 826) for IPv4, neighbour discovery (RFC 4861) for IPv6.

`arp` and `ndp` read and write the frames, `bpf` has the kernel hand over only those that matter, `interfaces`
chooses where, and `responder` does it.
"""
