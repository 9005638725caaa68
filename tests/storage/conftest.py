"""Folders to test on: an empty one on disk, on a real server of each cloud, or each in turn."""

import os
import uuid

import pytest

from seit_ray.storage import Folder


@pytest.fixture(autouse=True)
def no_credentials_around(monkeypatch):
    """The cloud settings of whoever runs the tests must not decide them."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "STORAGE_EMULATOR_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


@pytest.fixture(scope="session")
def bucket(s3_server):
    return s3_server.create_bucket("storage-tests")


@pytest.fixture
def remote(s3_server, bucket):
    """An empty folder on S3."""
    return Folder(f"s3://{bucket}/{uuid.uuid4().hex}", **s3_server.credentials)


@pytest.fixture(scope="session")
def buckets():
    """Of each cloud, once it is asked for."""
    return {}


def cloud_folder(request, monkeypatch, buckets, name):
    """An empty folder of another cloud, whose server the variables name."""
    server = request.getfixturevalue(name)
    bucket = buckets.get(name) or buckets.setdefault(name, server.create_bucket("storage-tests"))
    for variable, value in server.variables.items():
        monkeypatch.setenv(variable, value)
    return Folder(f"{server.scheme}://{bucket}/{uuid.uuid4().hex}")


@pytest.fixture(params=["google_server", "azure_server"], ids=["gs", "az"])
def cloud(request, monkeypatch, buckets):
    """An empty folder on the clouds that are not S3, each in turn."""
    return cloud_folder(request, monkeypatch, buckets, request.param)


@pytest.fixture(params=["local", "s3", "gs", "az"])
def folder(request, tmp_path, monkeypatch, buckets):
    """An empty folder on each."""
    servers = {"gs": "google_server", "az": "azure_server"}
    if request.param in servers:
        return cloud_folder(request, monkeypatch, buckets, servers[request.param])
    return Folder(tmp_path / "data") if request.param == "local" else request.getfixturevalue("remote")
