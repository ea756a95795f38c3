"""A file server for machines without nginx: one process, one event loop, bodies sent by the kernel.

``python plain_server.py FOLDER PORT:DELAY_S:BYTES_PER_S ...`` serves the files of one folder at each port, every
request delayed by so many seconds and every connection capped at so many bytes per second (0 for no cap), until
SIGTERM. It knows GET and HEAD, connections that stay open and one range of bytes (RFC 9110 sections 9.3.1 and 14.2),
and nothing more.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import BinaryIO

_PIECE_BYTES = 128 * 1024
_HEAD_LIMIT_BYTES = 16 * 1024
_TYPES = {".m3u8": "application/vnd.apple.mpegurl", ".ts": "video/mp2t"}
_RANGE = re.compile(r"^range:\s*bytes=(\d*)-(\d*)\s*$", re.IGNORECASE | re.MULTILINE)


class Port:
    """The files of a folder, as one port serves them."""

    def __init__(self, folder: Path, delay_s: float, rate_bytes_s: int) -> None:
        self._folder = folder
        self._delay_s = delay_s
        self._rate_bytes_s = rate_bytes_s

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                await self._answer(head, writer)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, head: str, writer: asyncio.StreamWriter) -> None:
        method, target, *_ = head.split(" ", 2)
        # The last part of the path alone: nothing outside of the folder can be named.
        path = self._folder / Path(target.partition("?")[0]).name
        if method not in {"GET", "HEAD"} or not path.is_file():
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start, end, status = _range(head, size)
            lines = [f"HTTP/1.1 {status}", f"Content-Length: {end - start}", "Accept-Ranges: bytes"]
            lines.append(f"Content-Type: {_TYPES.get(path.suffix, 'application/octet-stream')}")
            if status.startswith("206"):
                lines.append(f"Content-Range: bytes {start}-{end - 1}/{size}")
            writer.write("\r\n".join([*lines, "", ""]).encode())
            if method == "GET":
                await self._send(writer, file, start, end)

    async def _send(self, writer: asyncio.StreamWriter, file: BinaryIO, start: int, end: int) -> None:
        loop = asyncio.get_running_loop()
        await writer.drain()
        piece = _PIECE_BYTES if self._rate_bytes_s else end - start
        began = time.monotonic()
        for position in range(start, end, max(1, piece)):
            until = min(position + piece, end)
            if self._rate_bytes_s:
                # A piece comes when the line has had the time to carry it.
                due = began + (until - start) / self._rate_bytes_s
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await loop.sendfile(writer.transport, file, position, until - position)


def _range(head: str, size: int) -> tuple[int, int, str]:
    """Which bytes are asked for: start, end (not included) and the status that says so."""
    asked = _RANGE.search(head.replace("\r", ""))
    if asked and asked[1] and int(asked[1]) < size:
        start, end = int(asked[1]), min(int(asked[2]) + 1, size) if asked[2] else size
        if start < end:
            return start, end, "206 Partial Content"
    return 0, size, "200 OK"


async def main(folder: Path, ports: list[str]) -> None:
    """Serve until SIGTERM."""
    servers = []
    for entry in ports:
        number, delay_s, rate_bytes_s = entry.split(":")
        port = Port(folder, float(delay_s), int(rate_bytes_s))
        servers.append(
            await asyncio.start_server(port.serve, "127.0.0.1", int(number), limit=_HEAD_LIMIT_BYTES, backlog=256)
        )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    for server in servers:
        server.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
