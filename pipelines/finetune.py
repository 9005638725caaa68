"""Train a classifier of tokens, from a pre-trained run or from scratch; the same run name continues.

seit-ray finetune dataset=runs/tokens init_from=runs/mtm run=classifier
"""

from pipelines.command import run_verb
from pipelines.places import Rows, cluster_rows, dataset_rows, folder_of, output_rows
from pipelines.pretrain import loop_rows, train
from pipelines.progress import silent
from seit_ray.config import Finetune


def plan(config: Finetune) -> Rows:
    """What would be trained, from what, on what, with which resources."""
    from seit_ray.shards import TokenDataset
    from seit_ray.training.checkpoints import check_same
    from seit_ray.training.exports import read_about
    from seit_ray.training.runs import identity_of, num_classes_of

    dataset = TokenDataset(folder_of(config.dataset, config.storage))
    num_classes_of(dataset)
    if config.init_from:
        check_same(
            read_about(folder_of(config.init_from, config.storage), "mtm"),
            identity_of(dataset),
            config.init_from,
        )
    return [
        *dataset_rows(dataset.folder),
        ("starts from", config.init_from or "scratch"),
        *loop_rows(config),
        *output_rows(folder_of(config.output, config.storage).join(config.run)),
        *cluster_rows(config.cluster, config.workers),
    ]


def finetune(config: Finetune, progress=silent) -> Rows:
    """Train; returns the table to print."""
    from seit_ray.training.runs import finetune as run_function

    init_from = folder_of(config.init_from, config.storage) if config.init_from else None
    more = {
        "init_from": init_from,
        "label_smoothing": config.label_smoothing,
        "augment": config.augment.model_dump(),
    }
    metrics, run = train(config, "finetune", run_function, more, progress)
    rows = [("run", run.uri), ("steps", str(metrics["step"])), ("train loss", f"{metrics['train_loss']:.4f}")]
    if "val_top1" in metrics:
        rows.append(("val top-1 / top-5", f"{metrics['val_top1']:.2%} / {metrics['val_top5']:.2%}"))
    if "ema_val_top1" in metrics:
        rows.append(("EMA val top-1", f"{metrics['ema_val_top1']:.2%}"))
    return rows


if __name__ == "__main__":
    run_verb("finetune")
