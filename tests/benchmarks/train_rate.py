"""How much of a machine's rate of matrix products training makes use of, beside a plain eager implementation. No Ray.

python tests/benchmarks/train_rate.py [--size base] [--grid 28] [--codes 391] [--stem 2] [--batch 8] [--rounds 5]
                                      [--plain-batch 8] [--cases mtm,classifier] [--device cpu|cuda] [--loop-steps 0]
python tests/benchmarks/train_rate.py --cases ccvit,dtm,morphed --grid 14 --codes 8192 --stem 1 --batch 4
On a GPU: --device cuda --batch 512 --loop-steps 50 (bf16, torch.compile; what is hoped for is 45 % on an H200).

Forward and backward at the sizes and dropout of SeiT++. Useful is what attention and linear maps need, with nothing
computed twice (PaLM, appendix B). The peak of a CPU is the best of several fp32 matrix products, of squares and of the
model's own sizes, in the same round; that of a GPU is from its data sheet. The plain implementation has the same
weights and masks, but separate q, k and v, softmax(q k) v written out, codes normalised after the look-up, and scores
for all positions of which the loss takes the masked ones. `--loop-steps` runs the whole loop too: data and optimizer.

ccvit: images of grid x 16 pixels, K codes of 16x16; the plain one has timm's unfused attention and scores all patches.
dtm: the student against targets that are at hand; the plain one has dense group matrices, S^T D^-1 S f. morphed: MTM
with targets from its moving average. Of these two it also says what share of the step morphing itself takes.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from seit_ray.augment.random import StepRandom
from seit_ray.batches.store import TokenStore
from seit_ray.models.blocks import Attention
from seit_ray.models.build import build_model
from seit_ray.models.embed import TokenEmbedding
from seit_ray.models.variants import build_size
from seit_ray.objectives import (
    CentroidObjective,
    MorphedMTMObjective,
    MorphingObjective,
    MTMObjective,
    SupervisedObjective,
)
from seit_ray.objectives.contract import Batch
from seit_ray.objectives.morph_loss import Morphing
from seit_ray.objectives.morph_targets import AverageTarget, MorphInputs
from seit_ray.objectives.morphing import draw_schedules, group_means, merge_alike
from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.training.averages import new_average
from seit_ray.training.loop import Trainer
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.throughput import FlopCounter, peak_flops
from seit_ray.training.world import World

OPTIMIZER = {
    "lr": 1e-3,
    "blr": 1e-3,
    "lr_rule": "linear",
    "min_lr": 0.0,
    "warmup_epochs": 0.1,
    "weight_decay": 0.05,
    "betas": (0.9, 0.95),
    "layer_decay": 1.0,
    "clip_grad": None,
}
PATCH = 16  # pixels of a patch of images
MEAN_RATIO = 0.6  # of the published distribution of mask ratios
NUM_PRODUCTS = 3  # of each shape that the peak of a CPU is the best of


class PlainAttention(nn.Module):
    """Attention as one writes it first, [B,L,D] -> [B,L,D], with the weights of a fused one."""

    def __init__(self, fused: Attention):
        super().__init__()
        self.num_heads, self.proj = fused.num_heads, fused.proj
        self.attn_drop, self.proj_drop = nn.Dropout(fused.attention_dropout), nn.Dropout(fused.dropout)
        width = fused.proj.in_features
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        parts = zip(fused.qkv.weight.chunk(3), fused.qkv.bias.chunk(3), strict=True)
        for linear, (weight, bias) in zip((self.query, self.key, self.value), parts, strict=True):
            linear.weight.data, linear.bias.data = weight.detach().clone(), bias.detach().clone()

    def forward(self, x: Tensor, **unused: None) -> Tensor:
        """Softmax of scaled products, times the values; no mask is ever given."""
        heads = (f(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        q, k, v = heads
        weights = self.attn_drop((q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(dim=-1))
        return self.proj_drop(self.proj((weights @ v).transpose(1, 2).flatten(2)))


class PlainEmbedding(TokenEmbedding):
    """Codes are looked up, then normalised one by one."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [...] -> [...,D]."""
        return self.dropout(self.LayerNorm(self.word_embeddings(tokens)))


