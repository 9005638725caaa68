"""Processor time of `evaluate corruptions=...` against a bare loop: decode once, corrupt, tokenise, classify.

python -m tests.benchmarks.robustness_rate IMAGES [--num-images N] [--image-size S] [--patch-size P] [--codes K] ...

The classifier is drawn, not trained; both sides have one thread of torch, and the loop batches as the verb does. The
verb lists, reads, keeps records and writes its report; starting Python and loading the model are not counted.
"""

import argparse
import json
import tempfile
import time

import numpy as np
import torch

from seit_ray.config import Evaluate
from seit_ray.evaluation.corruptions.corrupt import corrupted
from seit_ray.evaluation.corruptions.strengths import SEVERITIES, corruption_names, strengths_for
from seit_ray.evaluation.image_classifier import ImageClassifier
from seit_ray.images import decode_image
from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.files import save_tokenizer
from seit_ray.verbs.evaluate import evaluate
from tests.tiny_classifiers import write_classifier

BATCH = 64


def write_inputs(place: Folder, options: argparse.Namespace) -> None:
    """images/ in one class, tokens/ with a drawn tokenizer, run/ with a drawn classifier."""
    source = Folder(options.images)
    names = [e.name for e in source.list() if e.name.lower().endswith((".jpg", ".jpeg", ".png"))][: options.num_images]
    for number, data in enumerate(source.read_many(names)):
        place.write(f"images/cat/{number:05d}.jpg", data)
    codebook = torch.rand(options.codes, 3 * options.patch_size**2, generator=torch.Generator().manual_seed(0))
    tokenizer = CentroidTokenizer(codebook, image_size=options.image_size, patch_size=options.patch_size)
    save_tokenizer(tokenizer, place.join("tokens", "tokenizer"))
    write_classifier(place.join("run"), place.join("tokens"), class_names=("cat", "dog", "emu", "fox", "owl", "yak"))


def bare_loop(place: Folder, names: list[str]) -> list[float]:
    """Top-1 of clean and of each case."""
    classifier = ImageClassifier.load(place.join("run"))
    folder, size = place.join("images"), classifier.image_size
    keys = [entry.name for entry in folder.list()]
    pixels = np.stack([decode_image(folder.read(key), image_size=size).pixels for key in keys])
    found = []
    for case in (None, *((name, severity) for name in names for severity in SEVERITIES)):
        hits = 0
        for start in range(0, len(keys), BATCH):
            images = pixels[start : start + BATCH]
            if case is not None:
                images = np.stack(
                    [
                        corrupted(image, *case, key=key, strengths=strengths_for(size))
                        for image, key in zip(images, keys[start : start + BATCH], strict=True)
                    ]
                )
            hits += int((classifier.logits(torch.from_numpy(images)).argmax(1) == 0).sum())
        found.append(hits / len(keys))
    return found


def by_verb(place: Folder, names: list[str], attempt: int) -> list[float]:
    """The same figures from the verb, in this process."""
    config = Evaluate(
        images=place.uri_of("images"),
        run=place.uri_of("run"),
        split="train",
        corruptions=names,
        batch_size=BATCH,
        output=place.uri_of(f"figures-{attempt}.json"),
    )
    evaluate(config)
    figures = json.loads(place.read(f"figures-{attempt}.json"))
    cases = [case["top1"] for one in figures["corruptions"].values() for case in one["severities"].values()]
    return [figures["clean"]["top1"], *cases]


def main() -> None:
    """Print both times and their ratio, the best of rounds that alternate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    parser.add_argument("--corruptions", nargs="+", default=["imagenet_c"])
    numbers = {"num-images": 64, "image-size": 224, "patch-size": 8, "codes": 1024, "rounds": 3}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = corruption_names(options.corruptions)
    with tempfile.TemporaryDirectory() as folder:
        place = Folder(folder)
        write_inputs(place, options)
        times: dict[str, list[tuple[float, float]]] = {"loop": [], "verb": []}
        for attempt in range(options.rounds):
            for side, function in (
                ("loop", lambda: bare_loop(place, names)),
                ("verb", lambda n=attempt: by_verb(place, names, n)),
            ):
                began = time.process_time(), time.perf_counter()
                found = function()
                times[side].append((time.process_time() - began[0], time.perf_counter() - began[1]))
                if side == "loop":
                    expected = found
                elif np.abs(np.array(found) - expected).max() > 1e-9:
                    raise SystemExit(f"figures differ: {found} {expected}")
        cases = 1 + len(names) * len(SEVERITIES)
        best = {side: tuple(min(column) for column in zip(*rows, strict=True)) for side, rows in times.items()}
        print(f"{options.num_images} images of {options.image_size}x{options.image_size}, {cases} cases each:")
        for side, (processor, wall) in best.items():
            each = 1000 * processor / options.num_images
            print(f"  {side}: {processor:.1f} s of processor time, {each:.0f} ms an image; {wall:.1f} s by the clock")
        ratios = (best["verb"][i] / best["loop"][i] for i in range(2))
        print("  verb / loop: {:.3f} in processor time, {:.3f} by the clock".format(*ratios))


if __name__ == "__main__":
    main()
