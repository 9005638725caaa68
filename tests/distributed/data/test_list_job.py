"""Listings by tasks: the same files as by one process, after lost workers too; one listing for the verbs of a job."""

import contextlib
import dataclasses
import os
import time
from pathlib import Path

import pytest

from seit_ray.config import FitTokenizer
from seit_ray.distributed.data import list_job
from seit_ray.distributed.data.list_job import made_by_tasks, make_on_tasks
from seit_ray.images import pieces
from seit_ray.images.listing import list_images
from seit_ray.images.sources import find, layout
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder
from seit_ray.verbs.fit_tokenizer import fit_tokenizer
from tests.distributed.data.jobs import run
from tests.images.made_manifests import files
from tests.images.made_sources import fill, write_parquet
from tests.tiny_images import image_files, write_files

HOLD_OUT = {"val_fraction": 0.3, "seed": 0, "rows_per_part": 8}


@pytest.fixture
def many_pieces(monkeypatch):
    monkeypatch.setattr(layout, "LOOK", 5)
    monkeypatch.setattr(find, "HEAD_FILES", 5)


@pytest.fixture
def on_tasks(ray_cluster):
    return make_on_tasks(lambda: contextlib.nullcontext(ray_cluster))


@pytest.fixture
def rows(tmp_path):
    """Files of images, each of which is a piece."""
    source = Folder(tmp_path / "rows")
    for number in range(12):
        write_parquet(
            source, f"{number:02}.parquet", {"image": [b"i"] * 3, "label": [number % 4] * 3, "id": [1, 2, number]}
        )
    return source


SETTINGS = SourceSettings(key_column="id")


def test_tasks_list_what_one_process_lists(rows, on_tasks, tmp_path):
    list_images(rows, SETTINGS, Folder(tmp_path / "here"), **HOLD_OUT)
    seen = []
    on_progress = lambda phase, done, *rest: seen.append(done) if phase == "list" else None  # noqa: E731
    list_images(rows, SETTINGS, Folder(tmp_path / "tasks"), make=on_tasks, on_progress=on_progress, **HOLD_OUT)
    assert files(Folder(tmp_path / "tasks")) == files(Folder(tmp_path / "here"))
    assert len(files(Folder(tmp_path / "tasks"))) > 2
    assert seen == [*range(3, 37, 3), 36]


def test_tasks_join_label_maps_and_images_of_all_pieces(on_tasks, tmp_path, many_pieces, monkeypatch):
    source, settings = Folder(tmp_path / "source"), SourceSettings(masks="masks", num_classes=3)
    for city in range(12):
        fill(source, *(f"{city:02}/images/{number}.png" for number in range(4)))
        fill(source, *(f"{city:02}/masks/{number}.png" for number in range(1, 6)))
    here = list_images(source, settings, Folder(tmp_path / "here"), **HOLD_OUT)
    made = []
    monkeypatch.setattr(list_job, "made_by_tasks", lambda *given: made.append(given) or made_by_tasks(*given))
    list_images(source, settings, Folder(tmp_path / "tasks"), make=on_tasks, **HOLD_OUT)
    assert files(Folder(tmp_path / "tasks")) == files(Folder(tmp_path / "here"))
    assert len(made) == 1
    assert here.left_out == {"label maps without an image": 24}


class Dies(SourceSettings):
    """Settings that end the first process which lists with them; by a file, for all."""

    @property
    def columns(self):
        with contextlib.suppress(FileExistsError):
            Path(self.suffixes[0]).touch(exist_ok=False)
            if os.environ.get("TEST_DRIVER") != str(os.getpid()):
                os._exit(1)
        return super().columns


def test_a_lost_worker_costs_no_image(rows, on_tasks, tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_DRIVER", str(os.getpid()))
    list_images(rows, SETTINGS, Folder(tmp_path / "here"), **HOLD_OUT)
    mark = str(tmp_path / "died")
    deadly = Dies(key_column="id", suffixes=(mark,), kind="parquet")
    place = pieces.pieces_in(Folder(tmp_path / "pieces"), rows, SETTINGS)
    lethal = pieces.Pieces(dataclasses.replace(place.division, settings=deadly), place.folder)
    counts = list(on_tasks(lethal, range(12), lambda more: None))
    assert Path(mark).exists()
    assert [each.num_rows for each in counts] == [3] * 12


class Lingering(pieces.Pieces):
    """The first piece is wrong; others go on for a while after they were told to stop, and write."""

    def make(self, number, is_enough=None):
        if number == 0:
            while not any(entry.name == "began" for entry in self.folder.list()):
                time.sleep(0.05)
            raise ValueError("no label; expected one; mend it")
        self.folder.write("began", b"")
        try:
            for _ in range(600):
                time.sleep(0.1)
        finally:
            time.sleep(1.0)
            self.folder.write("late", b"")


def test_nothing_is_written_when_the_error_is_told(rows, on_tasks, tmp_path):
    found = pieces.pieces_in(Folder(tmp_path / "pieces"), rows, SETTINGS)
    lingering = Lingering(found.division, found.folder)
    with pytest.raises(ValueError, match="no label"):
        list(on_tasks(lingering, range(12), lambda more: None))
    assert found.folder.exists("late")


def test_what_a_node_does_not_see_is_listed_here(rows, on_tasks, tmp_path, monkeypatch):
    found = pieces.pieces_in(Folder(tmp_path / "pieces"), rows, SETTINGS)
    found.folder.delete(pieces.MARK)  # as a disk of another machine has it
    made, make_here = [], list_job.make_here

    def watched(listing, todo, on_listed, patience_s):
        made.extend(todo)
        return make_here(listing, todo, on_listed, patience_s)

    monkeypatch.setattr(list_job, "make_here", watched)
    counts = list(on_tasks(found, range(12), lambda more: None))
    assert made == list(range(12))
    assert [each.num_rows for each in counts] == [3] * 12
    assert sorted(found.finished()) == list(range(12))


def test_what_a_user_can_mend_is_said_in_one_line(rows, on_tasks, tmp_path):
    write_parquet(rows, "05.parquet", {"image": [b"i"], "label": [1.5], "id": [1]})
    write_parquet(rows, "07.parquet", {"image": [b"i"], "label": [2.5], "id": [1]})
    with pytest.raises(ValueError, match=r"label of type float in row 0 of \S+05.parquet") as caught:
        list_images(rows, SETTINGS, Folder(tmp_path / "list"), make=on_tasks, **HOLD_OUT)
    assert "\n" not in str(caught.value)


def test_the_verbs_of_a_job_list_once(ray_cluster, tmp_path, many_pieces, monkeypatch):
    images = write_files(tmp_path / "images", image_files(40))
    divided = []
    divide = pieces.divide
    monkeypatch.setattr(pieces, "divide", lambda *given, **more: divided.append(given) or divide(*given, **more))
    source = {"listing": str(tmp_path / "listing")}
    fit = FitTokenizer(
        images=images.uri,
        output=str(tmp_path / "tokenizer"),
        source=source,
        centroid={"image_size": 16, "patch_size": 8, "codebook_size": 4, "sample_images": 20},
    )
    fit_tokenizer(fit)
    dataset = run(ray_cluster, images, Folder(tmp_path / "tokenizer"), Folder(tmp_path / "tokens"), source)
    assert len(divided) == 1
    alone = run(ray_cluster, images, Folder(tmp_path / "tokenizer"), Folder(tmp_path / "alone"))
    assert len(divided) == 2
    assert {name: split.rows for name, split in alone.info.splits.items()} == {
        name: split.rows for name, split in dataset.info.splits.items()
    }
    assert alone.info.plan == dataset.info.plan
