"""The verb that looks into a dataset: what its dry run refuses, keys that would do nothing, originals that are gone."""

import numpy as np
import pytest

from seit_ray.config import InspectTokens, load
from seit_ray.shards import TokenDataset
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.verbs.inspect_tokens import check, inspect_tokens, originals
from tests.tiny_dataset import write_dataset
from tests.tiny_images import contents, image_bytes, write_files


@pytest.fixture
def place(tmp_path):
    """tokens/ of 5 images of 16 pixels, photos/ with 3 of them: one is damaged, one is no file any more."""
    write_dataset(tmp_path / "tokens", sizes={"train": 5}, patch_size=4)
    photos = {f"image-{i:06}.jpg": image_bytes("cat", i) for i in range(4)}
    write_files(tmp_path / "photos", photos | {"image-000002.jpg": b"no image any more"})
    return tmp_path


def words(place, *more):
    """The command line of a sheet with originals."""
    return [f"dataset={place}/tokens", f"contact_sheet={place}/out/sheet.png", f"images={place}/photos", *more]


def test_originals_that_cannot_be_read_are_grey(place):
    dataset = TokenDataset(Folder(place / "tokens"))
    tokenizer, _ = load_tokenizer(dataset.folder.join("tokenizer"))
    keys = dataset.read_split("train").meta["key"].to_pylist()
    config = load(InspectTokens, [], words(place, "num_pictures=5"))
    pixels, num_grey = originals(keys, dataset, tokenizer, config, lambda *state: None)
    assert (pixels.shape, num_grey) == ((5, 3, 16, 16), 2)
    assert [bool((image == 128).all()) for image in pixels] == [False, False, True, False, True]
    told = dict(inspect_tokens(config))["contact sheet"]
    assert told == f"{place}/out/sheet.png; 2 originals cannot be read any more and are grey"
    assert (place / "out" / "sheet.png").exists()


def test_originals_are_decoded_as_those_of_the_dataset_were(place):
    dataset = TokenDataset(Folder(place / "tokens"))
    dataset.info.plan |= {"decode": "fast", "max_image_pixels": 3}
    tokenizer, _ = load_tokenizer(dataset.folder.join("tokenizer"))
    config = load(InspectTokens, [], words(place))
    pixels, num_grey = originals(["image-000000.jpg"], dataset, tokenizer, config, lambda *state: None)
    assert num_grey == 1  # larger than those that are tokenised
    assert np.unique(pixels).tolist() == [128]
    assert originals(["nowhere.jpg"], dataset, tokenizer, config, lambda *state: None)[1] == 1


@pytest.mark.parametrize("function", [check, inspect_tokens])
@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["images=/nowhere/at/all"], "/nowhere/at/all does not exist"),
        (["contact_sheet=/proc/no/sheet.png"], "/proc/no"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_read(place, monkeypatch, function, more, text):
    monkeypatch.setattr(TokenDataset, "read_shard", None)
    before = contents(Folder(place))
    with pytest.raises(ValueError, match="expected") as caught:
        function(load(InspectTokens, [], words(place, *more)))
    assert text in str(caught.value)
    assert contents(Folder(place)) == before


@pytest.mark.parametrize("function", [check, inspect_tokens])
def test_a_dataset_without_images_has_no_sheet(tmp_path, function):
    write_dataset(tmp_path / "tokens", sizes={"train": 0}, num_rejected=0)
    with pytest.raises(ValueError, match=r"tokens has no images; expected some to draw"):
        function(load(InspectTokens, [], words(tmp_path)[:2]))
    inspect_tokens(load(InspectTokens, [], words(tmp_path)[:1]))


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (["images=/nowhere"], "images without contact_sheet"),
        (["num_pictures=3"], "num_pictures without contact_sheet"),
        (["contact_sheet=a.png", "source.limit=3"], "source without images"),
    ],
)
def test_keys_that_would_do_nothing_are_refused(keys, text):
    with pytest.raises(ValueError, match="expected both") as caught:
        load(InspectTokens, [], ["dataset=tokens", *keys])
    assert text in str(caught.value)
