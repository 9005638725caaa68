"""Tars for tests."""

import io
import tarfile


def tar_bytes(members, format=tarfile.PAX_FORMAT):
    """A tar of (name, bytes) pairs, in order, with repeats."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=format) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return sink.getvalue()


def sample(key, image=b"image", suffix="jpg", **more):
    """The members of one sample; more: extension -> text."""
    return [(f"{key}.{suffix}", image), *((f"{key}.{name}", text.encode()) for name, text in more.items())]


def samples(num, first=0, **options):
    """(members, images) of num samples with labels 0, 1, 2 in turn."""
    images = [b"image %d " % n * (n % 7 + 1) for n in range(first, first + num)]
    parts = [sample(f"{n:05}", images[n - first], cls=str(n % 3), **options) for n in range(first, first + num)]
    return [member for part in parts for member in part], images
