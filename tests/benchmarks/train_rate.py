"""What the training loop makes of a machine: samples/s and the share of its peak rate that is useful (MFU). No Ray.

python tests/benchmarks/train_rate.py [--size base] [--grid 32] [--codes 391] [--stem 2] [--batch 32] [--steps 2]
                                      [--plain-batch 8] [--cases mtm,classifier] [--device cpu|cuda] [--compile]
On a GPU: --device cuda --batch 1024 --steps 30 --compile (bf16).

Beside it a plain eager loop as one writes it first: samples collated one by one, an optimizer that goes through the
parameters one by one, the loss read every step, fp32, `--plain-batch` samples. Both train the same model, so the
operations of a sample are the same, and the ratio of the rates is that of the useful shares. The peak of a CPU is
measured (best of some 1024^3 fp32 products, with as many threads); that of a GPU is from its data sheet.
"""

import argparse
import tempfile
import time

import numpy as np
import torch

from seit_ray.batches import TokenStore
from seit_ray.models import build_size
from seit_ray.objectives import MTMObjective, SupervisedObjective
from seit_ray.storage import Folder
from seit_ray.training.exports import build_model
from seit_ray.training.loop import Trainer
from seit_ray.training.throughput import peak_flops
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


def plain_rate(kind: str, model: torch.nn.Module, store: TokenStore, batch: int, steps: int, device) -> float:
    """Samples/s of the plain loop, after a first step."""
    model = model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=False)
    samples = [(torch.from_numpy(t.astype(np.int64)), int(c)) for t, c in zip(store.tokens, store.labels, strict=True)]
    since = time.perf_counter()
    for step in range(steps + 1):
        if step == 1:
            since = time.perf_counter()
        chosen = [samples[(step * batch + i) % len(samples)] for i in range(batch)]
        tokens = torch.stack([tokens for tokens, _ in chosen]).to(device)
        labels = torch.tensor([label for _, label in chosen]).to(device)
        optimizer.zero_grad()
        if kind == "mtm":
            noise = torch.rand(batch, model.num_patches, device=device)
            logits, targets, _ = model(tokens, noise, round(MEAN_RATIO * model.num_patches))
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 2), targets.flatten())
        else:
            loss = torch.nn.functional.cross_entropy(model(tokens), labels)
        loss.backward()
        optimizer.step()
        loss.item()
    return batch * steps / (time.perf_counter() - since)


def loop_figures(objective, model: torch.nn.Module, store: TokenStore, options, world: World) -> dict[str, float]:
    """The loop's own record of `steps` steps, after a first window of as many."""
    records: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        loop = {
            "epochs": 2 * options.steps * options.batch // len(store),
            "global_batch_size": options.batch,
            "log_every_steps": options.steps,
            "compile": options.compile,
            "eval_every_epochs": 10**6,
            "checkpoint_every_epochs": 10**6,
        }
        trainer = Trainer(
            model=model,
            objective=objective,
            store=store,
            evaluate=lambda net, epoch: {},
            run=Folder(name),
            loop=loop,
            optimizer=OPTIMIZER,
            identity={},
            world=world,
            on_metrics=records.append,
        )
        trainer.train()
    return records[-1]


def cases_of(options) -> dict[str, tuple[dict, object]]:
    """Model settings and objective by kind."""
    shared = {
        "size": build_size(options.size),
        "grid": (options.grid, options.grid),
        "num_codes": options.codes,
        "token_dim": 32,
        "stem_kernel": options.stem,
        "dropout": 0.0,
    }
    fixed = MTMObjective(mask_ratio_mu=MEAN_RATIO, mask_ratio_std=0.0)
    classifier = {"num_classes": options.classes, "pool": "mean", "drop_path": 0.0}
    return {
        "mtm": ({**shared, "mask_ratio_min": 0.4}, fixed),
        "classifier": ({**shared, **classifier}, SupervisedObjective()),
    }


def main() -> None:
    """Print rates, shares of the peak and their ratio for the chosen cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="base")
    parser.add_argument("--cases", default="mtm,classifier")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true")
    numbers = {"grid": 32, "codes": 391, "stem": 2, "batch": 32, "plain-batch": 8, "steps": 2, "classes": 1000}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    world = World(device=torch.device(options.device))
    generator = np.random.default_rng(0)
    rows = options.batch * options.steps
    store = TokenStore(
        generator.integers(0, options.codes, (rows, options.grid**2)).astype(np.uint16),
        generator.integers(0, options.classes, rows),
    )
    peak = peak_flops(world.device, "fp32" if options.device == "cpu" else "bf16")
    print(f"{world.device}, {torch.get_num_threads()} threads, torch {torch.__version__}, {vars(options)}")
    print(f"peak: {'not known' if peak is None else f'{peak / 1e9:,.1f} GFLOP/s'}", flush=True)
    for kind, (settings, objective) in cases_of(options).items():
        if kind not in options.cases.split(","):
            continue
        found = loop_figures(objective, build_model(kind, settings), store, options, world)
        ours, share = found["samples_per_s"], found.get("mfu", float("nan"))
        print(f"{kind}: loop {ours:.2f} samples/s, useful share {share:.1%}, data wait {found['data_wait_share']:.1%}")
        plain = plain_rate(kind, build_model(kind, settings), store, options.plain_batch, options.steps, world.device)
        # the loop's share is of one rate, so the plain loop's follows from the ratio of the rates
        print(
            f"{kind}: plain loop at batch {options.plain_batch} {plain:.2f} samples/s, useful share "
            f"{share * plain / ours:.1%}; ratio {ours / plain:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
