"""Images at https:// addresses that a table names: read, with limits, and nothing else.

What a table says is not trusted. Only https is spoken, redirects included; a server in a private network answers only
where that is allowed; a body has a limit. What a server refuses is that image's own fault, not the job's.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.request import getproxies

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from fsspec.asyn import get_loop, sync
from yarl import URL

from seit_ray.storage.contract import Access
from seit_ray.storage.errors import DamagedError, StorageError, changed, too_large
from seit_ray.storage.sessions import new_session, proxy_of
from seit_ray.storage.uris import shown

ATTEMPTS, PAUSE_S = 3, 0.5  # few: whoever reads has patience of their own
CONNECTIONS_OF_HOST = 16  # at most, whatever `connections` says: servers of others
MAX_REDIRECTS = 5
PIECE_BYTES = 1 << 20
NAT64 = ipaddress.ip_network("64:ff9b::/96")
TOTAL_S = 300.0  # of an attempt: a server that sends a byte a minute is none that answers
NO_LIMIT = 1 << 40
REDIRECTS, GONE, PASSING = (301, 302, 303, 307, 308), (404, 410), (408, 425, 429, 500, 502, 503, 504)
HEADERS = {"User-Agent": "seit_ray", "Accept": "image/*, */*;q=0.1", "Accept-Encoding": "identity"}
PRIVATE = "lies in a private network"
OPEN = "storage.private_addresses=true allows it"


def connect(access: Access, environment: Mapping[str, str], patient: bool) -> Addresses:
    """The reader for this access; no credentials are sent."""
    return Addresses(access["connections"], access["private_addresses"])


@dataclass
class Body:
    """What has come of an object so far; etag: of its version, where the server tells."""

    etag: str = ""
    data: bytearray = field(default_factory=bytearray)


class PrivateError(OSError):
    """A name that leads into a private network."""


class Addresses:
    """The `Reader` of https:// addresses; raises StorageErrors, and what aiohttp raises."""

    def __init__(self, connections: int, allow_private: bool):
        self.connections, self.allow_private, self.loop = connections, allow_private, get_loop()
        more = {} if allow_private else {"resolver": sync(self.loop, _new_resolver)}
        self.session = new_session(self, connections, total_s=TOTAL_S, limit_per_host=CONNECTIONS_OF_HOST, **more)

    def read_many(
        self, paths: Sequence[str], max_bytes: int | None, versions: Sequence[str | None] | None = None
    ) -> list[bytes | Exception]:
        """Contents in the order of paths, `connections` at once; an error in place of what cannot be read."""
        known = versions or [None] * len(paths)

        async def read_all() -> list[bytes | BaseException]:
            slots = asyncio.Semaphore(self.connections)
            reads = (self._read(slots, *each, max_bytes) for each in zip(paths, known, strict=True))
            return await asyncio.gather(*reads, return_exceptions=True)

        return sync(self.loop, read_all)

    async def _read(self, slots: asyncio.Semaphore, uri: str, version: str | None, max_bytes: int | None) -> bytes:
        body, attempts_left = Body(), ATTEMPTS
        async with slots:
            while True:
                attempts_left -= 1
                try:
                    return await self._rest(uri, body, version, NO_LIMIT if max_bytes is None else max_bytes)
                except (aiohttp.ClientError, TimeoutError, DamagedError) as error:
                    if (final := final_error(uri, error)) is not None:
                        raise final from error
                    if not attempts_left:
                        raise
                except StorageError:
                    raise
                except ValueError as error:  # of a redirect too
                    raise refused(uri, "is, or leads to, no address") from error
                await asyncio.sleep(PAUSE_S * 2 ** (ATTEMPTS - attempts_left - 1))

    async def _rest(self, uri: str, body: Body, version: str | None, max_bytes: int) -> bytes:
        """All bytes: `body` is kept where the server goes on with the same version of it, else fetched anew."""
        headers = dict(HEADERS)
        if body.data and body.etag:
            headers |= {"Range": f"bytes={len(body.data)}-", "If-Range": body.etag}
        response = await self._followed(uri, headers)
        try:
            etag = response.headers.get("ETag", "")
            if version is not None and etag.removeprefix("W/").strip('"') != version:
                raise changed(shown(uri))
            if response.status == 206 and not continues(response, body):
                body.etag = ""  # whole next time
                raise DamagedError(f"{shown(uri)} was not answered right; expected the rest of it; try again")
            if response.status == 200:
                body.data.clear()
            body.etag = "" if etag.startswith("W/") else etag  # a weak one says nothing of bytes
            size_bytes = len(body.data) + int(response.headers.get("Content-Length", 0))
            if size_bytes > max_bytes:
                raise too_large(shown(uri), size_bytes, max_bytes)
            async for piece in response.content.iter_chunked(PIECE_BYTES):
                body.data += piece
                if len(body.data) > max_bytes:
                    raise too_large(shown(uri), len(body.data), max_bytes)
            return bytes(body.data)
        finally:
            response.close()

    async def _followed(self, uri: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """The answer at the end of the redirects; StorageError for one that says no."""
        # what is encoded already is not touched, for the sake of signatures
        url = URL(uri, encoded=uri.isascii() and " " not in uri)
        for _ in range(MAX_REDIRECTS + 1):
            if url.scheme != "https" or not url.host:
                raise refused(uri, f"leads to {url.scheme or 'nowhere'}://")
            if not self.allow_private and is_private(url.host):
                raise refused(uri, PRIVATE, OPEN)
            response = await self.session.get(url, headers=headers, allow_redirects=False, proxy=proxy_of(url))
            if response.status in REDIRECTS and "Location" in response.headers:
                response.close()
                url = url.join(URL(response.headers["Location"]))
                continue
            if response.status in (200, 206):
                return response
            response.close()
            raise refusal(uri, response.status)
        raise refused(uri, f"leads from one address to the next, more than {MAX_REDIRECTS} times")


def refusal(uri: str, status: int) -> StorageError | DamagedError:
    """The error for a status that says no; DamagedError where it may pass."""
    if status in GONE:
        return StorageError(f"{shown(uri)} does not exist (HTTP {status}); expected an image; check it", "missing")
    if status in PASSING:
        return DamagedError(f"{shown(uri)} was refused (HTTP {status}); expected a server that answers; try again")
    if status in (401, 403, 407, 451):
        return refused(uri, f"is not public (HTTP {status})")
    return refused(uri, f"was refused (HTTP {status})")


def refused(uri: str, wrong: str, mend: str = "check it, or leave it out") -> StorageError:
    """The error for an address that will not be read however often it is tried."""
    return StorageError(f"{shown(uri)} {wrong}; expected a public https:// address; {mend}", "refused")


def final_error(uri: str, error: Exception) -> StorageError | None:
    """What an error of a connection means where trying again will not help; else None."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or "it is not trusted"
        return refused(uri, f"has no valid certificate ({reason})")
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, PrivateError):
        return refused(uri, PRIVATE, OPEN)
    if isinstance(error, aiohttp.InvalidURL):
        return refused(uri, "is, or leads to, no address")
    return None


def continues(response: aiohttp.ClientResponse, body: Body) -> bool:
    """Whether a part of an object is that behind what has come."""
    place = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return place is not None and int(place[1]) == len(body.data) and response.headers.get("ETag") == body.etag


def is_private(host: str) -> bool:
    """Whether a host is the number of a machine that the world does not reach."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        found = ipaddress.ip_address(host)
    except ValueError:  # a name
        return False
    return any(not address.is_global for address in (found, *carried(found)))


def carried(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """IPv4 addresses that one of IPv6 leads to: mapped, compatible, of 6to4 and of NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [known for known in (address.ipv4_mapped, address.sixtofour) if known is not None]
    if address in NAT64 or int(address) < 1 << 32:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found


async def _new_resolver() -> AbstractResolver:
    return PublicNames(proxy_hosts())


def proxy_hosts() -> frozenset[str]:
    """The hosts of the proxies that the environment names."""
    hosts = (URL(address).host for address in getproxies().values() if "://" in address)
    return frozenset(host for host in hosts if host)


class PublicNames(AbstractResolver):
    """Finds the servers of names, but for those that lead into private networks.

    trusted: names that may: of proxies, which lie there, and find the servers of what is sent through them themselves.
    """

    def __init__(self, trusted: Collection[str] = ()):
        self.all, self.trusted = aiohttp.ThreadedResolver(), trusted

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The public ones; PrivateError when there are others alone."""
        found = await self.all.resolve(host, port, family)
        public = [each for each in found if host in self.trusted or not is_private(each["host"])]
        if found and not public:
            raise PrivateError(f"{host} leads into a private network")
        return public

    async def close(self) -> None:
        """Nothing is held."""
        await self.all.close()
