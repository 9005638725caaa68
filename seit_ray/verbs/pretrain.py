"""Pre-train by masked token modelling (SeiT++); the same run name continues.

seit-ray pretrain --config pretrain_base_in1k_400e dataset=s3://bucket/tokens run=mtm-b
"""

from typing import Any

from seit_ray.config import Pretrain
from seit_ray.progress import Progress, silent
from seit_ray.verbs.command.places import Rows, cluster_rows, dataset_rows, folder_of, output_rows
from seit_ray.verbs.command.training import augment_arguments, claim_run, loop_rows, run_folder, train


def check(config: Pretrain) -> Rows:
    """What would be trained, on what, with which resources."""
    dataset = folder_of(config.dataset, config.storage)
    claim_run(run_folder(config), dataset)
    return [
        *dataset_rows(dataset),
        *loop_rows(config, dataset),
        *output_rows(run_folder(config)),
        *cluster_rows(config.cluster, config.workers),
    ]


def pretrain(config: Pretrain, progress: Progress = silent) -> Rows:
    """Train; returns the table to print."""
    from seit_ray.shards import TokenDataset

    dataset, run = folder_of(config.dataset, config.storage), run_folder(config)
    TokenDataset(dataset).split("train")
    from seit_ray.runs.pretrain import pretrain as run_function

    arguments = {"dataset": dataset, **own_arguments(config)}
    metrics = train(config, "pretrain", run_function, arguments, run, progress, sources=[dataset])
    rows = [("run", run.uri), ("steps", str(metrics["step"])), ("train loss", f"{metrics['train_loss']:.4f}")]
    if "val_loss" in metrics:
        rows.append(("val loss", f"{metrics['val_loss']:.4f}"))
        rows.append(("val accuracy of masked tokens", f"{metrics['val_masked_accuracy']:.2%}"))
    rows += probe_rows(metrics)
    return [*rows, ("next", f"seit-ray finetune dataset={config.dataset} init_from={run.uri} run=NAME")]


def probe_rows(metrics: dict[str, Any]) -> Rows:
    """The figures of the probes, each with what it depends on."""
    rows: Rows = []
    fitted = f"{metrics.get('probe_train_samples')} rows fitted, {metrics.get('probe_val_samples')} scored"
    if "probe_linear_top1" in metrics:
        ridge, epochs = metrics["probe_linear_ridge"], metrics["probe_linear_epochs"]
        text = f"{metrics['probe_linear_top1']:.2%} (ridge {ridge:g}, {epochs} epochs at most, {fitted})"
        rows.append(("linear probe, top-1", text))
    if "probe_knn_top1" in metrics:
        k, temperature = metrics["probe_knn_k"], metrics["probe_knn_temperature"]
        text = f"{metrics['probe_knn_top1']:.2%} (k {k}, temperature {temperature:g}, {fitted})"
        rows.append(("knn probe, top-1", text))
    if "probe_rankme" in metrics:
        rows.append(("RankMe", f"{metrics['probe_rankme']:.1f} ({metrics['probe_rankme_samples']} rows)"))
    return rows


def own_arguments(config: Pretrain) -> dict[str, Any]:
    """What a pre-training run takes beside what all runs take."""
    return {"masking": config.masking.settings(), "probe": config.probe.settings(), **augment_arguments(config)}
