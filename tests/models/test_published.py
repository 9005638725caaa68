"""Published weights: kinds and sizes read off shapes, against the recordings' own models."""

from pathlib import Path

import numpy as np
import pytest
import torch

from seit_ray.models.build import build_model
from seit_ray.models.embed import TokenEmbedding
from seit_ray.models.published import load_published, published_settings, published_state
from seit_ray.models.variants import SIZES, Size
from seit_ray.models.vit import TokenViT
from tests.shards.published_files import refusal

GOLDEN = Path(__file__).parents[1] / "golden"
CODEBOOK = torch.randn(391, 32, generator=torch.Generator().manual_seed(0))
TINY = Size(16, 2, 2, 12, 1, 3)


def recording(name):
    arrays = np.load(GOLDEN / f"{name}.npz")
    return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def weights_of(record):
    return {key[3:]: value for key, value in record.items() if key.startswith("sd/")}


def settings_of(state, **given):
    return published_settings(state, **{"grid": (32, 32), "codebook": CODEBOOK, "num_heads": 4} | given)


def test_seit_equals_the_recording():
    record = recording("seit_vit")
    kind, settings = settings_of(weights_of(record))
    assert (kind, settings["inputs"], settings["grid"]) == ("classifier", "codebook", (28, 28))
    assert [settings[f"stem_{part}"] for part in ("kernel", "stride", "padding")] == [4, 2, 1]
    assert (settings["size"].width, settings["size"].depth, settings["num_classes"]) == (64, 2, 10)
    model = load_published(kind, settings, weights_of(record))
    assert not model.training
    logits = model.forward_embedded(record["in/x"])
    torch.testing.assert_close(logits, record["out/logits"], atol=1e-4, rtol=0)
    tokens = torch.randint(391, (2, 28 * 28))
    maps = CODEBOOK[tokens].unflatten(1, (28, 28)).permute(0, 3, 1, 2)
    assert torch.equal(model(tokens), model.forward_embedded(maps))


def test_the_classifier_of_seitpp_equals_the_recording():
    record = recording("seitpp_finetune")
    kind, settings = settings_of(weights_of(record))
    assert (kind, settings["inputs"]) == ("classifier", "learned")
    assert (settings["token_dim"], settings["stem_kernel"], settings["grid"]) == (32, 2, (28, 28))
    logits = load_published(kind, settings, weights_of(record))(record["in/tokens"])
    torch.testing.assert_close(logits, record["out/logits"], atol=1e-4, rtol=0)


def test_the_masked_model_of_seitpp_equals_the_recording():
    record = recording("seitpp_mtm")
    unused = {"decoder_pos_embed": torch.zeros(1, 197, 48), "reverse_transform.1.bias": torch.zeros(3)}
    state = {**weights_of(record), **unused}
    kind, settings = settings_of(state, decoder_num_heads=3)
    assert (kind, settings["grid"], settings["num_codes"]) == ("mtm", (28, 28), 391)
    model = load_published(kind, settings, state)
    logits, targets, _ = model(record["in/tokens"], record["in/noise"], int(record["out/r0.55/num_masked"]))
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 2), targets.flatten())
    assert loss.item() == pytest.approx(record["out/r0.55/s0/loss"].item(), rel=1e-5)


def test_tokenadapt_equals_the_recording():
    record = recording("seitpp_tokenadapt")
    sizes = {"grid": (32, 32), "out_grid": (28, 28), "num_codes": 391, "dim": 32}
    model = build_model("tokenadapt", **sizes, width=48, num_heads=2, mlp_width=96)
    known = {k: v for k, v in weights_of(record).items() if not k.endswith("pos_embedding")}  # of which it has a part
    state = {**model.state_dict(), **known}
    kind, settings = settings_of(state, num_heads=None)
    assert kind == "tokenadapt"
    assert settings == {**sizes, "width": 48, "depth": 1, "num_heads": 2, "head_dim": 64, "mlp_width": 96}
    found = load_published(kind, settings, state)
    for name, value in state.items():
        assert torch.equal(found.state_dict()[name], value), name


def exported(size="nano", **changes):
    """A classifier of a named size, and its state dict."""
    torch.manual_seed(0)
    settings = {"grid": (4, 6), "num_classes": 5, "size": SIZES.get(size, size), "kernel": 2, "stride": 2} | changes
    settings.setdefault("embedding", TokenEmbedding(11, 8))
    return TokenViT(**settings).eval()


