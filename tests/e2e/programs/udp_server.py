"""Answers each UDP datagram on a port with its host name. udp_server.py PORT"""

import socket
import sys

listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listening.bind(("0.0.0.0", int(sys.argv[1])))
while True:
    _, client = listening.recvfrom(2048)
    listening.sendto(socket.gethostname().encode(), client)
