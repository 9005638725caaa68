"""The listing that a run keeps: of the images and settings of now, until there are results."""

import time

import pytest

from seit_ray.images.sources.settings import SourceSettings
from seit_ray.runs import listing
from seit_ray.runs.listing import forget_listing, listed_once, made_by_the_first
from seit_ray.storage import Folder
from seit_ray.training.world import World
from tests.tiny_images import image_bytes, image_files, write_files

CPU = World(0, 1)


def listed(images, run, settings=None, **more):
    return listed_once(images, settings or SourceSettings(), run, CPU, **{"val_fraction": 0.0, "seed": 0, **more})


@pytest.fixture
def images(tmp_path):
    return write_files(tmp_path / "photos", image_files(12))


def test_it_is_made_once(images, tmp_path):
    run = Folder(tmp_path / "run")
    first = listed(images, run)
    write_files(tmp_path / "photos", {"cat/new.png": image_bytes("cat", 99)})
    assert listed(images, run).digest == first.digest
    assert sum(split.num_images for split in first.splits.values()) == 12


def test_other_settings_make_another_until_there_are_results(images, tmp_path):
    run, other = Folder(tmp_path / "run"), write_files(tmp_path / "other", image_files(5))
    first = listed(images, run)
    held_out = listed(images, run, val_fraction=0.5)
    assert {"train", "val"} == set(held_out.splits) != set(first.splits)
    assert sum(split.num_images for split in listed(other, run).splits.values()) == 5
    run.write("checkpoints/step-000000001/checkpoint.json", b"{}")
    before = listed(other, run).digest
    for change in ({"val_fraction": 0.2}, {"seed": 3}, {"settings": SourceSettings(limit=3)}):
        with pytest.raises(ValueError, match=r"was begun with .*\(now .*expected the same; give the run another name"):
            listed(other, run, **change)
    with pytest.raises(ValueError, match=f"was begun with images '{other.uri}'"):
        listed(images, run)
    assert listed(other, run).digest == before


def test_what_a_run_refuses_is_listed_again_when_it_is_mended(tmp_path):
    run, folder = Folder(tmp_path / "run"), tmp_path / "photos"
    images = write_files(folder, {"1.png": image_bytes("cat", 1)})
    assert listed(images, run).class_names is None
    forget_listing(run, CPU)
    images.delete("1.png")
    write_files(folder, {"cat/1.png": image_bytes("cat", 1), "dog/1.png": image_bytes("dog", 1)})
    assert listed(images, run).class_names == ["cat", "dog"]


def test_ranks_that_wait_meet_on_the_way(monkeypatch):
    monkeypatch.setattr(listing, "ASK_EVERY_S", 0.05)
    met = []

    class Lead(World):
        def gather(self, value):
            met.append(value)
            return [value, (False, None)]

    def slow():
        time.sleep(0.3)
        return ValueError("no images")

    fault = made_by_the_first(slow, Lead(0, 2))
    assert str(fault) == "no images"
    assert len(met) >= 3
    assert [done for done, _ in met] == [False] * (len(met) - 1) + [True]


def test_other_class_names_make_another_until_there_are_results(images, tmp_path):
    run, names = Folder(tmp_path / "run"), tmp_path / "names.txt"
    names.write_text("cat\tfeline\ndog\tcanine\n")
    settings = SourceSettings(class_names=str(names))
    assert listed(images, run, settings).class_names == ["canine", "feline"]
    names.write_text("cat\tCat\ndog\tDog\n")
    assert listed(images, run, settings).class_names == ["Cat", "Dog"]
    run.write("checkpoints/step-000000001/checkpoint.json", b"{}")
    names.write_text("cat\tA\ndog\tB\n")
    with pytest.raises(ValueError, match=r"was begun with class_names_file .*\(now .*give the run another name"):
        listed(images, run, settings)
