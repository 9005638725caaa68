"""A training without a recipe is told which one fits."""

import re

import pytest

from seit_ray.config import Finetune, Pretrain, load
from seit_ray.config.loading import RECIPES
from seit_ray.verbs.command.main import main
from seit_ray.verbs.command.recipes import recipe_note
from tests.tiny_dataset import write_dataset


@pytest.mark.parametrize(
    ("verb", "keys", "name"),
    [
        (Pretrain, [], "pretrain_base_in1k_400e"),
        (Pretrain, ["model.size=nano"], "pretrain_nano_cifar10_20e"),
        (Pretrain, ["model.size=large"], "pretrain_base_in1k_400e"),
        (Pretrain, ["model.size=small"], "pretrain_small_cifar10_200e"),
        (Pretrain, ["model.size=small", "objective=dtm"], "pretrain_dtm_small_cifar10_200e"),
        (Pretrain, ["objective=dtm"], "pretrain_dtm_tokens"),
        (Pretrain, ["model.size=small", "objective=ccvit"], "pretrain_ccvit_small_cifar10_200e"),
        (Finetune, [], "finetune_base_in1k_100e"),
        (Finetune, ["model.size=small"], "finetune_small_cifar10_100e"),
        (Finetune, ["task=segment"], "finetune_segment_ade20k_160k"),
        (Finetune, ["task=segment", "model.size=nano"], "finetune_segment_nano_camvid_8e"),
        (Finetune, ["model.inputs=codebook"], "finetune_seit_base_in1k_300e"),
        (Finetune, ["model.inputs=codebook", "model.size=small"], "finetune_seit_small_in1k_300e"),
    ],
)
def test_the_recipe_of_the_same_size_and_inputs(verb, keys, name):
    note = recipe_note(verb.__name__.lower(), load(verb, [], ["dataset=tokens", "run=a", *keys]))
    assert f"--config {name} is: " in note
    assert (RECIPES / f"{name}.yaml").exists()


@pytest.mark.parametrize(("verb", "keys"), [(Finetune, []), (Pretrain, ["objective=ccvit", "model.size=small"])])
def test_none_for_pixels(verb, keys):
    assert recipe_note(verb.__name__.lower(), load(verb, [], ["images=photos", "run=a", *keys])) is None


def test_the_command_line_says_so_unless_a_recipe_is_named(tmp_path, capsys):
    dataset = write_dataset(tmp_path / "tokens", sizes={"train": 64, "val": 8})
    words = [f"dataset={dataset.uri}", f"output={tmp_path}", "run=a", "workers.num_workers=0", "model.size=nano"]
    words += ["loop.global_batch_size=16", "model.grid_side=4", "--dry-run"]
    main(["pretrain", *words])
    assert "--config pretrain_nano_cifar10_20e is: Masked token modelling" in capsys.readouterr().out
    main(["pretrain", "--config", "pretrain_nano_cifar10_20e", *words])
    assert "--config" not in capsys.readouterr().out


def test_a_note_ends_with_its_sentence():
    for verb, keys in ((Finetune, []), (Finetune, ["task=segment"]), (Pretrain, [])):
        for size in ("nano", "small", "base"):
            config = load(verb, [], ["dataset=d", "run=r", f"model.size={size}", *keys])
            note = recipe_note(verb.__name__.lower(), config)
            name = re.search(r"--config (\w+) is: ", note)[1]
            head = (RECIPES / f"{name}.yaml").read_text().partition("\n# Expected")[0]
            said = note.partition(" is: ")[2]
            assert f"{said}." in " ".join(line.strip("# ") for line in head.splitlines())
