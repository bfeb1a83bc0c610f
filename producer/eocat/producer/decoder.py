"""A process that decodes strips of rasters: `python -m eocat.producer.decoder FD`, started by decoders.py.

FD is its end of a socket pair. A request is a line of JSON and the descriptor of the memory to fill; the
answer is a line of JSON: `{}`, `{"damaged": why}` or `{"refused": why, "hint": text}`. A crash in a codec or
a kill for memory ends this process and not the run. When the other end of the socket closes, however that
came, it exits.
"""

import json
import mmap
import os
import signal
import socket
import sys
from functools import lru_cache
from typing import Any

import numpy as np
from rasterio.errors import RasterioError

from eocat.verify.errors import EocatError

from .sources.gdal import open_raster

MAX_REQUEST = 1 << 16

_opened = lru_cache(maxsize=8)(open_raster)


def receive(link: socket.socket) -> tuple[dict[str, Any], int] | None:
    """The next request and its descriptor; None when there will be no more."""
    try:
        data, descriptors, _, _ = socket.recv_fds(link, MAX_REQUEST, 1)
    except ConnectionError:  # the producer has died with an answer unread
        return None
    while data and not data.endswith(b"\n"):
        data += link.recv(MAX_REQUEST)
    return (json.loads(data), descriptors[0]) if data else None


def map_shared(descriptor: int, size_bytes: int) -> mmap.mmap:
    """The memory behind the descriptor, all pages at once where the system can: one by one costs more."""
    return mmap.mmap(descriptor, size_bytes, mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0))


def fill(request: dict[str, Any], descriptor: int) -> None:
    """Decode the strip into the shared memory, which is unmapped when the last view of it is gone."""
    shape = (len(request["bands"]), request["rows"], request["width"])
    out = np.frombuffer(map_shared(descriptor, 0), request["dtype"]).reshape(shape)
    _opened(request["path"]).read(request["bands"], request["top"], out)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the producer's to answer
    with socket.socket(fileno=int(sys.argv[1])) as link:
        while (received := receive(link)) is not None:
            request, descriptor = received
            answer: dict[str, str] = {}
            try:
                fill(request, descriptor)
            except RasterioError as error:
                answer = {"damaged": str(error)}
            except EocatError as error:
                answer = {"refused": str(error), "hint": error.hint or ""}
            finally:
                os.close(descriptor)
            try:
                link.sendall(json.dumps(answer).encode() + b"\n")
            except ConnectionError:  # the producer has died: nobody waits for this strip
                return


if __name__ == "__main__":
    main()
