"""Connections over HTTP for the stores whose libraries bring none that can be bounded."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import weakref
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
from fsspec.asyn import get_loop, sync
from yarl import URL

CLOSE_S = 2.0


def proxy_of(url: URL) -> str | None:
    """The proxy that the environment names for an address; None where it is reached without."""
    found = getproxies().get(url.scheme)
    return None if found is None or not url.host or proxy_bypass(url.host) else found


def new_session(
    owner: object, connections: int, *, patient: bool = True, total_s: float | None = None, **connector: Any
) -> aiohttp.ClientSession:
    """A session in fsspec's loop, closed when its owner goes, or at exit.

    connector: more arguments of aiohttp.TCPConnector. total_s: of a request with its body. Bodies are left as they were
    sent; no cookies; certificates are checked by the files that SSL_CERT_FILE and SSL_CERT_DIR name, or the machine's.
    Nothing is taken from ~/.netrc, whose passwords would go to whatever host an address names: each request is told
    its proxy (`proxy_of`).
    """
    timeout = aiohttp.ClientTimeout(total=total_s, sock_connect=10 if patient else 4, sock_read=60 if patient else 15)

    async def opened() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=ssl.create_default_context(), **connector),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=timeout,
            auto_decompress=False,
        )

    loop = get_loop()
    session = sync(loop, opened)
    weakref.finalize(owner, _close, os.getpid(), loop, session)
    return session


def _close(pid: int, loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession) -> None:
    if pid == os.getpid() and loop.is_running():  # the loop of a process does not run in those forked from it
        with contextlib.suppress(Exception):  # nothing depends on a clean goodbye
            asyncio.run_coroutine_threadsafe(session.close(), loop).result(CLOSE_S)
