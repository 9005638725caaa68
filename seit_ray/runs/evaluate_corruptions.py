"""A finished classifier on images under corruptions: decode once, then corrupt, tokenise and classify, on any ranks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from seit_ray.evaluation.case_counts import Tally, add_up
from seit_ray.evaluation.case_records import CaseRecords
from seit_ray.evaluation.cases import Case, cases_of
from seit_ray.evaluation.corruptions.corrupt import corrupted
from seit_ray.evaluation.corruptions.strengths import strengths_for
from seit_ray.evaluation.image_classifier import ImageClassifier
from seit_ray.evaluation.robustness import refuse_other, robustness_figures
from seit_ray.images.decode import MAX_PIXELS
from seit_ray.images.decoded import DecodedImages, Decoding, ahead, decoded_chunks
from seit_ray.images.fetch import MAX_BYTES
from seit_ray.images.labels import label_table
from seit_ray.images.listing import list_images
from seit_ray.images.manifest import Manifest
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.models.about import weights_mark
from seit_ray.progress import Progress, silent
from seit_ray.runs.evaluate_images import MAX_THREADS, ROWS_PER_PART, check_alike, scored_classes, scored_logits
from seit_ray.storage import Folder
from seit_ray.training.world import World

Piece = tuple[int, DecodedImages]  # number of a part, some of its images


def evaluate_corruptions(
    *,
    images: Folder,
    source: SourceSettings,
    run: Folder,
    split: str,
    val_fraction: float,
    seed: int,
    tokenizer: Folder | None,
    weights: str,
    batch_size: int,
    corruptions: Sequence[str],
    severities: Sequence[int],
    strengths: str,
    classes: str,
    work: Folder,
    world: World,
    baseline: tuple[str, Mapping[str, Any]] | None = None,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    on_progress: Progress = silent,
    **hooks: object,
) -> dict[str, Any]:
    """`robustness_figures` of a split of a source, and listed = samples + the images in rejected.

    Corruptions act on the pixels that the run's own preprocessing gives, before its tokenizer. Parts that an earlier
    call has finished, whose records are in `work`, are not done again. baseline: address and figures of what mCE will
    divide by. ValueError as of `evaluate_images`, and for a baseline of other images.
    """
    del hooks  # one pass over a split: no metrics on the way
    classifier = ImageClassifier.load(run, tokenizer=tokenizer, weights=weights).to(world.device)
    names, cases = classifier.class_names, cases_of(corruptions, severities)
    strengths = strengths_for(classifier.image_size, strengths)
    with tempfile.TemporaryDirectory(prefix="seit_ray-") as name:
        manifest = list_images(
            images, source, Folder(name), val_fraction=val_fraction, seed=seed, rows_per_part=ROWS_PER_PART
        )
        check_alike(manifest, world, images.uri)
        numbers = label_table(manifest, split, names, images.uri, run.uri)
        chosen = scored_classes(classes, manifest, split, numbers, len(names))
        settings: dict[str, Any] = {"split": split, "weights": weights, "classes": classes, "strengths": strengths}
        settings |= {"image_size": classifier.image_size, "num_scored": len(names if chosen is None else chosen)}
        settings |= {"listed": manifest.splits[split].num_images, "keys_sha256": manifest.keys_digest(split)}
        if baseline is not None:
            refuse_other(settings, baseline[1], baseline[0])
        plan = {**settings, "source": source.as_dict(), "listing": manifest.digest, "limits": [max_bytes, max_pixels]}
        plan |= {"model": weights_mark(run, weights), "cases": [[case.corruption, case.severity] for case in cases]}
        records = CaseRecords(work)
        # one rank looks, for all to share out the same parts
        done = world.gather(records.begin(plan) if world.is_main else None)[0]
        decoding = Decoding(
            classifier.image_size, classifier.resize, source.image_column, classifier.decode, max_bytes, max_pixels
        )
        makes = MakesParts(classifier, cases, strengths, numbers, chosen, batch_size)
        listed = Listed(manifest, split, images, decoding)
        done |= make_missing(makes, listed, done, records, world, on_progress)
    return {**settings, **figures_of(done, cases, names, listed)}


@dataclass(frozen=True)
class Listed:
    """The images that are evaluated."""

    manifest: Manifest
    split: str
    images: Folder
    decoding: Decoding

    @property
    def num_images(self) -> int:
        """Of the split."""
        return self.manifest.splits[self.split].num_images

    def pieces(self, index: int) -> list[Piece]:
        """The images of a part, decoded."""
        rows = self.manifest.read_part(self.split, index)
        return [(index, chunk) for chunk in decoded_chunks(rows, self.images, self.decoding)]


def make_missing(
    makes: MakesParts,
    listed: Listed,
    done: Mapping[int, Any],
    records: CaseRecords,
    world: World,
    on_progress: Progress,
) -> dict[int, dict[str, Any]]:
    """Make the parts that `done` has not, dealt out to the ranks, and keep their records; those of all ranks."""
    num_parts, num_cases = listed.manifest.splits[listed.split].num_parts, 1 + len(makes.cases)
    mine = [i for i in range(num_parts) if i not in done][world.rank :: world.size]
    before = sum(listed.manifest.part_images(listed.split, index) for index in done)

    def show(own: float) -> None:
        seen = min(listed.num_images, before + int(own * world.size))
        on_progress("evaluate", seen, listed.num_images, f"images, {num_cases} cases each")

    def show_cases(cases: int) -> None:  # a part is minutes of work
        show(own + cases / num_cases)

    made, own = dict[int, dict[str, Any]](), 0
    show(0)
    threads = max(1, min(MAX_THREADS, torch.get_num_threads()))
    pieces = (piece for part in ahead(listed.pieces, mine, threads) for piece in part)
    for index, record in makes.records(pieces, threads, show_cases):
        records.write(index, record)
        made[index] = record
        own += listed.manifest.part_images(listed.split, index)
        show(own)
    return {index: record for found in world.gather(made) for index, record in found.items()}


class MakesParts:
    """Makes the records of parts: images that are decoded -> counts of all cases."""

    def __init__(
        self,
        classifier: ImageClassifier,
        cases: Sequence[Case],
        strengths: str,
        numbers: np.ndarray,
        chosen: list[int] | None,
        batch_size: int,
    ):
        self.classifier, self.cases, self.strengths = classifier, cases, strengths
        self.numbers, self.chosen, self.batch_size = numbers, chosen, batch_size

    def records(
        self, pieces: Iterator[Piece], num_threads: int, on_cases: Callable[[int], None]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """(number, record) of parts as they are finished; threads corrupt while this one classifies.

        All cases of some images follow one another, so that these are decoded once and held once. on_cases: told how
        many images of the part at hand have been classified, each once a case.
        """
        work = ((index, chunk, place) for index, chunk in pieces for place in range(1 + len(self.cases)))
        current: int | None = None
        done = 0
        tally, rejected = self.tally(), list[dict[str, Any]]()
        for index, chunk, place, pixels in ahead(self.corrupt, work, num_threads):
            if current is not None and index != current:
                yield current, {**tally.counts(), "rejected": rejected}
                tally, rejected, done = self.tally(), [], 0
            current = index
            self.classify(tally, chunk, place, pixels)
            done += len(pixels)
            on_cases(done)
            if place == 0:
                rejected += chunk.rejected.select(["id", "key", "reason"]).to_pylist()
        if current is not None:
            yield current, {**tally.counts(), "rejected": rejected}

    def tally(self) -> Tally:
        """An empty one."""
        return Tally(self.cases, len(self.classifier.class_names))

    def corrupt(self, item: tuple[int, DecodedImages, int]) -> tuple[int, DecodedImages, int, np.ndarray]:
        """Pixels uint8 [N,3,H,W] of a case, 0 for clean, of some images."""
        index, chunk, place = item
        if place == 0:
            return (*item, chunk.pixels)
        case, keys = self.cases[place - 1], chunk.rows["key"].to_pylist()
        pixels = np.empty_like(chunk.pixels)
        for i, key in enumerate(keys):
            pixels[i] = corrupted(
                chunk.pixels[i], case.corruption, int(case.severity), key=key, strengths=self.strengths
            )
        return (index, chunk, place, pixels)

    def classify(self, tally: Tally, chunk: DecodedImages, place: int, pixels: np.ndarray) -> None:
        """Add the answers for a case's pixels."""
        labels = torch.from_numpy(self.numbers[chunk.rows["label"].to_numpy()]).to(self.classifier.device)
        for start in range(0, len(labels), self.batch_size):
            logits = self.classifier.logits(torch.from_numpy(pixels[start : start + self.batch_size]))
            tally.add(place, scored_logits(logits, self.chosen), labels[start : start + self.batch_size])


def figures_of(
    records: Mapping[int, dict[str, Any]], cases: Sequence[Case], names: list[str], listed: Listed
) -> dict[str, Any]:
    """The figures of all parts of a split; ValueError when none of its images can be read."""
    ordered, total = [records[index] for index in sorted(records)], listed.num_images
    counts = add_up(ordered)
    rejected = sorted((row for record in ordered for row in record["rejected"]), key=lambda row: row["id"])
    if counts["samples"] + len(rejected) != total:
        raise RuntimeError(f"{total} images listed but {counts['samples']} classified and {len(rejected)} rejected")
    if not counts["samples"]:
        raise ValueError(
            f"none of {total} images in split {listed.split!r} of {listed.images.uri} can be read "
            f"({rejected[0]['reason']}); expected images; mend them"
        )
    told = [{name: row[name] for name in ("key", "reason")} for row in rejected]
    return {**robustness_figures(cases, counts, names), "rejected": told}
