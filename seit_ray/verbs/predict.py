"""Classes of new images, or their label maps, by a fine-tuned run; a rerun does only what is missing.

seit-ray predict images=new_photos/ run=runs/classifier output=predictions.csv
seit-ray predict images=new_photos/ run=runs/segmenter output=label_maps
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from seit_ray.config import Predict
from seit_ray.progress import Progress, silent
from seit_ray.verbs.command.places import (
    Rows,
    cluster_rows,
    folder_of,
    looked_at,
    manifest_rows,
    output_rows,
    tokenizer_folder,
)

if TYPE_CHECKING:
    from seit_ray.distributed.data.predict_begin import PredictJob
    from seit_ray.evaluation.prediction_output import PredictOutput
    from seit_ray.storage import Folder


def job_of(config: Predict) -> PredictJob:
    """The job that a config describes."""
    from seit_ray.distributed.data.predict_begin import PredictJob

    return PredictJob(
        images=folder_of(config.images, config.storage),
        source_settings=config.source.settings(),
        run=folder_of(config.run, config.storage),
        tokenizer=tokenizer_folder(config),
        output=output_of(config),
        settings=config.settings(),
    )


def output_of(config: Predict) -> PredictOutput:
    """Where the predictions go; ValueError for a name that is neither of a folder nor of a table."""
    from seit_ray.evaluation.prediction_output import output_at
    from seit_ray.storage import split_uri

    parent, name = split_uri(config.output)
    return output_at(folder_of(config.output, config.storage), folder_of(parent, config.storage), name)


def check(config: Predict) -> Rows:
    """What would be classified, by what, and where it would go."""
    from seit_ray.distributed.data.predict_begin import check_output
    from seit_ray.images.manifest import chosen_splits
    from seit_ray.storage.output import refuse_overlap

    job = job_of(config)
    output, run, images = job.output, job.run, job.images
    output.claim()
    refuse_overlap(folder_of(config.output, config.storage), images, "images")
    found = job.asks
    if found.kind == "segmenter":
        from seit_ray.evaluation.prediction_output import check_map_output

        check_map_output(output, run, top_k=config.top_k, probabilities=config.probabilities)
    check_output(job)
    with looked_at(images, config.source) as (manifest, is_whole):
        if is_whole:
            chosen_splits(manifest, config.split, images.uri)
        rows = manifest_rows(images, manifest, is_whole)
    return [
        *rows,
        ("seen as", found.words()),
        ("run", f"{run.uri}, weights {config.weights}, {len(found.class_names)} classes"),
        *output_rows(output.folder),
        *([("ray", "not used: one process")] if config.num_actors == 0 else cluster_rows(config.cluster)),
    ]


def predict(config: Predict, progress: Progress = silent) -> Rows:
    """Run the job; returns the table to print."""
    from seit_ray.distributed.cluster import connected
    from seit_ray.distributed.data.predict_job import run_predict_job
    from seit_ray.verbs.command.record import end_record

    job = job_of(config)
    is_new = config.overwrite or job.output.finished() is None
    about = run_predict_job(job, partial(connected, **config.cluster.model_dump()), progress)
    end_record(job.output.folder, "predict", config, is_new=is_new, of=job.output.record_prefix)
    counts = about["counts"]
    rows: Rows = [
        ("predictions", job.output.uri),
        ("images", f"{counts['listed']} listed = {counts['predicted']} predicted + {counts['rejected']} rejected"),
    ]
    if not is_new:
        rows.append(("source", "not looked at again; overwrite=true predicts anew"))
    if counts["rejected"]:
        rows.append(("rejected", job.output.rejected_uri))
    if "void" in about["plan"]:
        return [*rows, *map_rows(job.output.folder, counts["labels"])]
    likeliest = sorted(counts["labels"].items(), key=lambda item: -item[1])[:4]
    rows.append(("most frequent", ", ".join(f"{name} {number}" for name, number in likeliest)))
    if counts["labelled"]:
        agree, labelled = counts["agreeing"], counts["labelled"]
        rows.append(("as the source labels them", f"{agree} of {labelled} ({agree / labelled:.2%})"))
    return rows


def map_rows(output: Folder, pixels: dict[str, int]) -> Rows:
    """Where the label maps of a segmenter lie, and what most of their pixels are."""
    total = max(1, sum(pixels.values()))
    most = sorted(pixels.items(), key=lambda item: -item[1])[:4]
    return [
        ("label maps", output.uri_of("*/maps/*.png")),
        ("most pixels", ", ".join(f"{name} {number / total:.1%}" for name, number in most)),
    ]
