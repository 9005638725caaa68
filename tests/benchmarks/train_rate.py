"""Training samples/s of the loop, one process, no Ray: MTM pre-training and supervised fine-tuning.

python tests/benchmarks/train_rate.py [--size nano] [--grid 8] [--codes 256] [--stem 2] [--batch 128] [--steps 30]

The baseline beside it is the bare model: forward, backward and optimizer step on one fixed batch, no loading, no masks
drawn, no schedule, no metrics. The ratio is what the loop keeps of it.
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


def bare_rate(kind: str, model: torch.nn.Module, store: TokenStore, batch: int, steps: int, device) -> float:
    """Samples/s of the model alone on one batch."""
    model = model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    tokens = torch.from_numpy(store.tokens[:batch].astype(np.int64)).to(device)
    labels = torch.from_numpy(store.labels[:batch]).to(device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
    noise = torch.rand(batch, model.num_patches, device=device)
    num_masked = round(0.6 * model.num_patches)  # the mean of the published distribution

    def step() -> None:
        with autocast:
            if kind == "mtm":
                logits, targets, _ = model(tokens, noise, num_masked)
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 2).float(), targets.flatten())
            else:
                loss = torch.nn.functional.cross_entropy(model(tokens).float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return batch * steps / (time.perf_counter() - start)


def loop_rate(objective, model: torch.nn.Module, store: TokenStore, batch: int, steps: int, world: World) -> float:
    """Samples/s of the whole loop, as it reports it, after the first window."""
    rates: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        loop = {
            "epochs": 2 * steps * batch // len(store),
            "global_batch_size": batch,
            "log_every_steps": steps,
        }
        loop |= {"eval_every_epochs": 10**6, "checkpoint_every_epochs": 10**6}
        trainer = Trainer(
            model=model,
            objective=objective,
            store=store,
            evaluate=lambda net: {},
            run=Folder(name),
            loop=loop,
            optimizer=OPTIMIZER,
            identity={},
            world=world,
            on_metrics=lambda record: rates.append(record["samples_per_s"]),
        )
        trainer.train()
    return rates[-1]


def main() -> None:
    """Print both rates and their ratio for both objectives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="nano")
    for name, default in (
        ("grid", 8),
        ("codes", 256),
        ("stem", 2),
        ("batch", 128),
        ("steps", 30),
        ("classes", 10),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    world, side = World(), options.grid
    generator = np.random.default_rng(0)
    rows = options.batch * options.steps
    store = TokenStore(
        generator.integers(0, options.codes, (rows, side * side)).astype(np.uint16),
        generator.integers(0, options.classes, rows),
    )
    shared = {
        "size": build_size(options.size),
        "grid": (side, side),
        "num_codes": options.codes,
        "token_dim": 32,
        "stem_kernel": options.stem,
        "dropout": 0.0,
    }
    cases = {
        "mtm": ({"mask_ratio_min": 0.4}, MTMObjective()),
        "classifier": (
            {"num_classes": options.classes, "pool": "mean", "drop_path": 0.0},
            SupervisedObjective(),
        ),
    }
    print(f"{world.device}, {torch.get_num_threads()} threads, torch {torch.__version__}, {options}")
    for kind, (more, objective) in cases.items():
        settings = {**shared, **more}
        bare = bare_rate(kind, build_model(kind, settings), store, options.batch, options.steps, world.device)
        loop = loop_rate(objective, build_model(kind, settings), store, options.batch, options.steps, world)
        print(
            f"{kind}: bare model {bare:.0f} samples/s, whole loop {loop:.0f} samples/s, ratio {loop / bare:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
