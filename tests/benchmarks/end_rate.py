"""The end of a tokenising job: from the record of its last part to the finished dataset, with rejects.

python -m tests.benchmarks.end_rate [--images N] [--rejects SHARE] [--codes K] [--classes C]

Images cost nothing here: their parts are made up, with the records that a job writes, whose histograms have all codes
and classes, and files of a few bytes. What is left is what the driver does alone: it looks which parts stand, adds up
their records, writes tokenizer, synonyms and marker, and removes its work.
"""

import argparse
import hashlib
import tempfile
import time

from seit_ray.distributed.data.commit import Adding, commit, stand
from seit_ray.distributed.data.tokenize_begin import TokenizeJob, TokenizeSettings, begin, clean_up
from seit_ray.images.known import known_name
from seit_ray.images.manifest import Manifest
from seit_ray.images.manifest_files import SplitListing, file_name
from seit_ray.images.manifest_writing import default_part_rows
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.shards.marker import RejectFile, Shard
from seit_ray.shards.part_records import PartRecord, encode_record
from seit_ray.shards.parts import Part, list_parts, remove_doubles
from seit_ray.shards.writing import rejected_name, shard_name
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer
from tests.tiny_images import write_tokenizer

BODY = b"stands for a file of a part"


def manifest_of(folder: Folder, num_images: int, classes: int) -> Manifest:
    """A listing of so many images, its files but a few bytes each."""
    rows = default_part_rows(num_images)
    split = SplitListing(num_images, -(-num_images // rows), num_images * 110_000)
    for number in range(split.num_parts):
        folder.write(file_name("train", number), BODY)
    names = [f"class {number:04}" for number in range(classes)]
    return Manifest(folder, {"train": split}, names, list(range(classes)), names, "0" * 64, rows, rows)


def write_part(adding: Adding, index: int, share: float) -> None:
    """What an actor leaves of a part."""
    files, images, digest = adding.files, adding.manifest.part_images("train", index), hashlib.sha256(BODY).hexdigest()
    rejected = round(images * share)
    rows = images - rejected
    names = {name: len(BODY) for name in files.names("train", index)}
    for name in names:
        files.output.write(name, BODY)
    codes, classes = files.num_codes, files.num_classes
    record = PartRecord(
        (known_name("train", index), digest),
        Shard(shard_name(index), rows, len(BODY), rows * 1280, digest),
        RejectFile(rejected_name(index), rejected, digest),
        rows * 110_000,
        list(range(codes)),
        [rows * 1024 // codes + (code < rows * 1024 % codes) for code in range(codes)],
        [rows // classes + (label < rows % classes) for label in range(classes)],
        dict.fromkeys(("fetch", "decode", "encode", "write"), 1.0),
        1 << 29,
        files.listing,
        names,
    )
    files.records.write(Part("train", index, rows, rejected).name, encode_record(record))


def seconds_of_end(num_images: int, share: float, codes: int, classes: int) -> tuple[int, dict[str, float]]:
    """(parts, seconds by step) of such a job on a disk."""
    with tempfile.TemporaryDirectory() as name:
        place = Folder(name)
        tokenizer, about = load_tokenizer(
            write_tokenizer(place.join("t"), image_size=256, patch_size=8, num_codes=codes)
        )
        job = TokenizeJob(
            place.join("images"), SourceSettings(), place.join("t"), place.join("out"), TokenizeSettings()
        )
        plan = job.plan(about["fingerprint"])
        begin(job, plan, None)
        manifest = manifest_of(job.work.join("manifest"), num_images, classes)
        adding = Adding.of(job.output, "plain", tokenizer, manifest, None, {})
        adding.note_names()
        parts = manifest.splits["train"].num_parts
        for index in range(parts):
            write_part(adding, index, share)
        moments = [time.perf_counter()]
        remove_doubles(adding.files.records)
        standing = stand(adding, list_parts(adding.files.records))
        assert len(standing.parts["train"]) == parts
        moments.append(time.perf_counter())
        info = commit(adding, plan, standing.sums, tokenizer, about, before_marker=lambda: None)
        assert info.splits["train"].listed == num_images
        moments.append(time.perf_counter())
        clean_up(job, info)
        moments.append(time.perf_counter())
        assert not list(job.work.list())
    steps = ("add up", "commit", "clean up")
    return parts, {step: after - before for step, before, after in zip(steps, moments, moments[1:], strict=False)}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10**7)
    parser.add_argument("--rejects", type=float, default=0.01)
    parser.add_argument("--codes", type=int, default=1024)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--rates", type=float, nargs="+", default=[105.0, 3500.0], help="images/s of one core")
    parser.add_argument("--cores", type=int, default=50)
    options = parser.parse_args()
    parts, seconds = seconds_of_end(options.images, options.rejects, options.codes, options.classes)
    whole = sum(seconds.values())
    words = ", ".join(f"{step} {value:.2f}" for step, value in seconds.items())
    print(
        f"{options.images} images in {parts} parts, {options.rejects:.0%} rejects: the end {whole:.2f} s ({words}), "
        f"{1e3 * whole / parts:.2f} ms a part"
    )
    for rate in options.rates:
        work = options.images / rate / options.cores
        print(f"{options.cores} cores at {rate:.0f} images/s each: {work:.0f} s; the end {whole / (work + whole):.2%}")


if __name__ == "__main__":
    main()
