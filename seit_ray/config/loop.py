"""Keys of the loop of a training, and of its optimiser."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from seit_ray.config.sections import Decay, NonNegativeFloat, PositiveFloat, PositiveInt, PositiveShare, Section, Seed
from seit_ray.config.training import Probe

# Metrics of the val split, by what is trained
EVALUATED = {
    "mtm": ("loss", "masked_accuracy"),
    "ccvit": ("loss", "masked_accuracy", "code_loss", "pixel_loss", "morph_loss"),
    "dtm": ("loss", "morph_loss"),
    "classify": ("loss", "top1", "top5"),
    "segment": ("miou", "mean_accuracy", "pixel_accuracy"),
    "vit_vqgan": ("psnr_db", "code_usage", "quantizer_loss"),
    "tokenadapt": (
        *("loss", "hit_rate", "naive_hit_rate", "reencoded_hit_rate"),
        *("psnr_db", "naive_psnr_db", "reencoded_psnr_db", "bound_psnr_db"),
    ),
}


class Optimizer(Section):
    """AdamW, or Muon, with linear warm-up and half-cosine decay, per step."""

    frozen = "seit_ray.training.settings:OptimizerSettings"

    name: Literal["adamw", "muon"] = Field(
        "adamw",
        description="muon: orthogonal steps for the matrices of the blocks (arXiv 2502.16982), AdamW for the rest",
    )
    lr: PositiveFloat | None = Field(None, description="peak learning rate; overrides blr")
    blr: PositiveFloat = Field(1.5e-4, description="base rate, scaled by lr_rule")
    lr_rule: Literal["linear", "sqrt"] = Field(
        "linear", description="lr = blr * global_batch_size / 256, or blr * sqrt(global_batch_size) / 8"
    )
    schedule: Literal["warmup_cosine", "warmup_linear", "seit_epochs"] = Field(
        "warmup_cosine", description="per step; or a rate an epoch, an epoch late, as SeiT was published"
    )
    min_lr: NonNegativeFloat = Field(0.0, description="rate at the end")
    warmup_epochs: NonNegativeFloat = Field(40, description="epochs of linear warm-up")
    warmup_lr: NonNegativeFloat = Field(0.0, description="rate at the start of the warm-up")
    weight_decay: NonNegativeFloat = Field(0.05, description="decoupled decay; none on 1-D parameters")
    decay_positions: bool = Field(True, description="weight decay on positions and class token too")
    betas: tuple[Decay, Decay] = Field((0.9, 0.95), description="AdamW betas")
    layer_decay: PositiveShare = Field(1.0, description="rate falls by this a layer down")
    token_emb_last: bool = Field(
        False, description="token embedding at the full rate, beside the head, as SeiT++ was published"
    )
    clip_grad: PositiveFloat | None = Field(None, description="largest gradient norm; none when left out")


class FinetuneOptimizer(Optimizer):
    """AdamW as SeiT++ fine-tunes."""

    blr: PositiveFloat = Field(1e-3, description="base rate, scaled by lr_rule")
    lr_rule: Literal["linear", "sqrt"] = Field("sqrt", description=Optimizer.model_fields["lr_rule"].description)
    min_lr: NonNegativeFloat = Field(1e-6, description="rate at the end")
    warmup_epochs: NonNegativeFloat = Field(5, description="epochs of linear warm-up")
    weight_decay: NonNegativeFloat = Field(0.1, description="decoupled decay; none on 1-D parameters")
    decay_positions: bool = Field(False, description="weight decay on positions and class token too")
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="AdamW betas")
    layer_decay: PositiveShare = Field(0.65, description="rate falls by this a layer down")


class Loop(Section):
    """How long, in what batches, how often to look."""

    frozen = "seit_ray.training.settings:LoopSettings"
    undecided = frozenset(  # how often it is evaluated is compared by the run itself, where it keeps the best weights
        {
            *("accum_steps", "max_micro_batch", "compile", "memory_gib", "max_skipped_steps", "log_every_steps"),
            *("checkpoint_every_epochs", "checkpoint_every_steps", "checkpoint_every_minutes", "keep_checkpoints"),
            *("eval_every_epochs", "trackers"),
        }
    )

    epochs: PositiveInt = Field(400, description="passes over the train split")
    global_batch_size: PositiveInt = Field(4096, description="samples a step over all workers")
    accum_steps: PositiveInt = Field(1, description="micro-batches a step")
    max_micro_batch: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="most samples a worker holds at once: more micro-batches where it has more; default all, on a GPU "
        "the largest power of two that fits",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on GPU, fp32 on CPU")
    tf32: bool = Field(True, description="fp32 products of a GPU in TF32")
    compile: bool | None = Field(None, description="torch.compile the blocks of the model; default on a GPU alone")
    ema_decay: Decay = Field(
        0.0, description="exponential moving average of the weights, evaluated beside them; 0 = off"
    )
    seed: Seed = Field(0, description="initial weights, order of samples, masks, dropout")
    max_skipped_steps: PositiveInt = Field(
        10, description="steps whose loss or gradients are not finite are skipped; so many in a row end the run"
    )
    log_every_steps: PositiveInt = Field(50, description="metrics leave the device this often")
    eval_every_epochs: PositiveInt | None = Field(
        None,
        description="evaluation on the val split; default 1, on a GPU a twentieth of the epochs, 5 at most, unless "
        "keep_best is set",
    )
    checkpoint_every_epochs: PositiveInt = Field(1, description="checkpoint interval")
    checkpoint_every_steps: PositiveInt | None = Field(None, description="checkpoints between the epochs' too")
    checkpoint_every_minutes: PositiveFloat | None = Field(None, description="and so long after the last one")
    keep_checkpoints: PositiveInt = Field(2, description="checkpoints to keep")
    keep_best: str | None = Field(
        None, description="also keep the weights that were best by this metric (val_top1, val_loss, ema_val_top1, ...)"
    )
    memory_gib: PositiveFloat | None = Field(
        None,
        description="memory of a node for each split, or for all images; what is larger is streamed; half if left out",
    )
    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = Field(
        ("tensorboard",), description="where metrics are shown live, beside metrics.jsonl"
    )


def refuse_seed(key: str, seed: int, instead: str = "seeds, one for each trial") -> None:
    """ValueError for a seed of a part, all of which have theirs from another key."""
    if seed:
        name = instead.partition(",")[0]
        raise ValueError(f"{key} {seed}; expected none, as the seed comes from {instead}; drop it, and set {name}")


def check_schedule(loop: Loop, optimizer: Optimizer) -> None:
    """ValueError where the warm-up would not end before the training does, or the rate would end above its peak."""
    optimizer.settings().check_schedule(loop.epochs, loop.global_batch_size)


def check_no_layers(optimizer: Optimizer, what: str) -> None:
    """ValueError for rates that fall by the layer of a model that is not trained so."""
    for name in ("layer_decay", "token_emb_last"):
        value, default = getattr(optimizer, name), Optimizer.model_fields[name].default
        if value != default:
            raise ValueError(f"optimizer.{name} {value} of {what}; expected {default}, since it has no layers to go by")


def reported(loop: Loop, kind: str, methods: Iterable[str] = ()) -> list[str]:
    """The metrics of a training of a kind of `EVALUATED`, with those probes."""
    looked = [f"val_{name}" for name in EVALUATED[kind]]
    looked += [f"probe_{method}" if method == "rankme" else f"probe_{method}_top1" for method in methods]
    return ["train_loss", *looked, *(f"ema_{name}" for name in looked if loop.ema_decay)]


def check_metric(metric: str, known: list[str], what: str) -> None:
    """ValueError for a metric that is not known, in words of what names it."""
    if metric not in known:
        near = difflib.get_close_matches(metric, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
        raise ValueError(f"{what}; {hint}")


def check_best(loop: Loop, kind: str, probe: Probe | None = None) -> None:
    """ValueError where the best weights are chosen by what the evaluations of a training of this kind do not give."""
    if loop.keep_best is not None:
        check_metric(
            loop.keep_best, reported(loop, kind, probe.methods if probe else ()), f"loop.keep_best {loop.keep_best}"
        )


def check_deciding_probe(loop: Loop, probe: Probe) -> None:
    """ValueError where the best weights are chosen by a probe that some evaluation lacks."""
    evaluated = loop.eval_every_epochs or 1  # as `LoopSettings.eval_interval` has it where the best are kept
    if loop.keep_best and "probe_" in loop.keep_best and not 0 < probe.every_epochs <= evaluated:
        raise ValueError(
            f"probe.every_epochs {probe.every_epochs} with loop.keep_best {loop.keep_best} and an evaluation every "
            f"{evaluated} epochs; expected a probe at each of them; set loop.eval_every_epochs and probe.every_epochs "
            "to one number"
        )


class FinetuneLoop(Loop):
    """The fine-tuning of SeiT++."""

    epochs: PositiveInt = Field(100, description="passes over the train split")
    global_batch_size: PositiveInt = Field(1024, description="samples a step over all workers")
