"""Connections over HTTP for the stores whose libraries bring none that can be bounded."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import weakref
from typing import Any

import aiohttp
from fsspec.asyn import get_loop, sync

CLOSE_S = 2.0


def new_session(owner: object, connections: int, *, patient: bool = True, **connector: Any) -> aiohttp.ClientSession:
    """A session in fsspec's loop, closed when its owner goes, or at exit.

    connector: more arguments of aiohttp.TCPConnector. Bodies are left as they were sent; no cookies; certificates are
    checked by the files that SSL_CERT_FILE and SSL_CERT_DIR name, or the machine's.
    """
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10 if patient else 4, sock_read=60 if patient else 15)

    async def opened() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=ssl.create_default_context(), **connector),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=timeout,
            auto_decompress=False,
            trust_env=True,
        )

    loop = get_loop()
    session = sync(loop, opened)
    weakref.finalize(owner, _close, os.getpid(), loop, session)
    return session


def _close(pid: int, loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession) -> None:
    if pid == os.getpid() and loop.is_running():  # the loop of a process does not run in those forked from it
        with contextlib.suppress(Exception):  # nothing depends on a clean goodbye
            asyncio.run_coroutine_threadsafe(session.close(), loop).result(CLOSE_S)
