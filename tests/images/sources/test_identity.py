"""What a plan tells of its source: another file of class names, or another server, is another one."""

from dataclasses import replace

import pytest

from seit_ray.distributed.data.tokenize_begin import TokenizeJob, TokenizeSettings, begin, finished_dataset
from seit_ray.images.sources.identity import NAMES, differing, identity
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.shards import TokenDataset
from seit_ray.storage import Folder
from tests.tiny_dataset import write_dataset


@pytest.fixture
def names(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("cat\ndog\n")
    return path


def test_names_count_and_not_how_the_file_is_written(tmp_path, names):
    source, settings = Folder(tmp_path), SourceSettings(class_names=str(names))
    before = identity(source, settings)
    assert before["images"] == source.uri
    assert "server" not in before  # of a disk there is one
    names.write_text('["cat",\n "dog"]')
    assert differing(before, identity(source, settings)) == []
    names.write_text("dog\ncat\n")
    assert differing(before, identity(source, settings)) == [NAMES]
    assert NAMES not in identity(source, SourceSettings())


def test_a_plan_that_does_not_know_of_it_is_not_of_other_names(tmp_path, names):
    plan = identity(Folder(tmp_path), SourceSettings(class_names=str(names)))
    stored = {name: value for name, value in plan.items() if name != NAMES}
    assert differing(stored, plan) == []
    assert differing({**stored, "images": "elsewhere"}, plan) == ["images"]


def test_the_server_is_named_by_keys_and_variables_alike(monkeypatch):
    for variable in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AZURE_STORAGE_CONNECTION_STRING"):
        monkeypatch.delenv(variable, raising=False)
    plain, given = Folder("s3://b/k"), Folder("s3://b/k", endpoint_url="https://me:secret@one:9000/")
    assert identity(plain, SourceSettings())["server"] == ""
    assert given.named_server == "https://one:9000"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://two")
    monkeypatch.setenv("AWS_PROFILE", "mine")  # who asks, for the most part, and not where
    assert (plain.named_server, given.named_server) == ("https://two", "https://one:9000")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "two")
    accounts = [Folder("az://b/k", account=account).named_server for account in (None, "two", "one")]
    assert accounts == ["two", "two", "one"]


def job_of(tmp_path, images, names, **settings):
    source = SourceSettings(class_names=str(names))
    return TokenizeJob(images, source, tmp_path, Folder(tmp_path / "tokens"), TokenizeSettings(**settings))


def test_a_job_that_was_begun_with_other_names_is_refused(tmp_path, names):
    job = job_of(tmp_path, Folder(tmp_path / "photos"), names)
    begin(job, job.plan("abc"), None)
    begin(job, job.plan("abc"), None)
    names.write_text("cat\nwolf\n")
    with pytest.raises(ValueError, match=r"class_names_file '2 names, .*\(now '2 names, .*choose another output"):
        begin(job, job.plan("abc"), None)


def test_a_job_that_was_begun_on_another_server_is_refused(tmp_path, names):
    first = job_of(tmp_path, Folder("s3://b/photos", endpoint_url="http://one"), names)
    first = TokenizeJob(first.source, SourceSettings(), tmp_path, first.output, first.settings)
    second = TokenizeJob(Folder("s3://b/photos"), SourceSettings(), tmp_path, first.output, first.settings)
    begin(first, first.plan("abc"), None)
    with pytest.raises(ValueError, match="was made with server 'http://one'"):
        begin(second, second.plan("abc"), None)


def test_a_finished_dataset_of_other_names_is_refused_but_may_be_appended_to(tmp_path, names):
    write_dataset(tmp_path / "tokens", sizes={"train": 8})
    job = job_of(tmp_path, Folder(tmp_path / "photos"), names)
    folder = Folder(tmp_path / "tokens")
    plan = job.plan("abc")
    folder.write("dataset.json", replace(TokenDataset(folder).info, plan=plan).to_json())
    assert finished_dataset(job, plan) is not None
    names.write_text("cat\ndog\nemu\n")
    with pytest.raises(ValueError, match=r"class_names_file '2 names, .*\(now '3 names"):
        finished_dataset(job, job.plan("abc"))
    more = job_of(tmp_path, Folder(tmp_path / "photos"), names, mode="append")
    assert finished_dataset(more, more.plan("abc")) is not None
