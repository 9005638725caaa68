"""Training and evaluating segmenters: from scratch, from trained runs, of pixels; stops, ranks and mistakes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from seit_ray.images.label_maps import unpack_map
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.models.build import build_model
from seit_ray.models.exports import export_model, import_model
from seit_ray.models.variants import build_size
from seit_ray.runs.evaluate_segments import evaluate_segments
from seit_ray.runs.pretrain import pretrain
from seit_ray.runs.segment import pixel_pairs, segment
from seit_ray.runs.settings import (
    AugmentationSettings,
    ClassifierSettings,
    MaskingSettings,
    ModelSettings,
    PixelSettings,
    ProbeSettings,
    SegmentSettings,
)
from seit_ray.shards.dataset import TokenDataset, identity_of
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.training.metrics import read_metrics
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.world import World
from tests.images.sources.made_pairs import write_pairs
from tests.tiny_dataset import write_dataset
from tests.tiny_maps import camvid_settings, write_camvid, write_map_dataset
from tests.tiny_trainers import comparable

SIZE = {"size": "nano", "width": 32, "depth": 2, "num_heads": 2, "token_dim": 8, "dropout": 0.0}
MODEL = ClassifierSettings(**SIZE, stem_kernel=1, drop_path=0.0)
SEGMENT = SegmentSettings(head_width=16, aux_width=16)
LOOP = LoopSettings(epochs=6, global_batch_size=8, log_every_steps=4, eval_every_epochs=6, trackers=())
OPTIMIZER = OptimizerSettings(lr=3e-3, warmup_epochs=1, betas=(0.9, 0.999))
CPU = World(device=torch.device("cpu"))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_camvid(tmp_path_factory.mktemp("scenes"), {"train": 24, "val": 6})


@pytest.fixture(scope="module")
def tokens(tmp_path_factory, scenes):
    return write_map_dataset(tmp_path_factory.mktemp("tokens"), scenes)


def train(run, **more):
    """A run on the scenes' tokens, unless more says otherwise."""
    given = {"model": MODEL, "segment": SEGMENT, "augment": AugmentationSettings()}
    return segment(run=Folder(run), world=CPU, **{**given, "loop": LOOP, "optimizer": OPTIMIZER, **more})


def evaluated(run, **more):
    return evaluate_segments(run=Folder(run), split="val", batch_size=4, world=CPU, **more)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tokens):
    run = tmp_path_factory.mktemp("run")
    return run, train(run, dataset=tokens)


def test_it_learns_and_says_so_by_the_size_of_the_maps(trained, tokens):
    run, metrics = trained
    assert metrics["step"] == 18
    assert metrics["val_pixel_accuracy"] > 0.7
    assert metrics["train_loss"] < read_metrics(Folder(run))[0]["train_loss"]
    figures = evaluated(run, dataset=tokens)
    for name in ("miou", "mean_accuracy", "pixel_accuracy"):
        assert figures[name] == pytest.approx(metrics[f"val_{name}"])
        assert figures[f"{name}_standard_error"] > 0
    assert (figures["samples"], figures["listed"], figures["rejected"]) == (6, 6, [])
    val = TokenDataset(tokens).read_split("val")
    pixels = np.bincount(np.concatenate([unpack_map(m).ravel() for m in val.meta["mask"].to_pylist()]), minlength=256)
    assert [one["pixels"] for one in figures["classes"].values()] == pixels[:3].tolist()
    assert figures["pictures"][0].image.shape == (3, 192, 192)


def test_the_first_batch_shows_its_maps(trained):
    about = json.loads(Folder(trained[0]).read("first_batch.json"))
    assert about["labels"]["shape"] == [8, 16, 16]
    assert about["pictures"] == ["stored", "seen", "stored map", "seen map"]
    assert Folder(trained[0]).read("first_batch.png")[:4] == b"\x89PNG"


