"""The only module that knows uris: list, open, read and write atomically on S3 and on disk.

A Folder is a uri plus credentials. Whatever fails is a StorageError: one line with the cause and the mend.
"""

from seit_ray.storage.entry import Entry
from seit_ray.storage.errors import StorageError
from seit_ray.storage.folder import Folder, normalise_uri, split_uri

__all__ = ["Entry", "Folder", "StorageError", "normalise_uri", "split_uri"]
