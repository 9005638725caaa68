"""Evaluation under corruptions: the figures of a plain loop, for any number of processes, also after a kill."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from seit_ray.evaluation.corruptions.corrupt import corrupted
from seit_ray.evaluation.image_classifier import ImageClassifier
from seit_ray.images import decode_image
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.runs import evaluate_corruptions as module
from seit_ray.runs.evaluate_images import evaluate_images
from seit_ray.storage import Folder
from seit_ray.training.world import World
from tests.tiny_classifiers import write_classifier
from tests.tiny_images import contents, image_files, write_files, write_tokenizer
from tests.warm import processes as warm

ROOT = Path(__file__).parents[2]
CORRUPTIONS, SEVERITIES = ["gaussian_noise", "fog", "pixelate"], [1, 5]
BAD = {"val/dog/empty.png": b"", "val/cat/text.jpg": b"this is no picture"}
NUM, PART_ROWS = 30, 8


def evaluated(place, work, world=None, **settings):
    """Figures of the val split, in parts of a few images."""
    options = {"split": "val", "val_fraction": 0.0, "seed": 0, "tokenizer": None, "weights": "model", "batch_size": 5}
    options |= {"corruptions": CORRUPTIONS, "severities": SEVERITIES, "strengths": "auto", "classes": "all"}
    options |= {"images": place.join("images"), "source": SourceSettings(), "run": place.join("run"), "work": work}
    return module.evaluate_corruptions(world=world or World(device=torch.device("cpu")), **options | settings)


def main(folder, size, rank):
    """One of several processes that evaluate together."""
    patience = timedelta(seconds=120)
    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", patience, size, rank)
    module.ROWS_PER_PART = PART_ROWS  # in the process that is started, for which nothing is patched
    place = Folder(folder)
    figures = evaluated(place, place.join("shared"), World(rank, size, torch.device("cpu")))
    place.write(f"{rank}.json", json.dumps(figures).encode())
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module", autouse=True)
def _small_parts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS_PER_PART", PART_ROWS)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """images/, tokens/ with a tokenizer, run/."""
    place = Folder(tmp_path_factory.mktemp("place"))
    files = {f"val/{name}": data for name, data in image_files(NUM, classes=("cat", "emu", "dog")).items()}
    write_files(place.join("images"), files | BAD)
    write_tokenizer(place.join("tokens", "tokenizer"))
    # the run's order of classes is not that of the source, and it knows more
    names = ("emu", "fox", "cat", "dog", "yak", "owl")
    write_classifier(place.join("run"), place.join("tokens"), class_names=names, seed=10)
    return place


@pytest.fixture(scope="module")
def figures(place, tmp_path_factory):
    return evaluated(place, Folder(tmp_path_factory.mktemp("work")))


def loop_logits(place, corruption=None, severity=None):
    """(logits [N,C], labels [N]) of a plain loop: preprocessing, corruption, tokenizer, classifier."""
    classifier = ImageClassifier.load(place.join("run"))
    names = [e.name for e in place.join("images").list("val/") if e.name not in BAD]
    pixels = [decode_image(place.join("images").read(name), image_size=16).pixels for name in names]
    if corruption:
        pixels = [
            corrupted(one, corruption, severity, key=name, strengths="cifar10_c")
            for one, name in zip(pixels, names, strict=True)
        ]
    labels = torch.tensor([classifier.class_names.index(name.split("/")[1]) for name in names])
    return classifier.logits(torch.from_numpy(np.stack(pixels))), labels


def test_figures_are_those_of_a_plain_loop(place, figures):
    assert figures["samples"] == NUM
    assert (figures["strengths"], figures["image_size"], figures["num_scored"]) == ("cifar10_c", 16, 6)
    logits, labels = loop_logits(place)
    assert figures["clean"]["top1"] == (logits.argmax(1) == labels).double().mean().item()
    tops = []
    for name in CORRUPTIONS:
        for severity in SEVERITIES:
            logits, labels = loop_logits(place, name, severity)
            found = figures["corruptions"][name]["severities"][str(severity)]
            tops.append((logits.argmax(1) == labels).double().mean().item())
            assert found["top1"] == pytest.approx(tops[-1])
            assert found["loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
            hits5 = (logits.topk(5).indices == labels[:, None]).any(1)
            assert found["top5"] == pytest.approx(hits5.double().mean().item())
    assert figures["mean"]["top1"] == pytest.approx(np.mean(tops))
    assert len(set(tops)) > 2


def test_clean_figures_are_those_of_the_plain_evaluation(place, figures):
    plain = evaluate_images(
        images=place.join("images"),
        source=SourceSettings(),
        run=place.join("run"),
        split="val",
        val_fraction=0.0,
        seed=0,
        tokenizer=None,
        weights="model",
        batch_size=7,
        world=World(device=torch.device("cpu")),
    )
    assert {name: figures["clean"][name] for name in ("top1", "top5")} == {n: plain[n] for n in ("top1", "top5")}
    assert figures["per_class_top1"] == plain["per_class_top1"]
    assert (figures["listed"], figures["rejected"]) == (plain["listed"], plain["rejected"])
    assert [row["key"] for row in figures["rejected"]] == sorted(BAD)


def test_two_processes_find_what_one_finds(place, figures, tmp_path):
    code = "import sys, tests.runs.test_evaluate_corruptions as t; t.main(sys.argv[1], 2, 1)"
    for name in ("images", "run", "tokens"):
        (tmp_path / name).symlink_to(f"{place.uri}/{name}")
    with warm.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE, text=True) as second:
        main(str(tmp_path), 2, 0)
        errors = second.communicate(timeout=120)[1]
    assert second.returncode == 0, errors
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert found == [json.loads(json.dumps(figures))] * 2


class Killed(BaseException):
    """What ends the first attempt."""


def test_what_is_finished_is_not_done_again(place, figures, tmp_path, monkeypatch):
    work, decoded, write = Folder(tmp_path / "work"), [], module.CaseRecords.write
    plain = module.decoded_chunks
    monkeypatch.setattr(module, "decoded_chunks", lambda rows, *more: decoded.append(len(rows)) or plain(rows, *more))

    def dies(self, index, record):
        if index == 2:
            raise Killed
        write(self, index, record)

    with monkeypatch.context() as patch:
        patch.setattr(module.CaseRecords, "write", dies)
        with pytest.raises(Killed):
            evaluated(place, work)
    assert len([name for name in contents(work) if name.startswith("parts/")]) == 2
    decoded.clear()
    shown = []
    again = evaluated(place, work, on_progress=lambda *state: shown.append(state[1]))
    assert again == figures  # to the last digit
    assert decoded == [8, 8]  # of 32 images, those of the last two parts
    assert (shown[0], shown[-1]) == (16, 32)
    assert shown == sorted(shown)
    assert len(set(shown)) > 6  # the cases of a part show too
    decoded.clear()
    assert evaluated(place, work) == figures
    assert decoded == []
    assert evaluated(place, work, severities=[1, 2])["corruptions"]["fog"]["severities"].keys() == {"1", "2"}
    assert decoded == [8] * 4  # another plan: all of it


def test_images_are_decoded_once_for_all_cases(place, tmp_path, monkeypatch):
    seen, decode = [], module.Decoding.decode
    monkeypatch.setattr(module.Decoding, "decode", lambda self, *more: seen.append(1) or decode(self, *more))
    evaluated(place, Folder(tmp_path / "work"))
    assert len(seen) == NUM + len(BAD)


def test_classes_that_are_present_are_scored_alone(place, figures, tmp_path):
    found = evaluated(place, Folder(tmp_path / "work"), classes="present")
    logits, labels = loop_logits(place)
    known = [0, 2, 3]  # emu, cat, dog of six
    expected = (torch.tensor(known)[logits[:, known].argmax(1)] == labels).double().mean().item()
    assert found["num_scored"] == 3
    assert found["clean"]["top1"] == pytest.approx(expected) != figures["clean"]["top1"]
    assert found["clean"]["top5"] == 1.0
    logits, labels = loop_logits(place, "fog", 5)
    expected = torch.nn.functional.cross_entropy(logits[:, known], torch.tensor([known.index(i) for i in labels]))
    assert found["corruptions"]["fog"]["severities"]["5"]["loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_clean_alone(place, figures, tmp_path):
    found = evaluated(place, Folder(tmp_path / "work"), corruptions=[])
    assert (found["clean"], found["corruptions"]) == (figures["clean"], {})
    assert "mean" not in found


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"val/bat/a.png": b"x", "val/elk/b.png": b"x"}, "2 classes that .* does not know: 'bat', 'elk'"),
        ({"val/cat/a.png": b"", "val/dog/b.png": b""}, "none of 2 images in split 'val' of .* can be read .empty"),
    ],
)
def test_wrong_sources_are_named(place, tmp_path, files, words):
    images = write_files(tmp_path / "images", files)
    with pytest.raises(ValueError, match=words) as caught:
        evaluated(place, Folder(tmp_path / "work"), images=images)
    assert "\n" not in str(caught.value)
