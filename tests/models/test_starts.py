"""What a classifier takes over from a run, by its record alone."""

import re

import pytest

from seit_ray.models.starts import Taken, check_patches, check_sizes, patches_of, taken_over
from seit_ray.models.variants import Size

SIZE = Size(16, 2, 2, decoder_width=8, decoder_depth=1, decoder_num_heads=2)
STEM = {"stem_kernel": 2, "token_dim": 8}
ABOUT = {"kind": "mtm", "settings": {"size": vars(SIZE), "grid": [4, 4], **STEM}}
BEIT = {"kind": "ccvit", "settings": {"size": vars(SIZE), "grid": [8, 8], "kernel": 4}}
WHOLE, PART = Taken(inputs=True, places=True), Taken(inputs=False, places=False)


def settings(**more):
    return {"size": SIZE, "grid": (4, 4), **STEM, **more}


def test_what_is_taken_over():
    run, same, other = {"tokenizer": "a"}, {"tokenizer": "a"}, {"tokenizer": "b"}
    assert taken_over("classifier", run, other, transfer=False) == WHOLE  # whose tokens are compared elsewhere
    assert taken_over("classifier", run, same, transfer=True) == Taken(inputs=True, places=False)
    assert taken_over("classifier", run, other, transfer=True) == PART
    assert taken_over("segmenter", run, same, transfer=False) == Taken(inputs=True, places=False)
    pixels = {"patch_size": 4}
    assert taken_over("segmenter", pixels, pixels, transfer=True) == Taken(inputs=True, places=False)
    assert taken_over("classifier", pixels, pixels, transfer=True) == taken_over("segmenter", {}, {}, transfer=True)


def test_patches_of_each_kind_of_model():
    assert patches_of(ABOUT["settings"]) == ((4, 4), (2, 2))
    assert patches_of(settings(stem_kernel=4, stem_stride=2, stem_padding=1)) == ((4, 4), (2, 2))
    assert patches_of(BEIT["settings"]) == ((8, 8), (2, 2))
    check_patches(ABOUT, (4, 4), (2, 2), "run")
    with pytest.raises(ValueError, match="run sees 4x4 in 2x2 patches; expected 4x4 in 4x4, as the run"):
        check_patches(ABOUT, (4, 4), (4, 4), "run")


@pytest.mark.parametrize(
    ("about", "changes", "taken", "message"),
    [
        (ABOUT, {"size": Size(32, 2, 2, 8, 1, 2)}, PART, "run has a model of width 16; expected 32"),
        (ABOUT, {"size": Size(16, 3, 2, 8, 1, 2)}, PART, "depth 2; expected 3"),
        (BEIT, {"size": Size(16, 2, 4, 8, 1, 2)}, PART, "num_heads 2; expected 4"),
        (BEIT, {"grid": (2, 2)}, WHOLE, "sees 2x2 patches; expected the 1x1"),
        (ABOUT, {"grid": (2, 2)}, WHOLE, "sees 2x2 patches; expected the 1x1"),
        (ABOUT, {"token_dim": 4}, WHOLE, "token_dim 8; expected 4"),
        (ABOUT, {"inputs": "codebook"}, WHOLE, "inputs learned; expected codebook"),
        (ABOUT, {"stem_layers": 1, "pixel_side": 2}, WHOLE, "stem_layers 0; expected 1"),
    ],
)
def test_other_sizes_are_refused(about, changes, taken, message):
    check_sizes(about, settings(), "run", WHOLE)
    with pytest.raises(ValueError, match=message):
        check_sizes(about, settings(**changes), "run", taken)


def test_of_a_run_that_comes_before_in_the_same_call_no_other_way_is_shown():
    for changes, told in (({"grid": (2, 2)}, "or transfer=true"), ({"token_dim": 4}, "or name another run")):
        with pytest.raises(ValueError, match=told):
            check_sizes(ABOUT, settings(**changes), "run", WHOLE)
        with pytest.raises(ValueError, match=r"; set finetune\.model\.") as caught:
            check_sizes(ABOUT, settings(**changes), "the run before", WHOLE, behind="finetune")
        assert not re.search(r"transfer|another|set model", str(caught.value))


def test_what_is_not_taken_over_may_be_another():
    heads = settings(size=Size(16, 2, 4, 4, 1, 2))  # no weight of ViT has a head's shape
    for about, others, taken, refused in (
        (ABOUT, settings(token_dim=4, stem_kernel=1, stem_layers=2), PART, WHOLE),
        (ABOUT, heads, WHOLE, None),
        (BEIT, settings(grid=(8, 8)), PART, WHOLE),
    ):
        assert check_sizes(about, others, "run", taken) is None
        if refused:
            with pytest.raises(ValueError, match="run "):
                check_sizes(about, others, "run", refused)


def test_a_record_that_says_nothing_of_sizes_is_told():
    for about in ({"kind": "mtm", "settings": {}}, {"kind": "mtm", "settings": {**ABOUT["settings"], "grid": None}}):
        with pytest.raises(ValueError, match=r"run/model.json cannot be read .*; export the run again"):
            check_sizes(about, settings(), "run", WHOLE)
