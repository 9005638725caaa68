"""What tests of several packages share."""

import os

import hypothesis
import pytest

from tests.s3_server import is_installed, running_s3_server

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tensors are small: threads would wait for each other
hypothesis.settings.register_profile("no deadline", deadline=None)  # the cores are shared: time says nothing
hypothesis.settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """A running S3 server without buckets, one a session."""
    if not is_installed():
        pytest.skip("no S3 server: the package swift is not installed")
    with running_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server