def plain(model: nn.Module) -> nn.Module:
    """Turn a model into the plain one, in place."""
    for name, module in list(model.named_modules()):
        if isinstance(module, Attention):
            model.get_submodule(name.rpartition(".")[0]).attn = PlainAttention(module)
    for block in getattr(model, "blocks", ()):
        if hasattr(block.attn, "fused_attn"):  # of timm
            block.attn.fused_attn = False
    if isinstance(model.token_emb, TokenEmbedding):
        model.token_emb.__class__ = PlainEmbedding
    return model


class PlainMTM:
    """Masked token modelling that scores all positions and takes the masked ones into the loss."""

    def loss(self, model: nn.Module, batch: Batch, rng: StepRandom) -> tuple[Tensor, dict[str, Tensor]]:
        """As the objectives' own."""
        del rng
        noise = torch.rand(len(batch.inputs), model.num_patches, device=batch.inputs.device)
        logits, mask = model.all_logits(batch.inputs, noise, round(MEAN_RATIO * model.num_patches))
        per_token = F.cross_entropy(logits.transpose(1, 2), batch.inputs, reduction="none")
        wanted = model.tokens_of(mask.unsqueeze(-1).expand(-1, -1, model.unit**2).float())
        return (per_token * wanted).sum() / wanted.sum(), {}


class PlainCentroids(CentroidObjective):
    """CCViT that tells all patches, of which the loss takes those that count."""

    def positions(self, corrupted):
        """All of them, by their scores; `losses` picks."""
        self.counted = super().positions(corrupted)
        return torch.arange(corrupted.masked.shape[1], device=corrupted.masked.device).expand(len(corrupted.masked), -1)

    def judge(self, codes):
        """Scores are wanted."""

    def losses(self, first, second, seen, positions):
        """Of the patches that count."""
        index = self.counted
        chosen = first.gather(1, index[..., None, None].expand(-1, -1, *first.shape[2:]))
        return super().losses(chosen, self.at(second, index), seen, index)


class Held:
    """Targets that are at hand, as of a teacher that takes no time: fixed noise, the same for every step."""

    dim = 512

    def __init__(self, num_patches: int):
        self.values = torch.randn(64, num_patches, self.dim, generator=torch.Generator().manual_seed(0))

    def __call__(self, core, given: MorphInputs, average) -> Tensor:
        """[B,P,512]."""
        return self.values[: len(given.inputs)].to(given.inputs.device)


class DenseMorphing(Morphing):
    """Means over groups as one writes them first: one-hot membership, S^T D^-1 S f."""

    def loss(self, core, predicted: Tensor, given: MorphInputs, rng: StepRandom) -> Tensor:
        """As `Morphing`, with smooth-L1."""
        target, losses = self.target_of(core, given), []
        for groups in self.levels(target, rng):
            member = F.one_hot(groups.ids, groups.num).float().transpose(1, 2)
            mean = member.transpose(1, 2) @ (member / member.sum(2, keepdim=True))
            losses.append(F.smooth_l1_loss(mean @ predicted.float(), mean @ target, beta=2.0))
        return torch.stack(losses).mean()


def morphing_share(core: nn.Module, objective, batch: Batch, clock: Clock, step_s: float) -> str:
    """Seconds of drawing, grouping and comparing alone, of given targets and predictions, beside those of a step."""
    morphing, size = objective.morphing, len(batch.inputs)
    target = torch.randn(size, morphing.num_tokens, morphing.target.dim, device=batch.inputs.device)
    predicted = torch.randn_like(target).requires_grad_()

    def once(step: int) -> None:
        rng = StepRandom(0, step, slice(0, size), size, target.device)
        losses = []
        for schedule in draw_schedules(rng, morphing.num_tokens, **morphing.schedule):
            groups = merge_alike(target, schedule)
            losses.append(F.smooth_l1_loss(group_means(predicted, groups), group_means(target, groups), beta=2.0))
        torch.stack(losses).mean().backward()

    once(0)
    seconds = statistics.mean(clock.seconds(lambda step=step: once(step)) for step in range(1, 11))
    return f"morphing alone {1e3 * seconds:.1f} ms a step of {1e3 * step_s:.0f} ms, {seconds / step_s:.1%}"


