"""Keys that answer as a page of a listing does, after a while."""

import threading
import time
from bisect import bisect_right

from seit_ray.storage import Entry
from seit_ray.storage.service import Page


class MadeBucket:
    """Sorted keys, `page` a request, `seconds` an answer; counts requests, and how many were under way at once."""

    def __init__(self, keys, *, page=1000, seconds=0.0):
        self.keys = sorted(keys, key=str.encode)
        self.order = [key.encode() for key in self.keys]
        self.page, self.seconds = page, seconds
        self.requests, self.under_way, self.most = 0, 0, 0
        self.lock = threading.Lock()

    def ask(self, prefix="", after="", token="", delimiter="", limit=None):
        with self.lock:
            self.requests += 1
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            time.sleep(self.seconds)
            return self.answer(prefix, token or after, delimiter, limit or self.page)
        finally:
            with self.lock:
                self.under_way -= 1

    def answer(self, prefix, after, delimiter, page):
        place = bisect_right(self.order, max(after.encode(), prefix.encode()[:-1] if prefix else b""))
        contents, folders = [], []
        while place < len(self.keys) and len(contents) + len(folders) < page:
            key = self.keys[place]
            if not key.startswith(prefix):
                if key.encode() > prefix.encode():
                    break
                place += 1
                continue
            name, slash, _ = key[len(prefix) :].partition("/")
            if delimiter and slash:
                folder = f"{prefix}{name}/"
                folders.append(folder)
                place = bisect_right(self.order, folder.encode() + b"\xff" * 8)
            else:
                contents.append(Entry(key, 0, ""))
                place += 1
        is_truncated = place < len(self.keys) and self.keys[place].startswith(prefix)
        return Page(contents, folders, self.keys[place - 1] if is_truncated else None)
