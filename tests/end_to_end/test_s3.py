"""Every verb with s3:// for everything, against a real S3 server that checks signatures; and what goes wrong there."""

import json
import os

import pytest
from pydantic import SecretStr

from seit_ray import config as configs
from seit_ray.config import Storage
from seit_ray.storage import Folder
from seit_ray.verbs.evaluate import evaluate
from seit_ray.verbs.finetune import finetune
from seit_ray.verbs.fit_tokenizer import fit_tokenizer
from seit_ray.verbs.inspect_tokens import inspect_tokens
from seit_ray.verbs.pretrain import pretrain
from seit_ray.verbs.tokenize_images import tokenize_images
from tests.end_to_end.processes import environment, here, succeed
from tests.tiny_images import image_bytes

NUM_IMAGES = 40
LOOP = {"epochs": 1, "global_batch_size": 16, "log_every_steps": 1}


@pytest.fixture(scope="module")
def bucket(s3_server) -> Folder:
    """A bucket with images of two classes, one of them damaged."""
    folder = Folder(f"s3://{s3_server.create_bucket('end-to-end')}", **s3_server.credentials)
    for i in range(NUM_IMAGES):
        name = ("cat", "dog")[i % 2]
        data = image_bytes(name, i, side=24, format="PNG")
        folder.write(f"photos/{name}/{i:03}.png", data if i else data[:60])
    return folder


@pytest.fixture(scope="module")
def storage(s3_server) -> Storage:
    """The server's address and keys as config."""
    return Storage(
        endpoint_url=s3_server.endpoint_url,
        region=s3_server.region,
        access_key_id=SecretStr(s3_server.access_key_id),
        secret_access_key=SecretStr(s3_server.secret_access_key),
    )


def secrets_of(folder: Folder, secret: str) -> list[str]:
    """Objects that hold the secret."""
    return [entry.name for entry in folder.list() if secret.encode() in folder.read(entry.name)]


@pytest.mark.slow
def test_from_images_to_accuracy_in_a_bucket(ray_cluster, bucket, storage, s3_server):
    root, shared = bucket.uri, {"storage": storage}
    centroid = configs.Centroid(image_size=16, patch_size=4, codebook_size=16)
    fit_tokenizer(
        configs.FitTokenizer(images=f"{root}/photos", output=f"{root}/tokenizer", centroid=centroid, **shared)
    )
    settings = configs.Tokenize(val_fraction=0.3, rows_per_shard=16, num_actors=1, max_reject_fraction=0.1)
    job = configs.TokenizeImages(
        images=f"{root}/photos",
        tokenizer=f"{root}/tokenizer",
        output=f"{root}/tokens",
        tokenize=settings,
        **shared,
    )
    tokenize_images(job)
    content = json.loads(bucket.read("tokens/dataset.json"))
    assert sum(s["listed"] for s in content["splits"].values()) == NUM_IMAGES
    assert sum(s["rejected"] for s in content["splits"].values()) == 1
    assert not [e.name for e in bucket.join("tokens").list(include_hidden=True) if e.name.startswith("_work")]
    before = {e.name: e.modified for e in bucket.join("tokens").list() if e.name.endswith(".parquet")}
    tokenize_images(job)
    assert {e.name: e.modified for e in bucket.join("tokens").list() if e.name.endswith(".parquet")} == before

    shown = inspect_tokens(
        configs.InspectTokens(
            dataset=f"{root}/tokens", contact_sheet=f"{root}/sheet.png", images=f"{root}/photos", **shared
        )
    )
    assert ("verified", "checksums, counts and code range of every shard") in shown
    assert bucket.read("sheet.png").startswith(b"\x89PNG")

    model = {"size": "nano", "depth": 1, "stem_kernel": 1}
    training = {"dataset": f"{root}/tokens", "output": f"{root}/runs", **shared}
    pretrain(
        configs.Pretrain(
            run="mtm",
            model=configs.Model(**model),
            loop=configs.Loop(**LOOP),
            optimizer=configs.Optimizer(warmup_epochs=0),
            workers=configs.Workers(num_workers=1),
            **training,
        )
    )
    assert bucket.exists("runs/mtm/model.json")
    assert [e.name for e in bucket.join("runs/mtm/tensorboard").list()]
    finetune(
        configs.Finetune(
            run="classifier",
            init_from=f"{root}/runs/mtm",
            model=configs.Classifier(**model),
            loop=configs.FinetuneLoop(**LOOP),
            optimizer=configs.FinetuneOptimizer(warmup_epochs=0),
            workers=configs.Workers(num_workers=0),
            **training,
        )
    )
    evaluate(configs.Evaluate(dataset=f"{root}/tokens", run=f"{root}/runs/classifier", **shared))
    figures = json.loads(bucket.read("runs/classifier/evaluate-val.json"))
    assert 0 <= figures["top1"] <= 1
    assert figures["samples"] == content["splits"]["val"]["rows"]
    assert secrets_of(bucket, s3_server.secret_access_key) == []


@pytest.mark.slow
def test_credentials_of_the_environment(bucket, s3_server, monkeypatch):
    """By a process; once that does, what goes wrong is told by commands in this one."""
    env = {
        "AWS_ENDPOINT_URL": s3_server.endpoint_url,
        "AWS_REGION": s3_server.region,
        "AWS_ACCESS_KEY_ID": s3_server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_access_key,
    }
    keys = ["centroid.image_size=16", "centroid.patch_size=4", "centroid.codebook_size=8"]
    place = [f"images={bucket.uri}/photos", f"output={bucket.uri}/by-environment"]
    succeed("fit_tokenizer", *place, *keys, **env)
    assert bucket.exists("by-environment/tokenizer.json")

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {**environment(), **env}.items():
        monkeypatch.setenv(name, value)
    planned = succeed("fit_tokenizer", *place, *keys, "--dry-run")
    assert f"train {NUM_IMAGES}" in planned.stdout

    wrong = {
        "secret": ({"AWS_SECRET_ACCESS_KEY": "not-the-secret"}, place, 2),
        "bucket": ({}, ["images=s3://no-such-bucket/photos", place[1]], 2),
        "prefix": ({}, [f"images={bucket.uri}/nothing-here", place[1]], 2),
        "endpoint": ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, place, 75),  # a server may come back
    }
    for what, (more, where, status) in wrong.items():
        for flag in ([], ["--dry-run"]):
            with monkeypatch.context() as patched:
                for name, value in more.items():
                    patched.setenv(name, value)
                done = here("fit_tokenizer", *where, *keys, *flag)
            assert done.returncode == status, (what, done.stderr)
            lines = done.stderr.strip().splitlines()
            assert len(lines) == 1, (what, done.stderr)
            assert lines[0].startswith("error: "), what
            assert s3_server.secret_access_key not in done.stdout + done.stderr.replace("test:tester", "")
