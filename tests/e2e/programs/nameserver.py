"""A DNS server over UDP with the records of a zone file: python nameserver.py ADDRESS ORIGIN TEXT"""

import socket
import sys

import dns.message
import dns.rcode
import dns.zone

address, origin, text = sys.argv[1:]
zone = dns.zone.from_text(text, origin=origin, relativize=False)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((address, 53))
print("ready", flush=True)
while True:
    data, peer = sock.recvfrom(4096)
    query = dns.message.from_wire(data)
    [question] = query.question
    reply = dns.message.make_response(query, recursion_available=True)
    if found := zone.get_rrset(question.name, question.rdtype):
        reply.answer.append(found)
    elif zone.get_node(question.name) is None:
        reply.set_rcode(dns.rcode.NXDOMAIN)
    sock.sendto(reply.to_wire(), peer)
