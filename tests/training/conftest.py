"""What tests of training share."""

import pytest

from seit_ray.storage import Folder


@pytest.fixture
def run(tmp_path):
    """An empty folder for a run."""
    return Folder(tmp_path / "run")
