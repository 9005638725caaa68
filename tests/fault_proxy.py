"""Faults on demand between a client and a storage server of the tests: a proxy in a thread of this process.

Requests are passed on as they came, so the server still checks signatures and digests.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from aiohttp import ClientSession, web
from yarl import URL

from tests.cloud_servers import CloudServer
from tests.s3_server import S3Server

Kind = Literal["error", "reset", "delay", "truncate", "abort", "corrupt", "headers", "corrupt upload", "lose answer"]
PASSED_BY_HAND = {"transfer-encoding", "connection", "content-length", "keep-alive"}


@dataclass
class Fault:
    """What happens to requests of a method whose path holds `key`: to `times` of them (None: all), each `every`th.

    after: so many of them pass before.
    error: code and status; delay: seconds; headers: set in the answer (None removes); the others damage the body,
    or the connection. listings: whether requests that list are meant, or those of objects.
    """

    kind: Kind
    method: str = "GET"
    key: str = ""
    times: int | None = None
    every: int = 1
    after: int = 0
    code: str = ""
    status: int = 503
    seconds: float = 0.0
    headers: dict[str, str | None] = field(default_factory=dict)
    listings: bool = False
    met: int = 0
    fired: int = 0

    def hits(self, request: web.Request) -> bool:
        """Whether it happens to this request; counts."""
        if request.method != self.method or self.key not in request.path:
            return False
        if self.listings != ("list-type" in request.query) or self.fired == self.times:
            return False
        self.met += 1
        hit = self.met > self.after and self.met % self.every == 0
        self.fired += hit
        return hit


class FaultProxy:
    """A server behind a proxy; `faults` are those of now, the first that hits happens."""

    def __init__(self, server: S3Server | CloudServer):
        self.upstream = URL(server.endpoint_url)
        self.server = server
        self.faults: list[Fault] = []

    @contextlib.contextmanager
    def failing(self, *faults: Fault) -> Iterator[None]:
        """These faults for a while; each must have happened at the end."""
        self.faults = list(faults)
        try:
            yield
            assert all(fault.fired for fault in faults), faults
        finally:
            self.faults = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        body = await request.read()
        fault = next((fault for fault in self.faults if fault.hits(request)), None)
        kind = fault.kind if fault else None
        if kind == "error":
            text = f"<Error><Code>{fault.code}</Code><Message>by the test</Message></Error>"
            return web.Response(status=fault.status, text=text, content_type="application/xml")
        if kind == "reset":
            return broken(request)
        if kind == "delay":
            await asyncio.sleep(fault.seconds)
        if kind == "corrupt upload":
            body = flipped(body)
        status, headers, content = await self.ask(request, body)
        if kind == "lose answer":
            return broken(request)
        if kind == "headers":
            headers = {k: v for k, v in {**headers, **fault.headers}.items() if v is not None}
        if kind == "corrupt":
            content = flipped(content)
        if kind == "truncate":
            content = content[: len(content) // 2]
        if kind == "abort":
            return await cut_off(request, status, headers, content)
        return web.Response(status=status, headers=headers, body=content)

    async def ask(self, request: web.Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """The server's answer; Host stays that of the proxy, which the client has signed."""
        url = URL(f"{self.upstream}".rstrip("/") + request.raw_path, encoded=True)
        sent = {k: v for k, v in request.headers.items() if k.lower() not in PASSED_BY_HAND}
        async with (
            ClientSession(auto_decompress=False) as session,
            session.request(
                request.method,
                url,
                headers=sent,
                data=body or None,
                allow_redirects=False,
                skip_auto_headers=("Content-Type",),  # signed as it was not there
            ) as answer,
        ):
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in PASSED_BY_HAND}
            if request.method == "HEAD":
                kept["Content-Length"] = answer.headers.get("Content-Length", "0")
            return answer.status, kept, await answer.read()


def flipped(data: bytes) -> bytes:
    """With one bit of the middle byte turned."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else data


def broken(request: web.Request) -> web.Response:
    """The end of a connection without an answer."""
    request.transport.abort()
    return web.Response()


async def cut_off(request: web.Request, status: int, headers: dict[str, str], content: bytes) -> web.StreamResponse:
    """Half of an answer, then the end of the connection."""
    response = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(len(content))})
    await response.prepare(request)
    await response.write(content[: len(content) // 2])
    request.transport.close()
    return response


@contextlib.contextmanager
def running_fault_proxy(server: S3Server | CloudServer) -> Iterator[FaultProxy]:
    """A proxy before a server, which it takes the place of; stopped on exit."""
    proxy, loop = FaultProxy(server), asyncio.new_event_loop()

    async def start() -> web.AppRunner:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    proxy.server = replace(server, endpoint_url=f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