class Clock:
    """Seconds of the processor for one thread, so that others on the machine do not count; else of the wall."""

    def __init__(self, device: torch.device):
        self.device = device
        self.now = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter

    def seconds(self, function) -> float:
        """How long a call takes on the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        since = self.now()
        function()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return self.now() - since


def cpu_peak(clock: Clock, width: int, rows: int) -> float:
    """FLOP/s of the best of some fp32 products: squares, and [rows,width] x [width,n] of the model's layers."""
    shapes = [(side, side, side) for side in (1024, 2048)] + [(rows, width, n) for n in (width, 3 * width, 4 * width)]
    best = 0.0
    for m, k, n in shapes:
        a, b = torch.randn(m, k), torch.randn(n, k).t()
        best = max(best, *(2 * m * k * n / clock.seconds(lambda a=a, b=b: a @ b) for _ in range(NUM_PRODUCTS)))
    return best


def pass_of(model: nn.Module, objective, batch: Batch):
    """A call that computes the gradients of one batch."""
    size, device = len(batch.inputs), batch.inputs.device
    autocast = torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else contextlib.nullcontext()

    def forward_and_backward() -> None:
        model.zero_grad(set_to_none=True)
        with autocast:
            loss, _ = objective.loss(model, batch, StepRandom(0, 0, slice(0, size), size, device))
        loss.backward()

    return forward_and_backward


def batch_of(case: str, num: int, options, device: torch.device) -> Batch:
    """Random tokens, or random images for what reads them."""
    if case in ("ccvit", "dtm"):
        side = options.grid * PATCH
        return Batch(torch.randint(256, (num, 3, side, side), dtype=torch.uint8).to(device), None)
    return Batch(torch.randint(options.codes, (num, options.grid**2)).to(device), torch.randint(10, (num,)).to(device))


def compare(case: str, kind: str, settings: dict, objective, plainly, options, world: World) -> None:
    """Time both implementations and the machine beside each other, round by round, and print the medians."""
    device, clock = world.device, Clock(world.device)
    ours, other = (build_model(kind, **settings).to(device).train() for _ in range(2))
    plain(other)
    for each, model in ((objective, ours), (plainly, other)):
        if hasattr(each, "average"):
            each.average = new_average(model)
    batches = [batch_of(case, n, options, device) for n in (options.batch, options.plain_batch)]
    with FlopCounter() as counted, sdpa_kernel(SDPBackend.MATH):  # the fused backward computes products again
        pass_of(ours, objective, batches[0])()
    flops = counted.flops / options.batch
    if device.type == "cuda":
        ours.compile()
    passes = [pass_of(ours, objective, batches[0]), pass_of(other, plainly, batches[1])]
    for each in passes * 2:
        each()
    rows = options.batch * (getattr(ours, "num_patches", 0) + 1)
    rounds = []
    for _ in range(options.rounds):
        peak = peak_flops(device, "bf16") if device.type == "cuda" else cpu_peak(clock, settings["size"].width, rows)
        rates = [n / clock.seconds(each) for each, n in zip(passes, (options.batch, options.plain_batch), strict=True)]
        rounds.append((peak or float("nan"), *rates, *(rate * flops / (peak or float("nan")) for rate in rates)))
    peak, rate, plain_rate, share, plain_share = (statistics.median(values) for values in zip(*rounds, strict=True))
    shares = ", ".join(f"{each[3]:.3f}/{each[4]:.3f}" for each in rounds)
    print(
        f"{case}: {flops / 1e9:.1f} GFLOP a sample; peak {peak / 1e9:,.1f} GFLOP/s; batch {options.batch} {rate:.2f} "
        f"samples/s, useful share {share:.3f}; plain, batch {options.plain_batch} {plain_rate:.2f} samples/s, "
        f"{plain_share:.3f}; rounds (ours/plain) {shares}",
        flush=True,
    )
    if getattr(objective, "morphing", None):
        print(f"{case}: {morphing_share(ours, objective, batches[0], clock, options.batch / rate)}", flush=True)


