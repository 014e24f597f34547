#!/usr/bin/python3
"""A slow way to a TCP service on loopback: all that passes arrives later.

    delayproxy.py TARGET_PORT MILLISECONDS_EACH_WAY [LISTEN_PORT]

Prints the port it listens on once it does. Bandwidth is not limited: only the time that a byte is under way.
"""

import asyncio
import socket
import sys

CHUNK = 256 * 1024
# Enough for what a fast sender has under way.
UNDER_WAY = 4096


async def carry(reader, writer, delay):
    """Writes what is read, each piece `delay` seconds after it came."""
    loop = asyncio.get_running_loop()
    pieces = asyncio.Queue(UNDER_WAY)

    async def deliver():
        while True:
            due, piece = await pieces.get()
            if (early := due - loop.time()) > 0:
                await asyncio.sleep(early)
            if not piece:
                break
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    delivery = asyncio.create_task(deliver())
    try:
        while piece := await reader.read(CHUNK):
            await pieces.put((loop.time() + delay, piece))
    except ConnectionError:
        pass
    await pieces.put((loop.time() + delay, b""))
    await delivery


async def main():
    target, delay = int(sys.argv[1]), float(sys.argv[2]) / 1000
    listen = int(sys.argv[3]) if len(sys.argv) > 3 else 0

    async def connected(reader, writer):
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target, limit=1 << 20)
        for end in (writer, far_writer):
            end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ways = carry(reader, far_writer, delay), carry(far_reader, writer, delay)
        await asyncio.gather(*ways, return_exceptions=True)
        far_writer.close()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", listen, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
