"""Small sweeps for tests: trials of about a second."""

from seit_ray.config import Sweep, load

PRETRAIN = {
    "model": {"size": "nano", "width": 32, "depth": 1, "num_heads": 2, "dropout": 0.0},
    "loop": {"epochs": 3, "global_batch_size": 40, "log_every_steps": 1, "max_skipped_steps": 1},
    "optimizer": {"lr": 3e-3, "warmup_epochs": 1},
}
FINETUNE = PRETRAIN | {"model": PRETRAIN["model"] | {"drop_path": 0.0}}


def sweep_config(dataset, output, *keys, **changes):
    """A pre-training sweep over a grid of its choices; `changes` replace whole sections."""
    values = {
        "dataset": dataset,
        "output": str(output),
        "run": "sweep",
        "search": {"searcher": "grid"},
        "pretrain": PRETRAIN,
        **changes,
    }
    return load(Sweep, [], [f"{key}={value!r}" for key, value in values.items() if value is not None] + list(keys))


def progress_of(states):
    """Progress that is kept in a list."""
    return lambda phase, done, total, note="": states.append((done, total, note))
