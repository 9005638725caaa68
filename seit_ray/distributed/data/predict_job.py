"""Images in, predictions out: list, classify parts, commit (`prediction_output`). Each step survives a kill.

Until the output is complete its work holds plan.json, the manifest and a record of each part: one that stands is never
made again.
"""

from __future__ import annotations

import os
from typing import Any

from seit_ray.distributed.cluster import Connect, kept_open
from seit_ray.distributed.data.list_job import make_on_tasks
from seit_ray.distributed.data.parts import PartSource, PartWorker, map_parts
from seit_ray.distributed.data.predict_begin import PredictJob, existing, load_model
from seit_ray.distributed.data.predict_parts import Classifying, ClassifyParts
from seit_ray.distributed.data.segment_parts import Segmenting, SegmentParts
from seit_ray.evaluation.image_classifier import ImageClassifier
from seit_ray.evaluation.image_segmenter import ImageSegmenter
from seit_ray.evaluation.prediction_parts import PredictFiles
from seit_ray.images.decoded import Decoding
from seit_ray.images.listing import list_images
from seit_ray.images.manifest import Manifest, chosen_splits, load_manifest
from seit_ray.images.piece_makers import make_here
from seit_ray.progress import Progress, silent
from seit_ray.shards.parts import Part, remove_doubles
from seit_ray.storage.errors import may_pass
from seit_ray.storage.lock import locked
from seit_ray.storage.output import refuse_overlap

ImageModel = ImageClassifier | ImageSegmenter
Done = dict[str, dict[int, Part]]  # split -> number -> part
FEW_IMAGES = 1000  # up to here, starting Ray would take longer than the work
MAX_THREADS = 8  # that decode in this process
MAX_ROUNDS = 3  # of making parts and looking at them


def run_predict_job(job: PredictJob, connect: Connect, on_progress: Progress = silent) -> dict[str, Any]:
    """Do what is missing of a job; its plan, and counts of images listed, predicted and rejected.

    `connect` gives the cluster, if it takes one. ValueError for what the user can mend.
    """
    output = job.output
    refuse_overlap(output.folder.at(output.uri), job.images, "images")
    classifier = load_model(job)
    plan = job.plan()
    output.claim()
    with (
        kept_open(connect) as connect,
        locked(output.folder, output.lock_name, on_note=lambda note: on_progress("predict", 0, 1, note)) as lock,
    ):
        finished = existing(job, plan)
        if finished is not None:
            on_progress("predict", 1, 1, "already complete")
            return finished
        classifier.check()
        manifest, splits = listing(job, plan, connect, on_progress)
        lock.check()
        output.note(manifest, splits)
        files, total = output.files(manifest.digest), sum(manifest.splits[s].num_images for s in splits)
        for _ in range(MAX_ROUNDS):
            remove_doubles(files.records)
            done, faulty = files.standing(manifest, splits)
            for part in faulty:  # of another listing, or without its files
                files.records.delete(part.name)
            if not classify(job, plan, classifier, manifest, splits, files, done, connect, on_progress):
                break
        else:
            raise RuntimeError(f"parts of {output.uri} do not stay as they were written; expected one writer")
        parts = [done[s][i] for s in splits for i in sorted(done.get(s, {}))]
        return output.commit(plan, files, parts, total, before_marker=lock.check)


def listing(
    job: PredictJob, plan: dict[str, Any], connect: Connect, on_progress: Progress
) -> tuple[Manifest, list[str]]:
    """The manifest and the splits to classify; listed once: a continued job classifies what its first attempt found."""
    folder = job.output.work.join("manifest")
    found = load_manifest(folder)
    if found is None:
        job.output.work.delete_tree("records")  # of another listing
    try:
        manifest = found or list_images(
            job.images,
            job.source_settings,
            folder,
            val_fraction=0.0,
            seed=0,
            rows_per_part=plan["rows_per_part"],
            make=make_here if job.settings.num_actors == 0 else make_on_tasks(connect, job.settings.patience_s),
            on_progress=on_progress,
        )
        splits = chosen_splits(manifest, plan["split"], job.images.uri)
        job.output.check_size(sum(manifest.splits[s].num_images for s in splits), plan)
    except ValueError as error:
        if not may_pass(error):  # nothing is done yet: the output stays free for the mended command
            job.output.end_work()
        raise
    return manifest, splits


def classify(
    job: PredictJob,
    plan: dict[str, Any],
    classifier: ImageModel,
    manifest: Manifest,
    splits: list[str],
    files: PredictFiles,
    done: Done,
    connect: Connect,
    on_progress: Progress,
) -> bool:
    """Make the parts that `done` has not, and enter them there; whether there were any."""
    todo = [(s, i) for s in splits for i in range(manifest.splits[s].num_parts) if i not in done.get(s, {})]
    total = sum(manifest.splits[s].num_images for s in splits)
    made = [part for s in splits for part in done.get(s, {}).values()]
    seen, rejected = sum(part.images for part in made), sum(part.rejected for part in made)
    on_progress("predict", seen, total, f"{len(todo)} of {len(todo) + len(made)} parts to do")
    if not todo:
        return False

    def on_part(part: Part) -> None:
        nonlocal seen, rejected
        if part.index in done.get(part.split, {}):  # told twice, after a node was lost
            return
        seen, rejected = seen + part.images, rejected + part.rejected
        done.setdefault(part.split, {})[part.index] = part
        on_progress("predict", seen, total, f"{rejected} rejected" if rejected else "")

    worker, source, how = worker_arguments(job, plan, classifier, manifest, files)
    asked = job.settings.num_actors
    if asked == 0 or (asked is None and total - seen <= FEW_IMAGES):
        threads, gpu_share = min(MAX_THREADS, os.cpu_count() or 1), float(job.settings.gpus_per_actor != 0)
        here: PartWorker = worker(source, how, gpu_share=gpu_share, num_threads=threads)
        for split, index in todo:
            on_part(here.finish(split, index))
        return True
    job.output.work.delete_tree("attempts")  # of earlier calls
    with connect() as cluster:
        map_parts(
            todo,
            worker,
            (source, how),
            cluster=cluster,
            num_actors=asked,
            gpus_per_actor=job.settings.gpus_per_actor,
            memory_mib=job.settings.memory_mib,
            on_part=on_part,
        )
    return True


def worker_arguments(
    job: PredictJob, plan: dict[str, Any], model: ImageModel, manifest: Manifest, files: PredictFiles
) -> tuple[Any, PartSource, Classifying | Segmenting]:
    """The class of the workers, what they read, and how they classify or segment it."""
    decoding = Decoding(
        model.image_size,
        model.resize,
        job.source_settings.image_column,
        model.decode,
        max_bytes=plan["max_image_mib"] << 20,
        max_pixels=plan["max_image_pixels"],
        patience_s=job.settings.patience_s,
    )
    source = PartSource(manifest.folder, job.images, decoding, job.output.work)
    shared = (job.run, job.tokenizer, job.settings.weights, plan["model"], job.settings.batch_size, files)
    if isinstance(model, ImageClassifier):
        kept = {name: plan[name] for name in ("class_names", "probabilities", "top_k")}
        return ClassifyParts, source, Classifying(*shared, source_names=manifest.class_names, **kept)
    return SegmentParts, source, Segmenting(*shared)
