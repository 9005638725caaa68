"""What a sweep refuses before its first trial: whatever would end a trial, and keys that nothing reads."""

import csv
import io
import json
import re
import shlex
from collections import Counter

import pytest

from seit_ray.config import Finetune, Pretrain, Sweep, deciding, load
from seit_ray.config.sweep import stage_configs
from seit_ray.shards.dataset import TokenDataset
from seit_ray.storage import Folder
from seit_ray.studies.contents import note_contents
from seit_ray.studies.trials import Outcome
from seit_ray.verbs.command.finetune_checks import check_data
from seit_ray.verbs.command.record import decided_by
from seit_ray.verbs.sweep import as_read, check, command_of, job_of, write_best, write_results
from tests.tiny_classifiers import write_classifier
from tests.tiny_dataset import NUM_CLASSES, write_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("tokens"), sizes={"train": 40, "val": 10}).uri


def write_about(path, kind, dataset, **settings):
    """The folder of a run of this kind on a dataset, as far as checks read it."""
    tokenizer = TokenDataset(Folder(dataset)).info.tokenizer
    run = Folder(path)
    run.write("model.json", json.dumps({"kind": kind, "tokenizer": tokenizer, "settings": settings}).encode())
    return run


def config_of(dataset, output, *keys):
    """A grid over a space that a test gives."""
    given = [f"dataset={dataset}", f"output={output}", "run=a", "search.searcher=grid", "metric=train_loss"]
    return load(Sweep, [], [*given, *keys])


PRETRAIN = {
    "space={dtm.weight: [0.1, 1.0], optimizer.lr: [1e-3]}": r"a pretrain of the space, with dtm.weight=0.1, opt",
    "space={ccvit.num_masked: [1, 2]}": r"ccvit.num_masked with objective mtm on tokens; expected none, since",
    "space={optimizer.lr: [1e-3]} pretrain.objective=dtm": r"dtm.target average with loop.ema_decay 0",
    "space={objective: [mtm, ccvit]} pretrain.masking.loss=bce": r"objective=ccvit: masking.loss with objective ccvit",
    "space={pixels.flip_prob: [0.1]}": r"pixels.flip_prob with objective mtm on tokens",
    "space={model.stem_kernel: [1, 3]}": r"model.stem_kernel=3: grid 4x4 in patches of 3x3",
    "space={masking.mask_ratio_max: [0.9, 0.2]}": r"mask_ratio_max=0.2: mask ratio minimum 0.4, maximum 0.2",
    "space={augment.synonym_share: [0.1, 0.2]}": r"augment.synonym_share=0.1: augment.synonym_share with augment.syn",
    "space={optimizer.lr: [1e-3]} pretrain.augment.adapt_run=photos": r"photos does not exist",
    "space={model.width: [128, 126]}": r"model.width=126: width 126 with num_heads",
}
FINETUNE = {
    "space={model.encoder: [vit, beit]}": r"finetune of the space, with model.encoder=beit: model.inputs learned",
    "space={model.grid_side: [2, 5]}": r"model.grid_side=5: model.grid_side 5; expected at most 4",
}


def said(config):
    """What the dry run says in refusing, which the run says too."""
    with pytest.raises(ValueError, match=r"\S") as told:
        check(config)
    with pytest.raises(ValueError, match=re.escape(str(told.value))):
        job_of(config)
    return str(told.value)


@pytest.mark.parametrize("keys", PRETRAIN)
def test_a_pre_training_that_would_end_or_reads_no_such_key(dataset, tmp_path, keys):
    words = keys.replace(": ", ":").replace(", ", ",").split()
    assert re.search(PRETRAIN[keys], said(config_of(dataset, tmp_path, *words, "pretrain.model.size=nano")))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("keys", FINETUNE)
def test_a_fine_tuning_that_would_end(dataset, tmp_path, keys):
    config = config_of(dataset, tmp_path, keys, "stages=[finetune]", "finetune.model.size=nano")
    assert re.search(FINETUNE[keys], said(config))


def test_of_two_stages_each_is_asked(dataset, tmp_path):
    keys = ["stages=[pretrain,finetune]", "space={finetune.model.grid_side: [4, 5]}"]
    assert "a finetune of the space, with finetune.model.grid_side=5" in said(config_of(dataset, tmp_path, *keys))
    keys[1] = "space={finetune.model.grid_side: [4, 2]}"
    assert said(config_of(dataset, tmp_path, *keys)).endswith(
        "set finetune.model.stem_kernel and finetune.model.grid_side as that run has them"
    )
    keys[1] = "space={finetune.model.width: [768, 96]}"
    assert "with finetune.model.width=96: the pre-training before it has a model of width 768; expected 96" in said(
        config_of(dataset, tmp_path, *keys)
    )
    keys[1] = "space={pretrain.objective: [ccvit]}"
    text = said(config_of(dataset, tmp_path, *keys, "pretrain.ccvit.num_near=3"))
    assert "objective=ccvit: model.inputs learned of encoder beit; expected codebook" in text


