"""Training a ViT-VQGAN: images in, a tokenizer out that encodes, decodes and resumes."""

import numpy as np
import pytest
import torch
from safetensors.torch import save

from seit_ray import config
from seit_ray.batches.images import open_images
from seit_ray.images.decoded import Decoding
from seit_ray.images.manifest import load_manifest
from seit_ray.runs.vit_vqgan import train_vit_vqgan
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.tokenizers.reconstruction import psnr
from seit_ray.training.metrics import read_metrics
from tests.tiny_images import image_files, write_files
from tests.tiny_trainers import CPU, without_speed

SIZES = {
    "image_size": 16,
    "patch_size": 4,
    "codebook_size": 16,
    "code_width": 8,
    "size": "nano",
    "width": 32,
    "depth": 1,
    "num_heads": 1,
    "mlp_width": 64,
    "revive_steps": 5,
}
LOOP = {"epochs": 6, "global_batch_size": 8, "log_every_steps": 5}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    files = {f"train/{name}": data for name, data in image_files(48).items()}
    files |= {f"val/{name}": data for name, data in image_files(12, first=48).items()}
    return write_files(tmp_path_factory.mktemp("pictures"), files)


def train(images, run, *, loop=None, **changes):
    return train_vit_vqgan(
        images=images,
        source=config.Source().settings(),
        run=run,
        vit_vqgan=config.VitVqgan(**{**SIZES, **changes}).settings(),
        val_fraction=0.0,
        seed=0,
        loop=config.VqganLoop(**{**LOOP, **(loop or {})}).settings(),
        optimizer=config.VqganOptimizer(lr=3e-3, warmup_epochs=0.5).settings(),
        world=CPU,
    )


def test_it_learns_and_leaves_a_tokenizer(images, tmp_path):
    run = Folder(tmp_path / "vqgan")
    metrics = train(images, run, loop={"epochs": 20})
    records = [record["val_psnr_db"] for record in read_metrics(run) if "val_psnr_db" in record]
    assert records[-1] > records[0] + 1
    assert metrics["val_code_usage"] > 0.3
    tokenizer, about = load_tokenizer(run)
    assert (tokenizer.family, tokenizer.grid, len(tokenizer.codebook)) == ("vit_vqgan", (4, 4), 16)
    assert about["report"]["images"] == 48
    manifest = load_manifest(run.join("listing"))
    pixels = open_images(manifest, images, Decoding(16, "squash"))["val"].host_batch(slice(0, 12)).inputs
    found = psnr(pixels, tokenizer.decode(tokenizer.encode(pixels)))
    assert found == pytest.approx(metrics["val_psnr_db"], abs=0.2)  # decode rounds to bytes


@pytest.mark.parametrize(
    "change", [{"codebook_update": "ema"}, {"adversarial_weight": 0.1}, {"init_images": 0}, {"revive_steps": 0}]
)
def test_every_way_of_training_differs(images, tmp_path, change):
    plain, changed = (train(images, Folder(tmp_path / name), **more) for name, more in (("a", {}), ("b", change)))
    assert np.isfinite(changed["train_loss"])
    assert plain["val_psnr_db"] != changed["val_psnr_db"]
    assert ("train_discriminator_loss" in changed) == ("adversarial_weight" in change)


def test_a_continued_training_ends_alike(images, tmp_path):
    whole, parts = Folder(tmp_path / "whole"), Folder(tmp_path / "parts")
    expected = train(images, whole)

    class Stop(Exception):
        """What ends the first part."""

    def stop(record):
        if record["epoch"] >= 3:
            raise Stop

    with pytest.raises(Stop):
        train_with_metrics(images, parts, stop)
    found = train(images, parts)
    assert without_speed(found) == without_speed(expected)
    assert parts.read("tokenizer.safetensors") == whole.read("tokenizer.safetensors")


def train_with_metrics(images, run, on_metrics):
    return train_vit_vqgan(
        images=images,
        source=config.Source().settings(),
        run=run,
        vit_vqgan=config.VitVqgan(**SIZES).settings(),
        val_fraction=0.0,
        seed=0,
        loop=config.VqganLoop(**LOOP).settings(),
        optimizer=config.VqganOptimizer(lr=3e-3, warmup_epochs=0.5).settings(),
        world=CPU,
        on_metrics=on_metrics,
    )


def test_a_feature_network_of_timm_compares_images(images, tmp_path):
    import timm

    torch.manual_seed(0)
    network = timm.create_model("test_resnet", pretrained=False)
    (tmp_path / "features.safetensors").write_bytes(save(network.state_dict()))
    named = {"perceptual_network": "test_resnet", "perceptual_weights": str(tmp_path / "features.safetensors")}
    metrics = train(images, Folder(tmp_path / "run"), loop={"epochs": 1}, **named)
    assert metrics["train_perceptual_loss"] > 0
    with pytest.raises(ValueError, match="perceptual_network 'no_such'; expected a model of timm"):
        train(images, Folder(tmp_path / "other"), **{**named, "perceptual_network": "no_such"})
    with pytest.raises(ValueError, match="weights that differ in"):
        train(images, Folder(tmp_path / "other"), **{**named, "perceptual_network": "test_vit"})
    with pytest.raises(ValueError, match="without perceptual_weights"):
        train(images, Folder(tmp_path / "none"), perceptual_network="test_resnet")
