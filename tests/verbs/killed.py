"""Verbs that are killed in the middle of what they write."""

from seit_ray.storage import Folder


def killed_at(monkeypatch, ending):
    """A KeyboardInterrupt where an object whose name ends so is to be written."""
    write = Folder.write

    def killed(folder, name, data):
        if name.endswith(ending):
            raise KeyboardInterrupt
        write(folder, name, data)

    monkeypatch.setattr(Folder, "write", killed)
