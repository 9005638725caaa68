"""The run that trains a ViT-VQGAN: images in, tokenizer out. Plain keyword arguments, no Ray."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seit_ray.batches.contract import SampleStore
from seit_ray.batches.images import ImageStream
from seit_ray.evaluation.autoencoder import autoencoder_metrics
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.models.weights import load_named
from seit_ray.objectives.autoencoder import AutoencoderObjective
from seit_ray.progress import Progress, silent
from seit_ray.runs.contents import file_mark
from seit_ray.runs.inputs import image_streams, val_of
from seit_ray.runs.settings import VqganSettings
from seit_ray.runs.vqgan_checks import SIZE_KEYS, check_vqgan
from seit_ray.storage import Folder, split_uri
from seit_ray.tokenizers.files import save_tokenizer
from seit_ray.tokenizers.fit_numbers import build_vqgan_size
from seit_ray.tokenizers.vit_vqgan.discriminator import PatchDiscriminator
from seit_ray.tokenizers.vit_vqgan.network import VitVqgan
from seit_ray.tokenizers.vit_vqgan.published import read_state_dict
from seit_ray.tokenizers.vit_vqgan.training import VqganTrainingModel
from seit_ray.training.identity import CONTENTS
from seit_ray.training.loop import Trainer
from seit_ray.training.replay import replay_step
from seit_ray.training.requests import Hooks
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.world import World

NETWORK_KEYS = ("image_size", "patch_size", "codebook_size", "code_width")
CODEBOOK_KEYS = ("codebook_update", "codebook_decay")
OBJECTIVE_KEYS = (
    "reconstruction_weight",
    "quantizer_weight",
    "perceptual_weight",
    "adversarial_weight",
    "adversarial_start_step",
    "revive_steps",
)


class TimmFeatures(nn.Module):
    """Feature maps [B,C,h,w] of images [B,3,H,W] in [0,1], by a timm model at its own input size and scaling."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, state: dict[str, Tensor]) -> None:
        super().__init__()
        import timm  # takes seconds, and few name a network

        network: Any = timm.create_model(name, pretrained=False)
        load_named(network, state)
        self.network, config = network, network.pretrained_cfg
        self.size = config["input_size"][-2:]
        for what in ("mean", "std"):
            self.register_buffer(what, torch.tensor(config[what]).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        resized = F.interpolate(images, self.size, mode="bilinear", align_corners=False, antialias=True)
        return self.network.forward_features((resized - self.mean) / self.std)


def perceptual_of(settings: VqganSettings, folder: Folder) -> nn.Module | None:
    """The network that images are compared by, with its weights; None where none is named."""
    name, weights = settings.perceptual_network, settings.perceptual_weights
    if name is None or weights is None:  # `check_vqgan` has asked for both
        return None
    place, file = split_uri(weights)
    return TimmFeatures(name, read_state_dict(folder.at(place).read(file)))


def perceptual_contents(settings: VqganSettings, folder: Folder) -> dict[str, str]:
    """The mark of that network's weights, where one is named."""
    if settings.perceptual_network is None or settings.perceptual_weights is None:
        return {}
    place, file = split_uri(settings.perceptual_weights)
    return {"vit_vqgan.perceptual_weights": file_mark(folder.at(place), file)}


def build_training_model(settings: VqganSettings) -> VqganTrainingModel:
    """The autoencoder and, where the adversarial loss has a weight, its discriminator."""
    size = build_vqgan_size(settings.size, **{key: getattr(settings, key) for key in SIZE_KEYS})
    network = VitVqgan(**{key: getattr(settings, key) for key in NETWORK_KEYS}, encoder=size)
    judge = PatchDiscriminator(settings.discriminator_width, settings.discriminator_layers)
    return VqganTrainingModel(
        network,
        **{key: getattr(settings, key) for key in CODEBOOK_KEYS},
        discriminator=judge if settings.adversarial_weight else None,
    )


def train_vit_vqgan(
    *,
    images: Folder,
    source: SourceSettings,
    run: Folder,
    vit_vqgan: VqganSettings,
    val_fraction: float,
    seed: int,
    loop: LoopSettings,
    optimizer: OptimizerSettings,
    world: World,
    **hooks: Unpack[Hooks],
) -> dict[str, Any]:
    """Train and save a tokenizer into `run`; the last metrics, on every rank.

    `seed` draws the hold-out and the sample of `max_images`. A source without a train split is a ValueError.
    """
    check_vqgan(vit_vqgan, run)
    progress = hooks.get("on_progress", silent)
    streams = streams_of(images, source, run, vit_vqgan, val_fraction, seed, loop, world, progress)
    train, val = streams["train"], val_of(streams)
    model = started_model(vit_vqgan, train, loop.seed)
    perceptual = perceptual_of(vit_vqgan, run)
    objective = AutoencoderObjective(perceptual=perceptual, **{key: getattr(vit_vqgan, key) for key in OBJECTIVE_KEYS})

    def evaluate(net: VqganTrainingModel, done: int) -> dict[str, float]:
        values = autoencoder_metrics(net, val, world) if val else {}
        return {"val_" + name: value for name, value in values.items()}

    identity = {"kind": "vit_vqgan", "images": images.uri, "vit_vqgan": asdict(vit_vqgan)}
    trainer = Trainer(
        model=model,
        objective=objective,
        store=train,
        evaluate=evaluate,
        run=run,
        loop=loop,
        optimizer=optimizer,
        identity={**identity, CONTENTS: perceptual_contents(vit_vqgan, run)},
        world=world,
        **hooks,
    )
    if trainer.replay is not None:
        return replay_step(trainer, trainer.replay)
    metrics = trainer.train()
    if world.is_main:
        if trainer.ema:
            model.load_state_dict(trainer.ema)
        report = {"images": len(train), "metrics": metrics}
        save_tokenizer(model.to_tokenizer(vit_vqgan.resize), run, report)
    return metrics


def streams_of(
    images: Folder,
    source: SourceSettings,
    run: Folder,
    settings: VqganSettings,
    val_fraction: float,
    seed: int,
    loop: LoopSettings,
    world: World,
    on_progress: Progress,
) -> dict[str, ImageStream]:
    """The images of every split, at the size of the tokenizer."""
    return image_streams(
        images,
        run,
        source=source,
        image_size=settings.image_size,
        resize=settings.resize,
        val_fraction=val_fraction,
        seed=seed,
        max_images=settings.max_images,
        world=world,
        memory_gib=loop.memory_gib,
        on_progress=on_progress,
    )


def started_model(settings: VqganSettings, train: SampleStore, seed: int) -> VqganTrainingModel:
    """The seeded model, whose codebook begins from vectors of the first images."""
    torch.manual_seed(seed)
    model = build_training_model(settings)
    if settings.init_images:
        some = slice(0, min(settings.init_images, len(train)))
        model.init_codebook(train.host_batch(some).inputs, seed=seed)
    return model
