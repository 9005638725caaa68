"""Fitting a tokenizer on actors gives, bit for bit, what one process gives."""

import os

import pytest
import torch

from seit_ray.config import FitTokenizer
from seit_ray.distributed.data import fit_job
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.verbs.fit_tokenizer import fit_tokenizer
from tests.tiny_images import image_files, write_files

BROKEN = {"cat/aa.png": b"no image", "cat/ab.png": b"", "dog/zz.png": b"nor this"}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("images"), image_files(90, side=32) | BROKEN)


def fitted(images, output, **keys):
    """(table, tokenizer, report) of the verb."""
    centroid = {"image_size": 16, "patch_size": 4, "codebook_size": 20, "sample_patches": 900, **keys}
    table = fit_tokenizer(FitTokenizer(images=images.uri, output=str(output), centroid=centroid, seed=3))
    return dict(table), *load_tokenizer(Folder(output))


def test_actors_find_what_one_process_finds(ray_cluster, images, tmp_path):
    alone = fitted(images, tmp_path / "alone")
    shared = fitted(images, tmp_path / "shared", num_workers=2)
    assert torch.equal(shared[1].codebook, alone[1].codebook)
    assert {**shared[0], "tokenizer": ""} == {**alone[0], "tokenizer": ""}
    assert "81 images, 900 patches" in alone[0]["fitted on"]


def test_a_part_without_a_readable_image(ray_cluster, tmp_path):
    files = {f"cat/{i:03d}.png": b"broken" for i in range(9)} | image_files(12, classes=("dog",))
    broken = write_files(tmp_path / "images", files)
    with pytest.raises(ValueError, match="192 patches to fit 250 centroids; expected more"):
        fitted(broken, tmp_path / "out", num_workers=2, codebook_size=250)


def test_nothing_readable_is_one_line(ray_cluster, tmp_path):
    broken = write_files(tmp_path / "images", {f"cat/{i}.png": b"broken" for i in range(5)})
    with pytest.raises(ValueError, match=r"none of 5 images in .* can be read"):
        fitted(broken, tmp_path / "out", num_workers=1)


def test_more_actors_than_cpus(ray_cluster, images, tmp_path):
    with pytest.raises(ValueError, match=r"centroid.num_workers 400 on \d+ CPUs"):
        fitted(images, tmp_path / "out", num_workers=400)


def test_a_lost_actor_starts_the_fit_over(ray_cluster, images, tmp_path, monkeypatch):
    mark = tmp_path / "mark"

    class DiesOnce(fit_job.FitWorker):
        def call(self, name, *arguments):
            if name == "assign" and not mark.exists():
                mark.touch()
                os._exit(1)
            return super().call(name, *arguments)

    alone = fitted(images, tmp_path / "alone")
    monkeypatch.setattr(fit_job, "FitWorker", DiesOnce)
    shared = fitted(images, tmp_path / "shared", num_workers=2)
    assert mark.exists()
    assert torch.equal(shared[1].codebook, alone[1].codebook)
