"""evaluate on tokens: figures say of what they are, and others do not take their place."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seit_ray.config import Evaluate, load
from seit_ray.models.exports import import_model
from seit_ray.shards import TokenDataset
from seit_ray.shards.rewrite import rewrite_dataset
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.verbs.command.hold_out import with_hold_out
from seit_ray.verbs.evaluate import check, evaluate
from tests.tiny_classifiers import write_classifier
from tests.tiny_dataset import NUM_CLASSES, write_dataset
from tests.tiny_images import contents
from tests.verbs.killed import killed_at

NAMES = [f"class {i}" for i in range(NUM_CLASSES)]


@pytest.fixture
def place(tmp_path):
    """tokens/, others/ of the same tokenizer, and run/, with three sorts of weights."""
    place = Folder(tmp_path)
    for name in ("tokens", "others"):
        write_dataset(tmp_path / name)
    run = write_classifier(place.join("run"), place.join("tokens"), class_names=NAMES, ema_seed=1)
    run.write("best.safetensors", run.read("ema.safetensors"))
    return place


def config_of(place, *more, dataset="tokens"):
    return load(Evaluate, [], [f"dataset={place.uri}/{dataset}", f"run={place.uri}/run", *more])


def test_figures_of_other_weights_have_a_file_of_their_own(place):
    for weights, name in (("model", "evaluate-val"), ("ema", "evaluate-val-ema"), ("best", "evaluate-val-best")):
        rows = dict(evaluate(config_of(place, f"weights={weights}")))
        assert rows["figures"] == place.uri_of(f"run/{name}.json")
        figures = json.loads(place.read(f"run/{name}.json"))
        assert figures["weights"] == weights
        assert (figures["run"], figures["data"]) == (place.uri_of("run"), place.uri_of("tokens"))
        assert figures["tokenizer"] == json.loads(place.read("tokens/dataset.json"))["tokenizer"]


def test_mirror_images_are_averaged(place):
    figures = []
    for more in ([], ["mirror=true"]):
        rows = dict(evaluate(config_of(place, *more)))
        figures.append(json.loads(place.read("run/evaluate-val.json")))
    both = figures[1].pop("mirrored")
    assert figures[0] == figures[1]
    assert rows["with mirror images"].startswith(f"{both['top1']:.2%}")
    model, _ = import_model(place.join("run"), "classifier")
    dataset = TokenDataset(place.join("tokens"))
    found, (tokenizer, _) = dataset.read_split("val"), load_tokenizer(place.join("tokens/tokenizer"))
    tokens, labels = torch.from_numpy(found.tokens.astype(np.int64)), torch.tensor(found.meta["label"].to_pylist())
    flipped = tokenizer.encode(tokenizer.decode(tokens).flip(3)).long()
    with torch.inference_mode():
        logits = (model.eval()(tokens) + model(flipped)) / 2
    assert both["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert both["top1"] == (logits.argmax(1) == labels).double().mean().item()


def test_where_there_is_no_mirror_image(place):
    keys = {"mirror=true occlusion=[0.5]": "key mirror with occlusion; expected plain figures, which alone have it"}
    info = TokenDataset(place.join("tokens")).info
    place.write("tokens/dataset.json", replace(info, family="vit_vqgan").to_json())
    keys["mirror=true"] = "mirror with tokens of a vit_vqgan tokenizer in .*; expected those of a centroid tokenizer"
    for more, words in keys.items():
        for asked in (check, evaluate):
            with pytest.raises(ValueError, match=words):
                asked(config_of(place, *more.split()))


@pytest.mark.parametrize("more", [[], ["occlusion=[0.5]"]])
def test_figures_of_other_data_do_not_take_their_place(place, more):
    evaluate(config_of(place, *more))
    evaluate(config_of(place, *more))  # the same again
    other = config_of(place, *more, dataset="others")
    for asked in (check, evaluate):
        with pytest.raises(ValueError, match=r"val.json holds figures of data .*tokens.; .*; set output=FILE.json"):
            asked(other)
    evaluate(other.model_copy(update={"output": place.uri_of("elsewhere.json")}))
    assert json.loads(place.read("elsewhere.json"))["data"] == place.uri_of("others")


@pytest.mark.parametrize("more", [[], ["occlusion=[0.5]"]])
def test_figures_do_not_lie_where_they_are_read(place, more):
    config = config_of(place, *more, f"output={place.uri}/tokens/mine.json")
    for asked in (check, evaluate):
        with pytest.raises(ValueError, match=r"output .*mine.json and dataset .*tokens; expected two folders"):
            asked(config)
    assert not place.exists("tokens/mine.json")


def test_other_classes_are_told_by_the_dry_run(place):
    info = TokenDataset(place.join("others")).info
    place.write("others/dataset.json", replace(info, class_names=[*NAMES[:-1], "owl"]).to_json())
    for asked in (check, evaluate):
        with pytest.raises(ValueError, match=r"others has 4 classes, 'owl' for 'class 3'; expected the 4 that .*run"):
            asked(config_of(place, dataset="others"))


def planned(place, name, **plan):
    """The plan of a dataset, as tokenising images/ would have left it."""
    info = TokenDataset(place.join(name)).info
    made = {"images": place.uri_of("images"), "val_fraction": 0.2, "seed": 3, **plan}
    place.write(f"{name}/dataset.json", replace(info, plan=made).to_json())


def test_tokens_that_hold_out_what_the_run_has_seen_are_refused(place):
    planned(place, "tokens")
    for plan in ({"seed": 4}, {"val_fraction": 0.3}):
        planned(place, "others", **plan)
        for asked in (check, evaluate):
            with pytest.raises(ValueError, match=r"others with val_fraction .*; expected 0.2 and 3, the hold-out"):
                asked(config_of(place, dataset="others"))
        assert check(config_of(place, "split=train", dataset="others"))  # which says what it is
    for plan in ({"val_fraction": 0.1}, {"seed": 4, "images": "elsewhere"}, {"seed": 4, "val_fraction": 0}):
        planned(place, "others", **plan)
        assert check(config_of(place, dataset="others"))  # a part of the hold-out, others, splits of the source
    planned(place, "tokens", val_fraction=0.0)
    planned(place, "others", seed=4)
    assert check(config_of(place, dataset="others"))  # what is val there is said by the source


def test_images_are_held_out_as_they_were_from_the_run(place):
    planned(place, "tokens")
    keys = [f"images={place.uri}/images", f"run={place.uri}/run"]
    for more in (["val_fraction=0.3"], ["seed=4"], ["val_fraction=0.2", "seed=0"]):
        with pytest.raises(ValueError, match=r"val_fraction 0..* and seed .; expected 0.2 and 3, the hold-out of what"):
            with_hold_out(load(Evaluate, [], [*keys, *more]))
    for more, found in (([], (0.2, 3)), (["val_fraction=0.1"], (0.1, 3)), (["split=train"], (0.2, 3))):
        config = with_hold_out(load(Evaluate, [], [*keys, *more]))
        assert (config.val_fraction, config.seed) == found
    other = with_hold_out(load(Evaluate, [], [f"images={place.uri}/others", keys[1]]))
    assert (other.val_fraction, other.seed) == (0, 0)


def test_a_dataset_written_anew_remembers_what_it_has_held_out(place):
    planned(place, "tokens")
    planned(place, "others", seed=4)
    rewrite_dataset(TokenDataset(place.join("others")), place.join("compact"), encoding="compact")
    for asked in (check, evaluate):
        with pytest.raises(ValueError, match=r"compact with val_fraction 0.2 and seed 4; expected 0.2 and 3"):
            asked(config_of(place, dataset="compact"))


def test_files_of_others_beside_the_figures_stay(place):
    place.write("mine.csv", b"mine")
    units = config_of(place, "occlusion=[0.5]", f"output={place.uri}/mine.json")
    for asked in (check, evaluate):
        with pytest.raises(ValueError, match=r"mine.csv exists, which this output would replace; expected a free name"):
            asked(units)
        with pytest.raises(ValueError, match=r"expected a name that ends in .json"):
            asked(units.model_copy(update={"output": place.uri_of("figures.html")}))
    assert place.read("mine.csv") == b"mine"
    free = units.model_copy(update={"output": place.uri_of("free.json")})
    evaluate(free)
    evaluate(free)  # over what it has written itself


@pytest.mark.parametrize("cases", [True, False])
def test_figures_lie_over_figures_of_the_same_kind_alone(place, cases):
    more = ["occlusion=[0.5]"] if cases else []
    config = config_of(place, *more, f"output={place.uri}/a.json")
    other = config_of(place, *([] if cases else ["occlusion=[0.5]"]), f"output={place.uri}/a.json")
    place.write("a.json", b'{"my": "notes"}')
    place.write("folder.json/b", b"")
    for asked in (check, evaluate):
        with pytest.raises(ValueError, match=r"a.json exists, which this output would replace; expected a free name"):
            asked(config)
        with pytest.raises(ValueError, match=r"folder.json is a folder; expected the name of a file"):
            asked(config.model_copy(update={"output": place.uri_of("folder.json")}))
    place.delete("a.json")
    evaluate(config)
    for asked in (check, evaluate):
        with pytest.raises(ValueError, match=r"a.(json|html) exists, which this output would replace"):
            asked(other)
    evaluate(config)


def test_a_report_that_a_kill_cut_short_is_written_by_the_same_command(place, monkeypatch):
    cut = config_of(place, "occlusion=[0.5]", f"output={place.uri}/reports/cut.json")
    reports = place.join("reports")
    with monkeypatch.context() as killing:
        killed_at(killing, "cut.json")
        with pytest.raises(KeyboardInterrupt):
            evaluate(cut)
    assert reports.exists("cut.html")
    assert not reports.exists("cut.json")
    assert check(cut)
    evaluate(cut)
    assert {*contents(reports)} == {f"cut.{ending}" for ending in ("csv", "html", "json", "svg")}