@pytest.mark.parametrize("kernel", [1, 2])
@pytest.mark.parametrize("grid", [(4, 6), (6, 4), (4, 4), (8, 2)])
def test_any_grid_that_the_stem_tiles(kernel, grid):
    vit = exported(TINY, grid=grid, kernel=kernel, stride=kernel, pool="cls")
    codebook = torch.zeros(11, 3)
    kind, settings = published_settings(vit.state_dict(), grid=grid, codebook=codebook, num_heads=2, pool="cls")
    found = load_published(kind, settings, vit.state_dict())
    tokens = torch.randint(11, (3, grid[0] * grid[1]))
    assert torch.equal(found(tokens), vit(tokens))


@pytest.mark.parametrize("size", ["nano", "tiny"])
def test_heads_of_named_sizes_are_known(size):
    state = exported(size).state_dict()
    _, settings = published_settings(state, grid=(4, 6), codebook=torch.zeros(11, 3))
    assert settings["size"] == SIZES[size]


def test_a_stem_of_another_stride_can_be_given():
    vit = exported(TINY, grid=(7, 7), kernel=3, stride=2)
    given = {"grid": (7, 7), "codebook": torch.zeros(11, 3), "num_heads": 2}
    text = refusal(published_settings, vit.state_dict(), **given)
    assert "stem of kernel 3; expected one of [1, 2, 4], or stride and padding" in text
    kind, settings = published_settings(vit.state_dict(), **given, stem_stride=2, stem_padding=0)
    tokens = torch.randint(11, (3, 49))
    assert torch.equal(load_published(kind, settings, vit.state_dict())(tokens), vit(tokens))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"num_heads": None}, "weights 16 wide and 2 deep, of no named size; expected the number of heads"),
        ({"num_heads": 3}, "width 16 with num_heads 3"),
        ({"codebook": torch.zeros(12, 3)}, "weights for 11 codes; expected 12"),
        ({"grid": (2, 2)}, "weights of 6 positions under a stem of kernel 2"),
        ({"grid": (4, 4)}, "expected those of the dataset's grid 4x4, or of a square inside it"),
        ({"decoder_num_heads": 3}, "decoder_num_heads 3 for a model that has none"),
    ],
)
def test_what_does_not_fit(given, text):
    settings = {"grid": (4, 6), "codebook": torch.zeros(11, 3), "num_heads": 2} | given
    assert text in refusal(published_settings, exported(TINY).state_dict(), **settings)


def test_codes_of_another_width_do_not_fit_a_stem():
    state = {name: value for name, value in exported(TINY).state_dict().items() if not name.startswith("token_emb")}
    text = refusal(published_settings, state, grid=(4, 6), codebook=torch.zeros(11, 3), num_heads=2)
    assert "weights of a stem on 8 channels; expected 3, the width of the dataset's codes" in text


def test_entries_that_are_missing_or_left_over_are_listed():
    state = exported(TINY).state_dict()
    del state["norm.bias"]
    state["extra"] = torch.zeros(2)
    kind, settings = published_settings(state, grid=(4, 6), codebook=torch.zeros(11, 3), num_heads=2)
    text = refusal(load_published, kind, settings, state)
    assert "missing norm.bias [16]; unexpected extra [2]" in text


def test_other_state_dicts_say_what_is_looked_for():
    given = {"grid": (4, 6), "codebook": torch.zeros(11, 3)}
    text = refusal(published_settings, {"fc.weight": torch.zeros(2)}, **given)
    assert "weights with fc.weight; expected one of mask_token_label (mtm), head.weight (classifier)" in text
    text = refusal(published_settings, {"head.weight": torch.zeros(2, 2)}, **given)
    assert "weights without patch_embed.proj.weight; expected 4 dimensions" in text


def test_how_a_state_dict_may_be_wrapped():
    state = {"a.weight": torch.zeros(2)}
    for content in (state, {"model": state, "epoch": 3}, {"state_dict": state}, {"model": {"state_dict": state}}):
        assert set(published_state(content)) == {"a.weight"}
    assert set(published_state({"model": {"module.a": torch.zeros(1), "module.b": torch.zeros(1)}})) == {"a", "b"}


@pytest.mark.parametrize("content", [3, [], {}, {"model": {}}, {"a": 3}, {3: torch.zeros(1)}, torch.zeros(3)])
def test_what_is_no_state_dict(content):
    assert "expected names and tensors, or these under model or state_dict" in refusal(published_state, content)
