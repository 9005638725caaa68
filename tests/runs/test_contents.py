"""Weights that a run reads from elsewhere are part of it: others under the same name are refused."""

from dataclasses import replace

import pytest
import torch

from seit_ray.models.build import build_model
from seit_ray.models.exports import export_model
from seit_ray.models.weights import save_tensors
from seit_ray.runs.contents import adapt_contents, file_mark, morph_contents
from seit_ray.runs.morph_sources import MorphSources
from seit_ray.runs.settings import AugmentationSettings, VqganSettings
from seit_ray.runs.vit_vqgan import perceptual_contents
from seit_ray.storage import Folder
from seit_ray.training.checkpoints import load_checkpoint
from seit_ray.training.identity import CONTENTS, check_same
from tests.runs.test_dtm import LOOP, pretrain
from tests.tiny_dataset import write_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """32 samples of 8x8 tokens; not to be changed."""
    return write_dataset(tmp_path_factory.mktemp("tokens"), sizes={"train": 32}, side=8)


def change_weights(run):
    """Train them a little more, as it were."""
    from seit_ray.models.weights import load_weights

    state = load_weights(run.read("model.safetensors"))
    name = next(name for name, value in state.items() if value.is_floating_point())
    run.write("model.safetensors", save_tensors({**state, name: state[name] + 0.01}))


def test_a_run_is_not_continued_with_other_weights_to_aim_at(dataset, tmp_path):
    first, second = Folder(tmp_path / "first"), Folder(tmp_path / "second")
    pretrain(first, dataset)
    settings = {"target": "run", "sources": MorphSources(run=first)}
    pretrain(second, dataset, **settings)
    marks = load_checkpoint(second)[1][CONTENTS]
    assert marks.keys() == {"dtm.target_run"}
    pretrain(second, dataset, **settings)  # the same
    change_weights(first)
    with pytest.raises(ValueError, match=r"made with weights of dtm\.target_run '[0-9a-f]{16}'; expected '[0-9a-f]"):
        pretrain(second, dataset, **settings)
    assert load_checkpoint(second)[1][CONTENTS] == marks


def test_what_a_run_starts_from_is_named_by_its_weights_too(dataset, tmp_path):
    from tests.runs.test_runs import finetune

    start, run = Folder(tmp_path / "start"), Folder(tmp_path / "classifier")
    pretrain(start, dataset)
    loop = replace(LOOP, epochs=1)
    finetune(dataset, run, start, loop=loop, stem_kernel=2)
    assert load_checkpoint(run)[1][CONTENTS].keys() == {"init_from"}
    change_weights(start)
    with pytest.raises(ValueError, match="weights of init_from"):
        finetune(dataset, run, start, loop=loop, stem_kernel=2)


def test_marks_are_of_what_is_read(tmp_path):
    folder = Folder(tmp_path)
    folder.write("teacher.pt", b"weights")
    sources = MorphSources(weights=folder, weights_file="teacher.pt")
    first = morph_contents(sources)
    assert first == {"dtm.teacher_weights": file_mark(folder, "teacher.pt")}
    folder.write("teacher.pt", b"other weights")
    assert morph_contents(sources) != first
    assert morph_contents(MorphSources()) == {}
    vqgan = VqganSettings(perceptual_network="resnet10t", perceptual_weights=f"{folder.uri}/teacher.pt")
    assert perceptual_contents(vqgan, folder) == {"vit_vqgan.perceptual_weights": file_mark(folder, "teacher.pt")}
    assert perceptual_contents(VqganSettings(), folder) == {}


def test_the_mark_of_tokenadapt_is_taken_where_it_augments(tmp_path):
    torch.manual_seed(0)
    settings = {"grid": (2, 2), "out_grid": (2, 2), "num_codes": 5, "dim": 4, "width": 8, "num_heads": 2}
    run = Folder(tmp_path)
    export_model(run, build_model("tokenadapt", **settings), kind="tokenadapt", settings=settings, about={})
    found = adapt_contents(AugmentationSettings(adapt="tokenadapt"), run)
    assert len(found["augment.adapt_run"]) == 16
    assert adapt_contents(AugmentationSettings(), run) == {}


def test_marks_that_an_older_run_did_not_take_are_not_compared():
    check_same({"kind": "mtm"}, {"kind": "mtm", CONTENTS: {"init_from": "a"}}, "runs/r")
    check_same({CONTENTS: {"init_from": "a"}}, {CONTENTS: {}}, "runs/r")
    with pytest.raises(ValueError, match="runs/r was made with weights of init_from 'a'; expected 'b'"):
        check_same({CONTENTS: {"init_from": "a"}}, {CONTENTS: {"init_from": "b", "other": "c"}}, "runs/r")


def test_probes_are_turned_on_later_unless_they_choose_the_best_weights(dataset, tmp_path):
    from seit_ray import config
    from seit_ray.runs.pretrain import pretrain as run_pretrain
    from tests.runs.test_dtm import OPTIMIZER, SMALL
    from tests.tiny_trainers import CPU

    def train(run, loop, **probe):
        return run_pretrain(
            dataset=dataset,
            run=run,
            model=config.Model(**SMALL).settings(),
            masking=config.Masking().settings(),
            augment=config.Augment().settings(),
            adapt_run=None,
            probe=config.Probe(methods=("rankme",), **probe).settings(),
            loop=loop,
            optimizer=OPTIMIZER,
            world=CPU,
        )

    free, best = Folder(tmp_path / "free"), Folder(tmp_path / "best")
    train(free, LOOP)
    train(free, LOOP, every_epochs=1)
    kept = replace(LOOP, keep_best="probe_rankme", eval_every_epochs=1)
    train(best, kept, every_epochs=1)
    with pytest.raises(ValueError, match=r"was made with probe\.max_train 10000; expected 8"):
        train(best, kept, every_epochs=1, max_train=8)