def loop_figures(kind: str, settings: dict, objective, options, world: World) -> dict[str, float]:
    """The loop's own record of `loop_steps` steps, after a first window of as many."""
    generator = np.random.default_rng(0)
    rows = options.batch * options.loop_steps
    tokens = generator.integers(0, options.codes, (rows, options.grid**2)).astype(np.uint16)
    records: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        Trainer(
            model=build_model(kind, **settings),
            objective=objective,
            store=TokenStore(tokens, generator.integers(0, 10, rows)),
            evaluate=lambda net, epoch: {},
            run=Folder(name),
            loop=LoopSettings(
                epochs=2,
                global_batch_size=options.batch,
                log_every_steps=options.loop_steps,
                compile=world.device.type == "cuda",
                eval_every_epochs=10**6,
                checkpoint_every_epochs=10**6,
            ),
            optimizer=OptimizerSettings(**OPTIMIZER),
            identity={},
            world=world,
            on_metrics=records.append,
        ).train()
    return records[-1]


def image_cases(options, device: torch.device) -> dict[str, tuple[str, dict, object, object]]:
    """CCViT and DTM on images, as published: patches of 16 pixels."""
    grid, side = (options.grid, options.grid), options.grid * PATCH
    pixels = {"size": build_size(options.size), "inputs": "pixels", "grid": (side, side), "kernel": PATCH}
    codebook = torch.rand(options.codes, 3 * PATCH**2, generator=torch.Generator().manual_seed(0))
    coder = CentroidTokenizer(codebook, image_size=side, patch_size=PATCH).to(device)
    masks = {"num_masked": round(options.grid**2 * 75 / 196), "num_replaced": round(options.grid**2 * 20 / 196)}
    centroids = {**pixels, "num_codes": options.codes, "code_dim": 3 * PATCH**2}
    held = Held(options.grid**2)
    return {
        "ccvit": (
            "ccvit",
            centroids,
            CentroidObjective(tokenizer=coder, grid=grid, **masks),
            PlainCentroids(tokenizer=coder, grid=grid, **masks),
        ),
        "dtm": (
            "dtm",
            {**pixels, "output_dim": Held.dim},
            MorphingObjective(Morphing(held, patch_grid=grid)),
            MorphingObjective(DenseMorphing(held, patch_grid=grid)),
        ),
    }


def cases_of(options) -> dict[str, tuple[str, dict, object, object]]:
    """Kind, model settings, objective and plain objective of the cases on tokens."""
    shared = {
        "size": build_size(options.size),
        "grid": (options.grid, options.grid),
        "num_codes": options.codes,
        "token_dim": 32,
        "stem_kernel": options.stem,
        "dropout": 0.1,
    }
    fixed = MTMObjective(mask_ratio_mu=MEAN_RATIO, mask_ratio_std=0.0)
    classifier = {"num_classes": options.classes, "pool": "mean", "drop_path": 0.1}
    units = (options.grid // options.stem,) * 2
    target = AverageTarget(shared["size"].width)
    masked = {**shared, "mask_ratio_min": 0.4}
    return {
        "mtm": ("mtm", masked, fixed, PlainMTM()),
        "classifier": ("classifier", {**shared, **classifier}, SupervisedObjective(), SupervisedObjective()),
        "morphed": (
            "mtm",
            {**masked, "morph_dim": target.dim},
            MorphedMTMObjective(fixed, Morphing(target, patch_grid=units, unit=options.stem)),
            MorphedMTMObjective(fixed, DenseMorphing(target, patch_grid=units, unit=options.stem)),
        ),
    }


def main() -> None:
    """Print shares of the peak for the chosen cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="base")
    parser.add_argument("--cases", default="mtm,classifier")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    numbers = {"grid": 28, "codes": 391, "stem": 2, "batch": 8, "plain-batch": 8, "rounds": 5, "classes": 1000}
    for name, default in {**numbers, "loop-steps": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    world = World(device=torch.device(options.device))
    print(f"{world.device}, {torch.get_num_threads()} threads, torch {torch.__version__}, {vars(options)}", flush=True)
    chosen = options.cases.split(",")
    cases = cases_of(options)
    if {"ccvit", "dtm"} & set(chosen):
        cases |= image_cases(options, world.device)
    for case in chosen:
        kind, settings, objective, plainly = cases[case]
        compare(case, kind, settings, objective, plainly, options, world)
        if options.loop_steps and case in ("mtm", "classifier"):
            found = loop_figures(kind, settings, objective, options, world)
            share = found.get("mfu", float("nan"))
            print(f"{case}: loop {found['samples_per_s']} samples/s, useful share {share:.1%}, {found}", flush=True)


if __name__ == "__main__":
    main()