SWITCHED = {  # what is searched turns other keys on and off
    "space={augment.noise_prob: [0.0, 0.5]}": ["augment.noise_scale=2.0"],
    "space={augment: {noise_prob: [0.0, 0.5], noise_std: [0.5, 1.0]}}": [],
    "space={augment.adapt: [none, pixels]}": [
        *("augment.adapt_mixup_alpha=0.8", "augment.mix_prob=0.5", "augment.mix_mode=pair", "augment.random_crop=true"),
    ],
    "space={augment.adapt: [none, tokenadapt]}": ["augment.adapt_run=ADAPTER", "augment.adapt_share=0.7"],
    "space={augment.mixup_alpha: [0.0, 0.8], augment.adapt: [none, pixels]}": ["augment.mix_prob=0.5"],
    "space={model.inputs: [learned, codebook]}": ["model.token_dim=48"],
    "space={model.inputs: [codebook, learned]}": ["model.inputs=codebook", "model.standardize=true"],
    "space={model.stem_layers: [0, 2]}": ["model.stem_width=32"],
    "space={model.stem_layers: [1, 0]}": [
        *("model.inputs=codebook", "model.stem_layers=1", "model.stem_pixels=true", "model.stem_width=32"),
    ],
    "space={model: {stem_layers: [0, 1], stem_width: [32, 64]}}": [],
}


@pytest.mark.parametrize("space", SWITCHED)
def test_the_command_of_each_trial_trains_what_the_trial_did(dataset, tmp_path, space):
    adapter = write_about(tmp_path / "adapter", "tokenadapt", dataset, grid=[4, 4], out_grid=[4, 4])
    keys = [f"finetune.{key}".replace("ADAPTER", adapter.uri) for key in SWITCHED[space]]
    config = config_of(dataset, tmp_path, space, "stages=[finetune]", "finetune.model.size=nano", *keys)
    job = job_of(config)
    outcomes = [Outcome(trial.name, trial.settings, "finished", 0.5, 1.0) for trial in job.listed().values()]
    for best in outcomes:
        file = job.folder.uri_of(write_best(config, job, best)["finetune"])
        base = load(Finetune, [file], [])
        check_data(base)
        for outcome in outcomes:
            words = shlex.split(command_of(config, job, best, outcome))
            assert words[:4] == ["seit-ray", "finetune", "--config", file]
            made, trained = load(Finetune, [file], words[4:]), as_read(stage_configs(config, outcome.settings))
            check_data(made)
            assert deciding(made) == deciding(trained["finetune"])
            assert (made.output, made.run) == (base.output, outcome.name)


def test_without_a_best_trial_there_is_no_config_that_a_command_could_name(dataset, tmp_path):
    config = config_of(dataset, tmp_path, "space={optimizer.lr: [1e-3]}")
    job = job_of(config)
    (trial,) = job.listed().values()
    with pytest.raises(ValueError, match="none of 1 trials finished: it broke"):
        write_results(config, job, [Outcome(trial.name, trial.settings, "failed", error="it broke")])
    (row,) = csv.DictReader(io.StringIO(job.folder.read("trials.csv").decode()))
    assert (row["trial"], row["command"], job.folder.exists("best.yaml")) == (trial.name, "", False)


def test_optunas_proposals_are_asked_by_the_edges_of_each_key(dataset, tmp_path):
    keys = ["search.searcher=optuna", "space={dtm.weight: {uniform: [0.5, 1]}}"]
    assert "dtm.weight=0.5: dtm.weight with objective mtm" in said(config_of(dataset, tmp_path, *keys))
    bounds = "masking.mask_ratio_min: {uniform: [0.1, %s]}, masking.mask_ratio_max: {uniform: [0.2, 0.3]}"
    more = "optimizer.lr: {loguniform: [1e-4, 1e-3]}, optimizer.weight_decay: {uniform: [0, 0.1]}"  # 81 combinations
    keys = ["search.searcher=optuna", "pretrain.model.size=nano"]
    for space in (f"space={{{bounds}}}", f"space={{{bounds}, {more}}}"):
        assert job_of(config_of(dataset, tmp_path, *keys, space % 0.15))  # the default's least ratio is none of it
        assert "mask ratio minimum 0.25, maximum 0.2" in said(config_of(dataset, tmp_path, *keys, space % 0.25))


