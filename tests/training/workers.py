"""One of several processes that train together: python -m tests.training.workers FOLDER SIZE RANK."""

import sys
from datetime import timedelta
from pathlib import Path

import torch

from seit_ray.evaluation.classification import classification_metrics
from seit_ray.evaluation.masked import masked_metrics
from seit_ray.evaluation.pretraining import objective_metrics
from seit_ray.objectives import MorphedMTMObjective, MTMObjective, SupervisedObjective
from seit_ray.objectives.morph_loss import Morphing
from seit_ray.objectives.morph_targets import AverageTarget
from seit_ray.storage import Folder
from seit_ray.training.world import World
from tests.tiny_trainers import (
    tiny_augmentation,
    tiny_ccvit,
    tiny_classifier,
    tiny_codebook,
    tiny_masked,
    tiny_store,
    tiny_trainer,
)

LOOP = {"global_batch_size": 9, "log_every_steps": 1, "accum_steps": 2, "ema_decay": 0.9}
CASES = ("supervised", "augmented", "mtm", "ccvit", "morphed", "muon")


def cases_of(size):
    """Of four processes, which start slowly, the plainest, and those that have most to agree on."""
    return CASES if size < 4 else ("supervised", "ccvit", "morphed")


def case(name, world):
    """(model, objective, evaluation) of a case; the val split of 23 divides by nothing."""
    val = tiny_store(23, seed=1)
    if name == "mtm":
        masked = MTMObjective(augment=tiny_augmentation(output="codes", cutmix_alpha=0.0))
        return tiny_masked(), masked, lambda net, epoch: masked_metrics(net, val, world, 5)
    if name == "ccvit":
        model, objective = tiny_ccvit()
        return model, objective, lambda net, epoch: objective_metrics(net, objective, val, world, 5)
    if name == "morphed":
        morphing = Morphing(AverageTarget(32), patch_grid=(4, 4), split="random")
        return tiny_masked(morph_dim=32), MorphedMTMObjective(MTMObjective(), morphing), lambda net, epoch: {}
    model, objective = tiny_classifier(), SupervisedObjective(label_smoothing=0.1)
    if name == "augmented":
        model, objective = tiny_classifier(codebook=tiny_codebook()), SupervisedObjective(augment=tiny_augmentation())
    return model, objective, lambda net, epoch: classification_metrics(net, val, 4, world, 5)


def optimizer_of(name):
    """Settings of the optimizer of a case."""
    return {"name": "muon" if name == "muon" else "adamw"}


def main(folder, size, rank):
    """Train every case, with metrics of a val split."""
    Path(folder).mkdir(exist_ok=True)
    if size > 1:
        rendezvous = f"file://{folder}/rendezvous"
        patience = timedelta(seconds=120)
        torch.distributed.init_process_group("gloo", rendezvous, patience, size, rank)
    world = World(rank, size, torch.device("cpu"))
    for name in cases_of(size):
        model, objective, evaluate = case(name, world)
        how = {"loop": LOOP, "optimizer": optimizer_of(name), "world": world}
        tiny_trainer(Folder(folder).join(name), model, objective=objective, evaluate=evaluate, **how).train()
    if size > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
