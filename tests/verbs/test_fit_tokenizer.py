"""The verb that fits a tokenizer: published weights into a folder of their own, and keys that would do nothing."""

import pytest
from safetensors.torch import save as save_safetensors

from seit_ray.config import FitTokenizer, load
from seit_ray.storage import Folder
from seit_ray.storage.lock import LOCK, LockedError, locked
from seit_ray.tokenizers.contract import fingerprint
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.verbs.fit_tokenizer import check, fit_tokenizer
from tests.tiny_images import contents, image_files, write_files
from tests.tokenizers.vit_vqgan.tiny import tiny_network, tiny_tokenizer


def words(place, *more):
    """The command line of published weights that lie in a place."""
    Folder(place).write("weights.safetensors", save_safetensors(dict(tiny_network().state_dict())))
    published = f"vit_vqgan.published={place}/weights.safetensors"
    return ["tokenizer=vit_vqgan", f"output={place}/out", published, *more]


def test_published_weights_need_no_images_and_the_same_again_is_left(tmp_path):
    config = load(FitTokenizer, [], words(tmp_path))
    assert dict(check(config))["tokenizer"].startswith("vit_vqgan, K ")
    fit_tokenizer(config)
    fit_tokenizer(config)
    tokenizer, _ = load_tokenizer(Folder(tmp_path / "out"))
    assert fingerprint(tokenizer) == fingerprint(tiny_tokenizer())


@pytest.mark.parametrize("function", [check, fit_tokenizer])
def test_published_weights_go_into_no_folder_of_others(tmp_path, function):
    output = Folder(tmp_path / "out")
    output.write("thesis.docx", b"mine")
    with pytest.raises(ValueError, match=r"holds thesis\.docx, which this program did not write there"):
        function(load(FitTokenizer, [], words(tmp_path)))
    assert contents(output) == {"thesis.docx": b"mine"}


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("images=/nowhere", "images with vit_vqgan.published"),
        ("source.limit=5", "source.limit with vit_vqgan.published"),
        ("loop.epochs=5", "loop.epochs with vit_vqgan.published"),
        ("vit_vqgan.size=base", "vit_vqgan.size with vit_vqgan.published"),
        ("tokenizer=centroid", "vit_vqgan.published with tokenizer centroid"),
    ],
)
def test_keys_that_would_do_nothing_are_refused(tmp_path, key, text):
    with pytest.raises(ValueError, match=r"expected") as caught:
        check(load(FitTokenizer, [], words(tmp_path, key)))
    assert text in str(caught.value)


def test_a_fit_needs_images(tmp_path):
    with pytest.raises(ValueError, match="images is missing"):
        load(FitTokenizer, [], [f"output={tmp_path}"])


@pytest.mark.parametrize("tokenizer", ["centroid", "published"])
def test_one_job_at_a_time_writes_a_tokenizer(tmp_path, tokenizer):
    output = Folder(tmp_path / "out")
    if tokenizer == "centroid":
        write_files(tmp_path / "images", image_files(4))
        sizes = [f"centroid.{key}" for key in ("image_size=8", "patch_size=4", "codebook_size=4", "iterations=2")]
        config = load(FitTokenizer, [], [f"images={tmp_path}/images", f"output={output.uri}", *sizes])
    else:
        config = load(FitTokenizer, [], words(tmp_path))
    with locked(output, LOCK):
        with pytest.raises(LockedError, match="is being written to by"):
            fit_tokenizer(config)
        assert list(contents(output)) == [LOCK]
    fit_tokenizer(config)
    assert set(contents(output)) == {"tokenizer.json", "tokenizer.safetensors", "fit_tokenizer.run.json"}


@pytest.mark.parametrize("kind", ["centroid", "vit_vqgan"])
def test_what_is_held_out_is_not_fitted_on(tmp_path, kind):
    images = write_files(tmp_path / "photos", {f"val/{name}": data for name, data in image_files(6).items()})
    keys = [f"tokenizer={kind}", f"images={images.uri}", f"output={tmp_path}/out", "workers.num_workers=0"]
    keys.append("vit_vqgan.init_images=0")
    if kind == "centroid":
        keys[-2:] = ["centroid={image_size: 16, patch_size: 4, codebook_size: 4}"]
    for function in (check, fit_tokenizer):
        with pytest.raises(ValueError, match=r"photos has no train split but val; expected one; name its folder train"):
            function(load(FitTokenizer, [], keys))
    assert ("found", "train 6") in check(load(FitTokenizer, [], [*keys, "source.find_splits=false"]))
