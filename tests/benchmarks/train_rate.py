"""How much of a machine's rate of matrix products training makes use of, beside a plain eager implementation. No Ray.

python tests/benchmarks/train_rate.py [--size base] [--grid 28] [--codes 391] [--stem 2] [--batch 8] [--rounds 5]
                                      [--plain-batch 8] [--cases mtm,classifier] [--device cpu|cuda] [--loop-steps 0]
On a GPU: --device cuda --batch 512 --loop-steps 50 (bf16, torch.compile; what is hoped for is 45 % on an H200).

Forward and backward at the sizes and dropout of SeiT++. Useful is what attention and linear maps need, with nothing
computed twice (PaLM, appendix B). The peak of a CPU is the best of several fp32 matrix products, of squares and of the
model's own sizes, in the same round; that of a GPU is from its data sheet. The plain implementation has the same
weights and masks, but separate q, k and v, softmax(q k) v written out, codes normalised after the look-up, and scores
for all positions of which the loss takes the masked ones. `--loop-steps` runs the whole loop too: data and optimizer.
"""

import argparse
import contextlib
import statistics
import tempfile
import time

import numpy as np
import torch
from timm.layers import Attention
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from seit_ray.augment.random import StepRandom
from seit_ray.batches.store import TokenStore
from seit_ray.models.embed import TokenEmbedding
from seit_ray.models.exports import build_model
from seit_ray.models.variants import build_size
from seit_ray.objectives import MTMObjective, SupervisedObjective
from seit_ray.objectives.contract import Batch
from seit_ray.storage import Folder
from seit_ray.training.loop import Trainer
from seit_ray.training.throughput import counting_flops, peak_flops
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
MEAN_RATIO = 0.6  # of the published distribution of mask ratios
NUM_PRODUCTS = 3  # of each shape that the peak of a CPU is the best of


class PlainAttention(nn.Module):
    """Attention as one writes it first, [B,L,D] -> [B,L,D], with the weights of a fused one."""

    def __init__(self, fused: Attention):
        super().__init__()
        self.num_heads, self.proj = fused.num_heads, fused.proj
        self.attn_drop, self.proj_drop = fused.attn_drop, fused.proj_drop
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


def compare(kind: str, settings: dict, objective, options, world: World) -> None:
    """Time both implementations and the machine beside each other, round by round, and print the medians."""
    device, clock = world.device, Clock(world.device)
    ours, other = (build_model(kind, **settings).to(device).train() for _ in range(2))
    plainly = PlainMTM() if kind == "mtm" else objective
    batches = [
        Batch(torch.randint(options.codes, (n, options.grid**2)).to(device), torch.randint(10, (n,)).to(device))
        for n in (options.batch, options.plain_batch)
    ]
    with counting_flops() as counted, sdpa_kernel(SDPBackend.MATH):  # the fused backward computes products again
        pass_of(ours, objective, batches[0])()
    flops = counted.flops / options.batch
    if device.type == "cuda":
        ours.compile()
    passes = [pass_of(ours, objective, batches[0]), pass_of(plain(other), plainly, batches[1])]
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
        f"{kind}: {flops / 1e9:.1f} GFLOP a sample; peak {peak / 1e9:,.1f} GFLOP/s; batch {options.batch} {rate:.2f} "
        f"samples/s, useful share {share:.3f}; plain, batch {options.plain_batch} {plain_rate:.2f} samples/s, "
        f"{plain_share:.3f}; rounds (ours/plain) {shares}",
        flush=True,
    )


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
            loop={
                "epochs": 2,
                "global_batch_size": options.batch,
                "log_every_steps": options.loop_steps,
                "compile": world.device.type == "cuda",
                "eval_every_epochs": 10**6,
                "checkpoint_every_epochs": 10**6,
            },
            optimizer=OPTIMIZER,
            identity={},
            world=world,
            on_metrics=records.append,
        ).train()
    return records[-1]


def cases_of(options) -> dict[str, tuple[dict, object]]:
    """Model settings and objective by kind."""
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
    return {
        "mtm": ({**shared, "mask_ratio_min": 0.4}, fixed),
        "classifier": ({**shared, **classifier}, SupervisedObjective()),
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
    for kind, (settings, objective) in cases_of(options).items():
        if kind in options.cases.split(","):
            compare(kind, settings, objective, options, world)
            if options.loop_steps:
                found = loop_figures(kind, settings, objective, options, world)
                share = found.get("mfu", float("nan"))
                print(f"{kind}: loop {found['samples_per_s']} samples/s, useful share {share:.1%}, {found}", flush=True)


if __name__ == "__main__":
    main()
