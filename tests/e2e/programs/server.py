"""An HTTP server that answers each request with its host name, on a connection of its own.

server.py PORT LINGER [by-address]: at SIGTERM it goes on serving for LINGER seconds, as a well-behaved Pod
does while the news of its end spreads. With ``by-address`` it answers with the address it was reached at.
"""

import asyncio
import signal
import socket
import sys


async def main() -> None:
    by_address = sys.argv[3:] == ["by-address"]
    name = socket.gethostname()

    async def answer(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            body = (writer.get_extra_info("sockname")[0] if by_address else name) + "\n"
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write((head + body).encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away: its loss
        finally:
            writer.close()

    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    server = await asyncio.start_server(answer, None, int(sys.argv[1]), backlog=512)
    print("serving", flush=True)
    await stopping.wait()
    await asyncio.sleep(float(sys.argv[2]))
    server.close()
    await asyncio.sleep(0.2)  # what was accepted is answered


asyncio.run(main())