def test_a_sweep_that_starts_from_other_weights_now_is_refused(dataset, tmp_path):
    place = Folder(tmp_path)
    names = [f"class {i}" for i in range(NUM_CLASSES)]
    run = write_classifier(place.join("start"), Folder(dataset), class_names=names, ema_seed=1)
    keys = ["stages=[finetune]", "space={optimizer.lr: [1e-3]}", f"init_from={run.uri}", "transfer=true"]
    keys += [f"finetune.model.{key}" for key in ("width=16", "depth=2", "num_heads=2", "token_dim=8", "stem_kernel=1")]
    config = config_of(dataset, tmp_path, *keys)
    job = job_of(config)
    assert set(job.contents) == {f"{dataset}/dataset.json", run.uri_of("model.safetensors")}
    note_contents(job.folder, job.contents)
    job.folder.write("sweep.run.json", b"{}")  # as begin_record leaves it
    job_of(config)
    run.write("model.safetensors", run.read("ema.safetensors"))
    with pytest.raises(ValueError, match=r"a has trials that read another .*start/model.safetensors"):
        job_of(config)
    job_of(config_of(dataset, tmp_path, *keys, "init_weights=ema"))


@pytest.mark.parametrize("reads", ["adapt_run", "init_from"])
def test_a_run_that_all_trials_read_is_asked_for_once(dataset, tmp_path, monkeypatch, reads):
    keys = [
        "space={optimizer.lr: [1, 2, 3, 4, 5]}",
        "pretrain.model.size=nano",
        f"pretrain.augment.adapt_run={tmp_path}/run",
    ]
    if reads == "adapt_run":
        run = write_about(tmp_path / "run", "tokenadapt", dataset, grid=[4, 4], out_grid=[4, 4])
    else:
        run = write_classifier(Folder(tmp_path / "run"), Folder(dataset), class_names=["a"], ema_seed=1)
        small = ("width=16", "depth=2", "num_heads=2", "token_dim=8", "stem_kernel=1")
        keys = [keys[0], "stages=[finetune]", *(f"finetune.model.{key}" for key in small)]
        keys += [f"init_from={run.uri}", "transfer=true"]
    asked = []
    for name in ("exists", "read"):
        real = getattr(Folder, name)
        monkeypatch.setattr(Folder, name, lambda self, file, _r=real: asked.append(self.uri_of(file)) or _r(self, file))
    assert len(job_of(config_of(dataset, tmp_path / "out", *keys)).listed()) == 5
    assert asked.count(run.uri_of("model.json")) == 2  # whether it is there, and what it says
    before = len(asked)
    job_of(config_of(dataset, tmp_path / "out", *keys))  # another check asks anew
    assert asked.count(run.uri_of("model.json")) == 4
    assert len(asked) == 2 * before
    assert max(Counter(asked[:before]).values()) < 5, asked[:before]  # nothing is asked for by each trial


def test_the_command_of_a_trial_of_two_stages_is_of_its_own_pre_training(dataset, tmp_path):
    space = "space={pretrain.masking.mask_ratio_mu: [0.5, 0.6], finetune.optimizer.weight_decay: [0.1]}"
    small = [f"{stage}.model.size=nano" for stage in ("pretrain", "finetune")]
    config = config_of(dataset, tmp_path, "stages=[pretrain,finetune]", space, "metric=val_top1", *small)
    job = job_of(config)
    first, other = (Outcome(trial.name, trial.settings, "finished", 0.5, 1.0) for trial in job.listed().values())
    write_best(config, job, first)
    commands = [shlex.split(part) for part in command_of(config, job, first, other).split(" && ")]
    made = [load(verb, [words[3]], words[4:]) for verb, words in zip((Pretrain, Finetune), commands, strict=True)]
    trained = job.build(other.settings).stages
    assert [words[:3] for words in commands] == [["seit-ray", s, "--config"] for s in ("pretrain", "finetune")]
    assert made[0].masking.mask_ratio_mu == trained[0].arguments["masking"].mask_ratio_mu == 0.6
    assert made[1].init_from == f"{made[0].output}/{made[0].run}"
    theirs = [stage.arguments["decided_by"] for stage in trained]
    assert [decided_by(config) | {"init_from": None} for config in made] == [d | {"init_from": None} for d in theirs]


@pytest.mark.parametrize("space", ["augment.noise_prob: [0, 0.5]", "augment: {noise_prob: [0, 0.5]}"])
def test_what_a_space_turns_off_may_be_set_beside_it_however_it_is_written(dataset, tmp_path, space):
    keys = ["pretrain.augment.noise_std=0.5", "pretrain.model.size=nano"]
    for text in (space, f"pretrain: {{{space}}}"):
        assert len(job_of(config_of(dataset, tmp_path, f"space={{{text}}}", *keys)).listed()) == 2


def test_keys_that_are_read_are_searched(dataset, tmp_path):
    keys = ["space={dtm.weight: [0.1, 1.0]}", "pretrain.objective=dtm", "pretrain.loop.ema_decay=0.9"]
    assert len(job_of(config_of(dataset, tmp_path, *keys)).listed()) == 2
