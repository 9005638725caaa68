"""The only module that knows uris: list, open, read and write atomically in buckets and on disk.

A Folder is a uri plus credentials. Whatever fails is a StorageError: one line with the cause and the mend.
"""

from seit_ray.storage.entry import ONE_STREAM, WHOLE, Entries, Entry, Stretch
from seit_ray.storage.errors import StorageError
from seit_ray.storage.folder import Folder
from seit_ray.storage.uris import host_of, is_remote, normalise_uri, split_uri, storage_of

__all__ = [
    "ONE_STREAM",
    "WHOLE",
    "Entries",
    "Entry",
    "Folder",
    "StorageError",
    "Stretch",
    "host_of",
    "is_remote",
    "normalise_uri",
    "split_uri",
    "storage_of",
]
