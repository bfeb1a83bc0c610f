"""A witness on the network: `POST /add-checkpoint`, with limits on size, time and number of requests.

Plain HTTP, and nobody is asked who they are: what counts are the signatures. For TLS, and against clients
that send their headers slowly, it stands behind a web server.
"""

import asyncio
import logging
import time

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from .serving import check_address
from .witness import Refused, Witness, refusal_body
from .witness_request import MAX_BODY_BYTES, PATH, SIZE_TYPE

BODY_TIMEOUT_S = 10
MAX_CONNECTIONS = 64
TEXT = "text/plain; charset=utf-8"


def create_app(witness: Witness, *, body_timeout_s: float = BODY_TIMEOUT_S) -> Starlette:
    """The witness as an ASGI application."""

    async def add_checkpoint(request: Request) -> Response:
        try:
            body = await _read(request, body_timeout_s)
            line = await run_in_threadpool(witness.add_checkpoint, body)
        except Refused as refused:
            kind = TEXT if refused.size is None else SIZE_TYPE
            return Response(refusal_body(refused), refused.status, {"Content-Type": kind})
        return Response(line, headers={"Content-Type": TEXT})

    return Starlette(routes=[Route(PATH, add_checkpoint, methods=["POST"])])


async def _read(request: Request, timeout_s: float) -> bytes:
    """The body; Refused as soon as it is too long, or takes too long."""
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for block in request.stream():
                body += block
                if len(body) > MAX_BODY_BYTES:
                    raise Refused(413, f"a request has at most {MAX_BODY_BYTES} bytes")
    except TimeoutError:
        raise Refused(408, f"the request took longer than {timeout_s} s") from None
    except ClientDisconnect:
        raise Refused(400, "the request broke off") from None
    return bytes(body)


def config(
    witness: Witness, host: str, port: int, *, body_timeout_s: float = BODY_TIMEOUT_S
) -> uvicorn.Config:
    """How the witness is served."""
    return uvicorn.Config(
        create_app(witness, body_timeout_s=body_timeout_s),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=10,
    )


def run(witness: Witness, host: str, port: int) -> None:
    """Serve in the foreground until a signal ends it; ConfigError if the address cannot be had."""
    check_address(host, port)
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level=logging.INFO, format="%(asctime)sZ %(levelname)s %(name)s %(message)s")
    uvicorn.Server(config(witness, host, port)).run()