def test_a_stopped_run_continues_in_the_same_numbers(tmp_path, tokens):
    loop = LoopSettings(
        epochs=3, global_batch_size=8, log_every_steps=3, eval_every_epochs=3, checkpoint_every_steps=5, trackers=()
    )
    augment = AugmentationSettings(adapt="pixels", adapt_share=0.5, color_before_crop=True, random_crop=True)
    more = {"dataset": tokens, "loop": loop, "augment": augment}
    whole = train(tmp_path / "whole", **more)

    class Stop(Exception):
        pass

    def stop(phase, done, total, note):
        if phase == "train" and done >= 6:
            raise Stop

    with pytest.raises(Stop):
        train(tmp_path / "cut", **more, on_progress=stop)
    assert train(tmp_path / "cut", **more)["val_miou"] == whole["val_miou"]
    assert comparable(Folder(tmp_path / "cut")) == comparable(Folder(tmp_path / "whole"))


def test_windows_and_crops_of_whole_tokens(tmp_path, tokens):
    model = ClassifierSettings(**SIZE, stem_kernel=1, grid_side=6)
    metrics = train(tmp_path / "run", dataset=tokens, model=model, segment=SegmentSettings(head="linear", aux_width=0))
    assert metrics["val_pixel_accuracy"] > 0.6
    net, about = import_model(Folder(tmp_path / "run"), "segmenter")
    assert (net.grid, about["stride"], about["void"], net.head.aux) == ((6, 6), None, 3, None)
    assert evaluated(tmp_path / "run", dataset=tokens)["miou"] == pytest.approx(metrics["val_miou"])


def test_it_starts_from_masked_tokens_of_another_grid(tmp_path, tokens):
    """Pre-trained on crops, segmenting the whole: blocks and embedding come along, positions are resampled."""
    loop = LoopSettings(epochs=2, global_batch_size=8, trackers=())
    pretrain(
        run=Folder(tmp_path / "mtm"),
        dataset=tokens,
        model=ModelSettings(**SIZE, stem_kernel=1, grid_side=6, decoder_width=16, decoder_depth=1, decoder_num_heads=2),
        masking=MaskingSettings(),
        augment=AugmentationSettings(),
        adapt_run=None,
        probe=ProbeSettings(),
        loop=loop,
        optimizer=OPTIMIZER,
        world=CPU,
    )
    short = LoopSettings(epochs=1, global_batch_size=24, trackers=())
    still = OptimizerSettings(lr=1e-9, warmup_epochs=0)
    train(tmp_path / "run", dataset=tokens, init_from=Folder(tmp_path / "mtm"), loop=short, optimizer=still)
    before, after = (import_model(Folder(tmp_path / n), k)[0] for n, k in (("mtm", "mtm"), ("run", "segmenter")))
    assert torch.allclose(before.blocks[1].attn.qkv.weight, after.blocks[1].attn.qkv.weight, atol=1e-6)
    assert torch.allclose(before.token_emb.word_embeddings.weight, after.token_emb.word_embeddings.weight, atol=1e-6)
    assert after.pos_embed.shape[1] == 1 + 64
    assert torch.allclose(before.pos_embed[:, 0], after.pos_embed[:, 0], atol=1e-6)


def test_it_starts_from_a_centroid_model_and_from_a_segmenter(tmp_path, tokens):
    dataset = TokenDataset(tokens)
    coder, _ = load_tokenizer(tokens.join("tokenizer"))
    size = build_size("nano", width=32, depth=2, num_heads=2)
    settings = {"size": size, "grid": (8, 8), "kernel": 2, "head_layers": 1}
    settings |= {"num_codes": 8, "code_dim": 12, "unit": 2, "inputs": "codebook", "codebook": coder.codebook}
    torch.manual_seed(3)
    trained = build_model("ccvit", **settings)
    about = {**identity_of(dataset), "data": tokens.uri, "class_names": None, "metrics": {}}
    export_model(Folder(tmp_path / "ccvit"), trained, kind="ccvit", settings=settings, about=about)
    model = ClassifierSettings(**SIZE | {"depth": 2}, inputs="codebook", stem_kernel=2, drop_path=0.0)
    short = LoopSettings(epochs=1, global_batch_size=24, trackers=())
    more = {"dataset": tokens, "model": model, "loop": short, "optimizer": OptimizerSettings(lr=1e-9, warmup_epochs=0)}
    train(tmp_path / "first", init_from=Folder(tmp_path / "ccvit"), **more)
    train(tmp_path / "second", init_from=Folder(tmp_path / "first"), **more)
    for name in ("first", "second"):
        net, about = import_model(Folder(tmp_path / name), "segmenter")
        assert about["settings"]["encoder"] == "beit"
        assert torch.allclose(net.blocks[1].mlp.fc1.weight, trained.blocks[1].mlp.fc1.weight, atol=1e-6)
        assert torch.allclose(net.patch_embed.proj.weight, trained.patch_embed.proj.weight, atol=1e-6)


