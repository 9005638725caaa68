"""Files on a disk of which a part can no longer be read."""

import errno

import pytest

from seit_ray.storage import local
from seit_ray.storage.errors import explained
from seit_ray.storage.local import LocalFile

read = local._read_or_error


@pytest.fixture
def bad_sector(monkeypatch):
    """Sets a byte of a file on disk that can no longer be read, as by the kernel: what lies before it comes."""

    def of(name, offset):
        class Disk(LocalFile):
            def readinto(self, buffer):
                if not str(self.name).endswith(f"/{name}") or self.tell() > offset:
                    return super().readinto(buffer)
                with explained(str(self.name)):
                    if self.tell() == offset:
                        raise OSError(errno.EIO, "Input/output error")
                    return super().readinto(memoryview(buffer)[: offset - self.tell()])

        def read_whole(path, *how):
            return OSError(errno.EIO, "Input/output error") if path.endswith(f"/{name}") else read(path, *how)

        monkeypatch.setattr("seit_ray.storage.local.LocalFile", Disk)
        monkeypatch.setattr("seit_ray.storage.local._read_or_error", read_whole)

    return of
