"""A server as it is from far away: `distance.py PORT SECONDS` prints another port of 127.0.0.1, where PORT answers that
much later, and as fast once it does. Each further line is a request that passed."""
import asyncio
import sys

METHODS = (b"GET ", b"PUT ", b"HEAD", b"POST", b"DELE")


async def carry(reader, writer, half):
    """Hands on what comes, each piece half a round trip later, in order."""
    loop, pieces = asyncio.get_running_loop(), asyncio.Queue()

    async def deliver():
        while True:
            due, piece = await pieces.get()
            await asyncio.sleep(due - loop.time())
            if not piece:
                break
            writer.write(piece)
            await writer.drain()

    delivery = asyncio.create_task(deliver())
    try:
        while piece := await reader.read(1 << 16):
            if piece.startswith(METHODS):
                print(piece[:piece.index(b" ", 5)].decode(errors="replace"), flush=True)
            pieces.put_nowait((loop.time() + half, piece))
        pieces.put_nowait((loop.time() + half, b""))
        await delivery
    except OSError:
        delivery.cancel()
    finally:
        writer.close()


async def serve(port, seconds):
    async def connected(reader, writer):
        # A handshake is a round trip as well.
        await asyncio.sleep(seconds)
        there = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, there[1], seconds / 2), carry(there[0], writer, seconds / 2))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
