"""A server of S3's listings with a made-up bucket: each page comes after a while. Signatures are not looked at.

python -m tests.benchmarks.listing_server PORT KEYS FOLDERS SECONDS
"""

import asyncio
import sys
import time
from bisect import bisect_left, bisect_right
from collections.abc import Mapping

from aiohttp import web

HEAD = '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
OBJECT = (
    "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    "<ETag>&quot;0123456789abcdef0123456789abcdef&quot;</ETag><Size>110000</Size></Contents>"
)


def keys_of(number: int, folders: int) -> list[str]:
    """So many keys, sorted: in folders of classes, or flat."""
    if not folders:
        return [f"{i:09}.jpg" for i in range(number)]
    each = -(-number // folders)
    return [f"train/{i // each:05}/{i:09}.jpg" for i in range(number)]


class Pages:
    """The answers to list_objects_v2; keys rendered before, so that the server takes little of the machine."""

    def __init__(self, keys: list[str]):
        self.keys, self.ends = keys, [0]
        rendered = []
        for key in keys:
            rendered.append(OBJECT.format(key).encode())
            self.ends.append(self.ends[-1] + len(rendered[-1]))
        self.rendered = b"".join(rendered)

    def page(self, query: Mapping[str, str]) -> bytes:
        """One of them."""
        prefix, delimiter, keys = query.get("prefix", ""), query.get("delimiter", ""), self.keys
        most = int(query.get("max-keys", 1000))
        after = query.get("continuation-token", "") or query.get("start-after", "")
        place, end = max(bisect_right(keys, after), bisect_left(keys, prefix)), bisect_left(keys, prefix + "\U0010ffff")
        if not delimiter or "/" not in keys[min(place, len(keys) - 1)][len(prefix) :]:  # folders come first, or none
            stop = min(end, place + most)
            return self._answer(stop, end, self.rendered[self.ends[place] : self.ends[stop]])
        folders: list[str] = []
        while place < end and len(folders) < most:
            folders.append(prefix + keys[place][len(prefix) :].partition("/")[0] + "/")
            place = bisect_left(keys, folders[-1] + "\U0010ffff")
        told = "".join(f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>" for folder in folders)
        return self._answer(place, end, told.encode())

    def _answer(self, place: int, end: int, body: bytes) -> bytes:
        more = f"<NextContinuationToken>{self.keys[place - 1]}</NextContinuationToken>" if place < end else ""
        head = f"{HEAD}<IsTruncated>{str(place < end).lower()}</IsTruncated>{more}"
        return b"".join((head.encode(), body, b"</ListBucketResult>"))


def main() -> None:
    """Serve until it is ended."""
    port, number, folders = (int(word) for word in sys.argv[1:4])
    seconds, pages = float(sys.argv[4]), Pages(keys_of(number, folders))
    requests = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal requests
        if request.path == "/requests":
            found, requests = {"requests": requests, "processor_s": time.process_time()}, 0
            return web.json_response(found)
        if request.path.count("/") > 1 and request.path.strip("/").count("/"):  # an object
            return web.Response(
                headers={"ETag": '"0"', "Content-Length": "1"}, body=b"" if request.method == "HEAD" else b"1"
            )
        requests += 1
        await asyncio.sleep(seconds)
        return web.Response(body=pages.page(request.query), content_type="application/xml")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    main()
