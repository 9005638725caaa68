"""The model that a run leaves."""

import dataclasses
import json

import pytest
import torch

from seit_ray.models.about import read_about
from seit_ray.models.build import KINDS, build_model
from seit_ray.models.exports import export_model, import_model
from seit_ray.models.variants import Size
from seit_ray.storage import Folder

SIZE = Size(16, 2, 2, decoder_width=8, decoder_depth=1, decoder_num_heads=2)
SHARED = {"size": SIZE, "grid": (4, 6), "num_codes": 11, "token_dim": 8, "stem_kernel": 2, "dropout": 0.1}
SETTINGS = {
    "mtm": {**SHARED, "mask_ratio_min": 0.3},
    "tokenadapt": {
        **{"grid": (4, 6), "out_grid": (3, 5), "num_codes": 11, "dim": 8},
        **{"width": 16, "depth": 1, "num_heads": 2, "head_dim": 8, "mlp_width": 32},
    },
    "classifier": {**SHARED, "num_classes": 5, "pool": "cls", "drop_path": 0.1},
    "segmenter": {**SHARED, "num_classes": 5, "head_width": 16, "aux_width": 16, "taken": (1, 1, 2, 2)},
    "ccvit": {
        **{"size": SIZE, "grid": (4, 6), "kernel": 2, "inputs": "codebook", "codebook": torch.rand(11, 12)},
        **{"num_codes": 11, "code_dim": 12, "unit": 2, "head_layers": 1, "morph_dim": 3},
    },
    "dtm": {"size": SIZE, "grid": (8, 12), "kernel": 4, "inputs": "pixels", "output_dim": 5, "own_bias": True},
}
ABOUT = {"tokenizer": "0123", "class_names": ["a", "b"], "metrics": {"train_loss": 0.5}}
EACH = pytest.mark.parametrize("kind", sorted(SETTINGS))


def exported(run, kind="classifier"):
    """A model with noise for weights, written to the run."""
    model = build_model(kind, **SETTINGS[kind])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    export_model(run, model, kind=kind, settings=SETTINGS[kind], about=ABOUT)
    return model.eval()


def refusal(run, kind="classifier"):
    """The one line with which a run is refused."""
    with pytest.raises(ValueError, match=r"\S") as caught:
        import_model(run, kind)
    text = str(caught.value)
    assert "\n" not in text
    assert run.uri in text
    return text


def rewrite(run, change):
    """Change model.json in place."""
    about = json.loads(run.read("model.json"))
    change(about)
    run.write("model.json", json.dumps(about).encode())


def test_every_kind_is_tested():
    assert set(KINDS) == set(SETTINGS)


@EACH
def test_round_trip(run, kind):
    model = exported(run, kind)
    found, about = import_model(run, kind)
    assert not found.training
    assert {k: about[k] for k in ("kind", *ABOUT)} == {"kind": kind, **ABOUT}
    assert type(found) is type(model)
    state = model.state_dict()
    assert {name: value.tolist() for name, value in found.state_dict().items()} == {
        name: value.tolist() for name, value in state.items()
    }


def test_imported_classifier_computes_the_same(run):
    model = exported(run)
    tokens = torch.randint(11, (3, 24), generator=torch.Generator().manual_seed(1))
    assert torch.equal(import_model(run, "classifier")[0](tokens), model(tokens))


@pytest.mark.parametrize(
    "kept", [{}, {"standardize": True}, {"stem_layers": 2, "stem_width": 8}, {"stem_layers": 1, "pixel_side": 2}]
)
def test_a_classifier_on_codebook_rows_computes_the_same(run, kept):
    generator = torch.Generator().manual_seed(0)
    settings = {**SETTINGS["classifier"], "inputs": "codebook", **kept}
    settings["codebook"] = torch.rand(11, 12, generator=generator)
    torch.manual_seed(0)
    model = build_model("classifier", **settings, head_init_std=1.0).eval()
    export_model(run, model, kind="classifier", settings=settings, about=ABOUT)
    tokens = torch.randint(11, (3, 24), generator=generator)
    found, about = import_model(run, "classifier")
    assert torch.equal(found(tokens), model(tokens))
    assert kept.items() <= about["settings"].items()
    others = {"standardize": False, "stem_layers": 0, "pixel_side": 1}
    published = build_model("classifier", **{**settings, **others}).state_dict()
    assert (found.state_dict().keys() == published.keys()) == ("stem_layers" not in kept)


def test_only_codebook_rows_are_standardized():
    with pytest.raises(ValueError, match="standardize True with inputs 'learned'; expected inputs 'codebook'"):
        build_model("classifier", **SETTINGS["classifier"], standardize=True)


def test_model_json_says_how_to_build_it(run):
    exported(run)
    settings = read_about(run, "classifier")["settings"]
    assert settings == {**SETTINGS["classifier"], "size": dataclasses.asdict(SIZE), "grid": [4, 6]}


def test_the_marker_is_written_last(run, monkeypatch):
    written = []
    real = Folder.write
    monkeypatch.setattr(Folder, "write", lambda self, name, data: (written.append(name), real(self, name, data)))
    exported(run)
    assert written == ["model.safetensors", "model.json"]


def test_missing_run(tmp_path):
    assert "does not exist" in refusal(Folder(tmp_path / "nowhere"))


def test_unfinished_run(run):
    run.write("metrics.jsonl", b"")
    assert "no finished run in" in refusal(run)
    assert "let the run end first" in refusal(run)


def test_another_kind(run):
    exported(run, "mtm")
    assert "holds a model of kind 'mtm'; expected 'classifier'" in refusal(run)
    assert read_about(run, "mtm")["kind"] == "mtm"


@pytest.mark.parametrize("garbage", [b"", b"\xff", b"[]", b"{}", b"null"])
def test_garbage_for_a_marker(run, garbage):
    exported(run)
    run.write("model.json", garbage)
    assert "model.json cannot be read" in refusal(run)


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.pop("settings"),
        lambda about: about.update(settings=[]),
        lambda about: about["settings"].pop("size"),
        lambda about: about["settings"]["size"].pop("depth"),
        lambda about: about["settings"].update(patch=3),
        lambda about: about["settings"].pop("num_classes"),
        lambda about: about["settings"].update(grid=4),
    ],
)
def test_settings_that_build_nothing(run, change):
    exported(run)
    rewrite(run, change)
    assert "model.json cannot be read" in refusal(run)


def test_weights_of_another_size(run):
    exported(run)
    rewrite(run, lambda about: about["settings"].update(num_codes=12))
    with pytest.raises(ValueError, match=r"token_emb.word_embeddings.weight \[11, 8\] where the model has \[12, 8\]"):
        import_model(run, "classifier")


@pytest.mark.parametrize("garbage", [b"", b"PK\x03\x04" * 9])
def test_garbage_for_weights(run, garbage):
    exported(run)
    run.write("model.safetensors", garbage)
    with pytest.raises(ValueError, match="no safetensors"):
        import_model(run, "classifier")


def test_missing_weights(run):
    exported(run)
    run.delete("model.safetensors")
    assert "model.safetensors does not exist" in refusal(run)
