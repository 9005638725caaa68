"""One of several processes that train a tokenizer: python -m tests.tokenizers.vit_vqgan.workers FOLDER SIZE RANK."""

import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch

from seit_ray.models.weights import save_weights
from seit_ray.objectives.autoencoder import AutoencoderObjective
from seit_ray.storage import Folder
from seit_ray.tokenizers.vit_vqgan.discriminator import PatchDiscriminator
from seit_ray.training.world import World
from tests.pixel_store import PixelStore
from tests.tiny_trainers import CPU, comparable, tiny_trainer
from tests.tokenizers.vit_vqgan.tiny import smooth_images, tiny_training

LOOP = {"epochs": 4, "global_batch_size": 12, "log_every_steps": 1}


def image_trainer(run, update, *, loop=None, world=CPU, revive_steps=4):
    """A trainer of a tiny autoencoder with more codes than it uses, and a discriminator: 12 steps."""
    torch.manual_seed(0)
    model = tiny_training(update, discriminator=PatchDiscriminator(4, 2), codebook_size=48)
    rows = [model.weight.data, model.code_sums] if update == "ema" else [model.weight.data]
    for table in rows:
        table[::3] = -table[1].clone()  # a third of the codes where no vector is
    return tiny_trainer(
        run,
        model,
        objective=AutoencoderObjective(revive_steps=revive_steps),
        store=PixelStore(smooth_images(36, 8, seed=1).numpy(), np.full(36, -1)),
        evaluate=lambda *_: {},
        loop={**LOOP, **(loop or {})},
        optimizer={"layer_decay": 1.0},
        world=world,
    )


def steady_metrics(run):
    """The run's records, without those that rounding decides.

    While all logits are within the hinge's margin, its gradient of the discriminator's last bias is zero up to
    rounding, which Adam scales up; the adversarial loss is off by that bias.
    """
    noisy = ("train_adversarial_loss", "train_loss")
    return [[v for k, v in sorted(record.items()) if k not in noisy] for record in comparable(run)]


def main(folder, size, rank):
    """Train in each way in which a codebook learns, and with accumulation; write what this process ends with."""
    Path(folder).mkdir(exist_ok=True)
    if size > 1:
        rendezvous = f"file://{folder}/rendezvous"
        torch.distributed.init_process_group("gloo", rendezvous, timedelta(seconds=120), size, rank)
    for name, update, accum_steps in (("gradient", "gradient", 1), ("ema", "ema", 1), ("parts", "ema", 4)):
        run = Folder(folder).join(name)
        world = World(rank, size, torch.device("cpu"))
        trainer = image_trainer(run, update, loop={"accum_steps": accum_steps}, world=world)
        trainer.train()
        run.write(f"rank-{rank}.safetensors", save_weights(trainer.model))
    if size > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
