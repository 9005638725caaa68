"""Keys that answer as list_objects_v2 does, after a while."""

import threading
import time
from bisect import bisect_right


class MadeBucket:
    """Sorted keys, `page` a request, `seconds` an answer; counts requests, and how many were under way at once."""

    def __init__(self, keys, *, page=1000, seconds=0.0):
        self.keys = sorted(keys, key=str.encode)
        self.order = [key.encode() for key in self.keys]
        self.page, self.seconds = page, seconds
        self.requests, self.under_way, self.most = 0, 0, 0
        self.lock = threading.Lock()

    def ask(self, Prefix="", StartAfter="", ContinuationToken="", Delimiter=""):
        with self.lock:
            self.requests += 1
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            time.sleep(self.seconds)
            return self.answer(Prefix, ContinuationToken or StartAfter, Delimiter)
        finally:
            with self.lock:
                self.under_way -= 1

    def answer(self, prefix, after, delimiter):
        place = bisect_right(self.order, max(after.encode(), prefix.encode()[:-1] if prefix else b""))
        contents, folders = [], []
        while place < len(self.keys) and len(contents) + len(folders) < self.page:
            key = self.keys[place]
            if not key.startswith(prefix):
                if key.encode() > prefix.encode():
                    break
                place += 1
                continue
            name, slash, _ = key[len(prefix) :].partition("/")
            if delimiter and slash:
                folder = f"{prefix}{name}/"
                folders.append({"Prefix": folder})
                place = bisect_right(self.order, folder.encode() + b"\xff" * 8)
            else:
                contents.append({"Key": key})
                place += 1
        is_truncated = place < len(self.keys) and self.keys[place].startswith(prefix)
        token = {"NextContinuationToken": self.keys[place - 1]} if is_truncated else {}
        return {"Contents": contents, "CommonPrefixes": folders, "IsTruncated": is_truncated, **token}
