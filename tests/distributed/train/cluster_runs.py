"""The fine-tuning that the tests of training workers run, small and with all that could make a continued run differ."""

import json
import os
import time
from pathlib import Path

from seit_ray import config
from seit_ray.runs.finetune import finetune as run_finetune
from seit_ray.storage import Folder
from seit_ray.training.loop import Trainer

SLOWLY, STEP_S = "slowly", 0.8  # while there is a file of that name, from the first checkpoint on

LOOP = {
    "epochs": 20,
    "global_batch_size": 20,
    "log_every_steps": 1,
    "eval_every_epochs": 5,
    "checkpoint_every_epochs": 20,
    "checkpoint_every_steps": 40,
    "ema_decay": 0.9,
    "seed": 3,
}
NUM_SAMPLES = 100


def arguments_of(dataset, run, **loop):
    """Keywords of `runs.finetune.finetune`."""
    model = config.Classifier(size="nano", width=32, depth=2, num_heads=2, inputs="codebook", dropout=0, drop_path=0)
    augment = config.Augment(random_crop=True, noise_prob=0.3, color_adapt_prob=0.3, cutmix_alpha=1.0)
    return {
        "dataset": Folder(dataset),
        "run": run,
        "model": model.settings(),
        "label_smoothing": 0.1,
        "augment": augment.settings(),
        "loop": config.FinetuneLoop(**{**LOOP, **loop}).settings(),
        "optimizer": config.FinetuneOptimizer(lr=3e-3, warmup_epochs=2).settings(),
    }


def slow_finetune(*, world, journal, **arguments):
    """The fine-tuning, slowly where asked; every rank writes down where it is."""
    path = Path(journal) / f"rank-{world.rank}.jsonl"
    step_of = Trainer.step

    def step(trainer, model, number, parts):
        write(path, step=number, world=world.size)
        if number >= LOOP["checkpoint_every_steps"] and (path.parent / SLOWLY).exists():
            time.sleep(STEP_S)
        step_of(trainer, model, number, parts)

    write(path, pid=os.getpid(), world=world.size)
    Trainer.step = step
    return run_finetune(world=world, **arguments)


def write(path, **values):
    """Append a line."""
    with open(path, "a") as file:
        file.write(json.dumps(values) + "\n")
