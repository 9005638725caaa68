"""Classes of new images, by a fine-tuned run; a rerun does only what is missing.

seit-ray predict images=new_photos/ run=runs/classifier output=predictions.csv
"""

from pipelines.command import run_verb
from pipelines.places import Rows, cluster_rows, folder_of, listed, manifest_rows, output_rows, tokenizer_folder
from pipelines.progress import silent
from seit_ray.config import Predict


def job_of(config: Predict):
    """The job that a config describes."""
    from seit_ray.distributed.predict_job import PredictJob
    from seit_ray.storage import split_uri

    folder, name = split_uri(config.output)
    return PredictJob(
        images=folder_of(config.images, config.storage),
        source_settings=config.source.model_dump(),
        run=folder_of(config.run, config.storage),
        tokenizer=tokenizer_folder(config),
        output=folder_of(folder, config.storage),
        name=name,
        settings=config.model_dump(exclude={"storage", "cluster", "source"}),
    )


def plan(config: Predict) -> Rows:
    """What would be classified, by what, and where it would go."""
    from seit_ray.distributed.predict_job import chosen_splits
    from seit_ray.evaluation.image_classifier import ImageClassifier

    job = job_of(config)
    classifier = ImageClassifier.load(job.run, tokenizer=job.tokenizer, weights=config.weights)
    classifier.check()
    with listed(job.images, config.source, val_fraction=0.0, seed=0, on_progress=lambda *_: None) as manifest:
        chosen_splits(manifest, config.split, job.images.uri)
        found = manifest_rows(job.images, manifest)
    return [
        *found,
        ("seen as", f"{classifier.image_size}x{classifier.image_size} pixels, {classifier.resize}"),
        ("run", f"{job.run.uri}, weights {config.weights}, {len(classifier.class_names)} classes"),
        *output_rows(job.output),
        *([("ray", "not used: one process")] if config.num_actors == 0 else cluster_rows(config.cluster)),
    ]


def predict(config: Predict, progress=silent) -> Rows:
    """Run the job; returns the table to print."""
    from pipelines.record import write_record
    from seit_ray.distributed.cluster import connected
    from seit_ray.distributed.predict_job import run_predict_job

    job = job_of(config)
    about = run_predict_job(job, lambda: connected(**config.cluster.model_dump()), progress)
    write_record(job.output, "predict", config)
    counts = about["counts"]
    rows: Rows = [
        ("predictions", job.output.uri_of(job.name)),
        ("images", f"{counts['listed']} listed = {counts['predicted']} predicted + {counts['rejected']} rejected"),
    ]
    if counts["rejected"]:
        rows.append(("rejected", job.output.uri_of(job.rejected_name)))
    likeliest = sorted(counts["labels"].items(), key=lambda item: -item[1])[:4]
    rows.append(("most frequent", ", ".join(f"{name} {number}" for name, number in likeliest)))
    if counts["labelled"]:
        agree, labelled = counts["agreeing"], counts["labelled"]
        rows.append(("as the source labels them", f"{agree} of {labelled} ({agree / labelled:.2%})"))
    return rows


if __name__ == "__main__":
    run_verb("predict")
