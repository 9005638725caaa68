"""A tiny classifier, masked model, store and trainer, with every setting open."""

from dataclasses import dataclass

import numpy as np
import torch

from seit_ray.augment.chain import Augment
from seit_ray.batches.batch import Batch
from seit_ray.batches.store import TokenStore
from seit_ray.evaluation.classification import classification_metrics
from seit_ray.models.build import build_model
from seit_ray.models.embed import CodebookEmbedding, TokenEmbedding
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.models.variants import Size
from seit_ray.models.vit import TokenViT
from seit_ray.objectives import CentroidObjective, SupervisedObjective
from seit_ray.objectives.morph_loss import Morphing
from seit_ray.objectives.morph_targets import CodebookTarget
from seit_ray.training.loop import Trainer
from seit_ray.training.metrics import read_metrics
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.throughput import SPEED
from seit_ray.training.world import World
from tests.tiny_dataset import NUM_CLASSES, NUM_CODES, SIDE, learnable_rows, tiny_tokenizer

SIZE = Size(32, 2, 2, decoder_width=16, decoder_depth=1, decoder_num_heads=2)
CPU = World(device=torch.device("cpu"))
LOOP = {"epochs": 2, "global_batch_size": 16, "log_every_steps": 3}
OPTIMIZER = {
    "lr": 3e-3,
    "blr": 1e-3,
    "lr_rule": "linear",
    "min_lr": 0.0,
    "warmup_epochs": 0.5,
    "weight_decay": 0.05,
    "betas": (0.9, 0.95),
    "layer_decay": 0.9,
    "clip_grad": 1.0,
}


def tiny_store(num=64, seed=0):
    """Learnable rows in memory."""
    rows = learnable_rows(num, seed=seed)
    return TokenStore(rows.tokens, rows.meta["label"].to_numpy().astype("int64"))


@dataclass(frozen=True)
class DamagedStore(TokenStore):
    """Rows of which those of the numbers `lost` cannot be read."""

    lost: tuple[int, ...] = ()

    def batch(self, rows, device):
        """Those of the rows that can be."""
        whole, read = super().batch(rows, device), ~np.isin(np.arange(len(self))[rows], self.lost)
        if read.all():
            return whole
        places = torch.from_numpy(read.nonzero()[0])
        return Batch(whole.inputs[places], whole.labels[places], places)


def damaged(store, lost):
    """The store, of which some rows cannot be read."""
    return DamagedStore(store.tokens, store.labels, lost=tuple(lost))


def tiny_codebook():
    """Codes as wide as the embedding of `tiny_classifier`."""
    return torch.randn(NUM_CODES, 8, generator=torch.Generator().manual_seed(5))


def tiny_classifier(*, seed=0, dropout=0.0, drop_path=0.0, codebook=None):
    """A seeded vision transformer of 4x4 tokens; it reads rows of the codebook, if there is one."""
    torch.manual_seed(seed)
    return TokenViT(
        grid=(SIDE, SIDE),
        num_classes=NUM_CLASSES,
        size=SIZE,
        embedding=TokenEmbedding(NUM_CODES, 8, dropout) if codebook is None else CodebookEmbedding(codebook),
        kernel=2,
        stride=2,
        drop_path=drop_path,
    )


def tiny_augmentation(**settings):
    """The chain of SeiT with all that mixes samples, on the grid with `tiny_codebook`."""
    chosen = {"random_crop": True, "swap_prob": 0.25, "noise_prob": 0.25, "color_adapt_prob": 0.5, "cutmix_alpha": 1.0}
    return Augment(tiny_codebook(), grid=(SIDE, SIDE), **{**chosen, **settings})


def tiny_masked(*, seed=0, **more):
    """A seeded masked token model of 4x4 tokens."""
    torch.manual_seed(seed)
    return MaskedTokenModel(
        grid=(SIDE, SIDE), num_codes=NUM_CODES, size=SIZE, token_dim=8, unit=1, **{"dropout": 0.0, **more}
    )


def tiny_ccvit(*, seed=0):
    """A seeded model of CCViT on 4x4 centroids of a pixel each, and its objective, which morphs too."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    codes = {"num_codes": NUM_CODES, "code_dim": 3, "inputs": "codebook", "codebook": tokenizer.codebook}
    model = build_model("ccvit", size=SIZE, grid=(SIDE, SIDE), kernel=1, head_layers=1, morph_dim=3, **codes)
    settings = {"grid": (SIDE, SIDE), "sees": "codebook", "replace": "near", "num_masked": 6, "num_replaced": 2}
    morphing = Morphing(CodebookTarget(tokenizer.codebook, 1), patch_grid=(SIDE, SIDE))
    return model, CentroidObjective(tokenizer=tokenizer, num_near=4, **settings).changed(None, morphing)


def tiny_trainer(run, model=None, *, objective=None, store=None, loop=None, optimizer=None, **more):
    """A trainer of the tiny classifier; `loop` and `optimizer` change single settings."""
    settings = {
        "model": model or tiny_classifier(),
        "objective": objective or SupervisedObjective(),
        "store": store or tiny_store(),
        "evaluate": lambda net, epoch: {},
        "run": run,
        "loop": LoopSettings(**{**LOOP, **(loop or {})}),
        "optimizer": OptimizerSettings(**{**OPTIMIZER, **(optimizer or {})}),
        "identity": {"tokenizer": "0123456789abcdef"},
        "world": CPU,
    }
    return Trainer(**{**settings, **more})


def take_step(trainer, step):
    """One step of a trainer, by itself."""
    trainer.step(trainer.model, step, trainer.host_parts(step))


def evaluation(net, epoch):
    """Metrics of a val split of 24 samples."""
    return {f"val_{k}": v for k, v in classification_metrics(net, tiny_store(24, seed=1), 4, CPU).items()}


def noisy_trainer(run, **more):
    """Everything that could make a continued run differ: dropout, drop path, EMA, clipping, evaluation.

    It has 14 steps, in epochs of 3.5.
    """
    settings = {"loop": {"epochs": 4, "ema_decay": 0.9}, "store": tiny_store(56), "evaluate": evaluation}
    return tiny_trainer(run, tiny_classifier(dropout=0.2, drop_path=0.3), **{**settings, **more})


def comparable(run):
    """The run's records without their speed."""
    return [without_speed(record) for record in read_metrics(run)]


def without_speed(record):
    """A record without what depends on the clock and the machine."""
    return {k: v for k, v in record.items() if k not in SPEED}


def losses(run):
    """The training losses of the run's records."""
    return [record["train_loss"] for record in read_metrics(run)]
