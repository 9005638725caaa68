"""A server of https:// on loopback that answers as a test says, with a certificate of its own authority."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import trustme
from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpsServer:
    """answers: path -> what answers there; asked: (path, headers) of all requests; authority: file to trust it by."""

    def __init__(self, authority: Path):
        self.authority = authority
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.transports: set[asyncio.Transport] = set()
        self.port = 0

    def uri(self, path: str, host: str = "127.0.0.1") -> str:
        """The address of a path."""
        return f"https://{host}:{self.port}{path}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        self.asked.append((request.path, dict(request.headers)))
        self.transports.add(request.transport)
        answer = self.answers.get(request.path)
        return web.Response(status=404) if answer is None else await answer(request)


@contextlib.contextmanager
def running_https_server(folder: Path) -> Iterator[HttpsServer]:
    """A server with its certificates in folder, stopped on exit."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    server, loop = HttpsServer(folder / "authority.pem"), asyncio.new_event_loop()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        return runner

    async def stop(runner: web.AppRunner) -> None:
        await runner.cleanup()
        for transport in server.transports:  # clients keep them for the next request
            transport.abort()
        await asyncio.sleep(0.05)

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(stop(runner), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