def test_pixels_are_segmented_with_maps_of_their_source(tmp_path, scenes):
    pixels = PixelSettings(image_size=16, patch_size=4, crop_area=(0.5, 1.0), flip_prob=0.5)
    more = {"images": scenes, "source": camvid_settings(), "pixels": pixels}
    metrics = train(tmp_path / "run", **more)
    assert metrics["val_pixel_accuracy"] > 0.6
    figures = evaluated(tmp_path / "run", images=scenes, source=camvid_settings())
    assert figures["miou"] == pytest.approx(metrics["val_miou"])
    with pytest.raises(ValueError, match=r"images without source.masks"):
        train(tmp_path / "other", **more | {"source": camvid_settings(masks=None, void=None, num_classes=None)})


@pytest.mark.parametrize("layout", ["csv", "parquet", "tar"])
def test_pairs_of_tables_rows_and_tars_are_as_good_as_those_of_folders(tmp_path, trained, tokens, scenes, layout):
    images, settings = write_pairs(Folder(tmp_path / "pairs"), layout, {"train": 24, "val": 6})
    more = {"images": images, "source": SourceSettings(**settings)}
    figures = evaluated(trained[0], tokenizer=tokens.join("tokenizer"), **more)
    assert figures["miou"] == pytest.approx(evaluated(trained[0], dataset=tokens)["miou"])
    if layout == "tar":
        how = {"pixels": PixelSettings(image_size=16, patch_size=4), "loop": replace(LOOP, epochs=2)}
        expected = train(tmp_path / "folders", images=scenes, source=camvid_settings(), **how)
        found = train(tmp_path / "tars", **more, **how)
        assert (found["train_loss"], found["val_miou"]) == (expected["train_loss"], expected["val_miou"])


def test_images_are_evaluated_through_the_tokenizer_and_rejects_are_told(tmp_path, trained, tokens, scenes):
    figures = evaluated(trained[0], images=scenes, source=camvid_settings(), tokenizer=tokens.join("tokenizer"))
    assert figures["miou"] == pytest.approx(evaluated(trained[0], dataset=tokens)["miou"])
    broken = write_camvid(tmp_path / "broken", {"train": 2, "val": 3})
    broken.delete("val/masks/0003.png")
    found = evaluated(trained[0], images=broken, source=camvid_settings(), tokenizer=tokens.join("tokenizer"))
    assert (found["listed"], found["samples"], len(found["rejected"])) == (3, 2, 1)
    assert found["rejected"][0]["key"] == "val/images/0003.png"
    with pytest.raises(ValueError, match="has 4 classes; expected the 3"):
        evaluated(
            trained[0], images=broken, source=camvid_settings(num_classes=4, void=5), tokenizer=tokens.join("tokenizer")
        )


def test_a_dataset_without_maps_is_refused(tmp_path, trained):
    plain = write_dataset(tmp_path / "plain")
    with pytest.raises(ValueError, match=r"has no label maps; expected a token dataset of images with a class a pixel"):
        train(tmp_path / "run", dataset=plain)
    with pytest.raises(ValueError, match="has no label maps"):
        evaluated(trained[0], dataset=plain)


def test_a_sample_of_the_images_is_one_of_val_too(tmp_path, scenes):
    pixels = PixelSettings(image_size=32, patch_size=8, resize="squash", max_images=4, crop_area=None)
    inputs, val, _ = pixel_pairs(scenes, Folder(tmp_path), camvid_settings(), pixels, LOOP, CPU)
    assert (len(inputs.train), inputs.val, len(val)) == (4, None, 4)
    found = [batch for batch in val.batches(3, CPU) if len(batch.rows)]
    assert [row for batch in found for row in batch.rows.tolist()] == [0, 1, 2, 3]
    shares = [list(val.batches(3, World(rank, 2, torch.device("cpu")))) for rank in range(2)]
    assert sum(len(batch.rows) for batches in shares for batch in batches) == 4
