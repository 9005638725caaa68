"""What a user can set: keys, types, overrides, files, descriptions."""

import dataclasses
import pkgutil
import re
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from seit_ray import config
from seit_ray.config import (
    Evaluate,
    Finetune,
    Pretrain,
    Quickstart,
    StudyContinual,
    fields,
    load,
    sections,
    type_name,
    write,
)
from seit_ray.config.loading import read_yaml
from seit_ray.verbs.command.arguments import VERBS

RECIPE = str(Path(__file__).parents[2] / "pipelines" / "configs" / "pretrain_base_in1k_400e.yaml")
REQUIRED = ["dataset=tokens", "run=mtm"]
EACH_VERB = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())


def refusal(verb, file, overrides):
    """The one line with which settings are refused."""
    with pytest.raises(ValueError, match=r"\S") as caught:
        load(verb, [file] if file else [], overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def written(tmp_path, text):
    """A config file with that text."""
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_overrides_win_over_the_file_and_that_over_defaults(tmp_path):
    file = written(tmp_path, "run: mtm\ndataset: a\nloop:\n  epochs: 70\n  seed: 3\nmodel: {size: tiny}\n")
    found = load(Pretrain, [file], ["loop.epochs=90", "dataset=b", "masking.mask_ratio_std=0"])
    assert (found.run, found.dataset) == ("mtm", "b")
    assert (found.loop.epochs, found.loop.seed, found.loop.global_batch_size) == (90, 3, 4096)
    assert (found.model.size, found.masking.mask_ratio_std) == ("tiny", 0.0)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("loop.epochs=120", "epochs", 120),
        ("loop.compile=true", "compile", True),
        ("loop.ema_decay=0.5", "ema_decay", 0.5),
        ("loop={epochs: 300, seed: 4}", "seed", 4),
        ("optimizer.lr=1e-3", "lr", 1e-3),
        ("optimizer.lr=", "lr", None),
        ("optimizer.lr=null", "lr", None),
        ("optimizer.betas=[0.8, 0.9]", "betas", (0.8, 0.9)),
        ("workers.num_workers=0", "num_workers", 0),
        ("workers.num_workers=[1, 4]", "num_workers", (1, 4)),
    ],
)
def test_values_are_read_as_yaml(text, key, value):
    found = load(Pretrain, [], [*REQUIRED, text])
    assert getattr(getattr(found, text.split(".")[0].split("=")[0]), key) == value


@pytest.mark.parametrize("text", ["007", "2024", "1234567e89", "1e3", "true", "2024-01-31", "0x10", "a", "1.5"])
def test_text_is_taken_as_it_is_written(text):
    config = load(Pretrain, [], ["dataset=d", "output=o", f"run={text}", f"storage.secret_access_key={text}"])
    assert config.run == text
    assert config.storage.secret_access_key.get_secret_value() == text
    assert load(Pretrain, [], ["dataset=d", "output=o", f"run='{text}'"]).run == text


@pytest.mark.parametrize("number", [3, [1, 4]])
def test_workers_are_recorded_as_they_are_given(number):
    found = load(Pretrain, [], [*REQUIRED, f"workers.num_workers={number}"])  # a warning would be an error
    assert found.model_dump(mode="json")["workers"]["num_workers"] == number


def test_a_value_may_hold_an_equals_sign():
    assert load(Pretrain, [], ["dataset=s3://bucket/a=b/c=d", "run=x"]).dataset == "s3://bucket/a=b/c=d"


@pytest.mark.parametrize("keys", [("loop.seed=3", "loop={epochs: 5}"), ("loop={epochs: 5}", "loop.seed=3")])
def test_a_section_is_laid_over_what_was_said_of_it(tmp_path, keys):
    (tmp_path / "keys.yaml").write_text("loop: {global_batch_size: 77, epochs: 9}\noptimizer: {warmup_epochs: 1}")
    config = load(Pretrain, [str(tmp_path / "keys.yaml")], ["dataset=d", "output=o", "run=r", *keys])
    assert (config.loop.seed, config.loop.epochs, config.loop.global_batch_size) == (3, 5, 77)


def test_the_last_of_two_overrides_counts():
    assert load(Pretrain, [], [*REQUIRED, "loop.epochs=200", "loop.epochs=500"]).loop.epochs == 500


@pytest.mark.parametrize(
    ("verb", "text", "nearest"),
    [
        (Pretrain, "loop.epoch=3", "unknown key loop.epoch; did you mean loop.epochs?"),
        (Pretrain, "epochs=3", "unknown key epochs; did you mean loop.epochs?"),
        (Pretrain, "optimiser.lr=3", "unknown key optimiser; did you mean optimizer"),
        (Pretrain, "lop.epochs=3", "unknown key lop; did you mean loop"),
        (Finetune, "model.droppath=0", "unknown key model.droppath; did you mean model.drop_path?"),
        (Finetune, "init_form=a", "unknown key init_form; did you mean init_from?"),
        (
            Quickstart,
            "pretrain.loop.sed=1",
            "unknown key pretrain.loop.sed; did you mean pretrain.loop.seed?",
        ),
        (Pretrain, "zzz=1", "unknown key zzz; see --help for the keys"),
    ],
)
def test_an_unknown_key_names_the_nearest(verb, text, nearest):
    required = [] if verb is Quickstart else REQUIRED
    assert refusal(verb, None, [*required, text]).startswith(nearest)


def test_rows_are_standardized_where_there_are_rows():
    words = [*REQUIRED, "model.standardize=true"]
    assert "set model.inputs=codebook" in refusal(Finetune, None, words)
    assert load(Finetune, [], [*words, "model.inputs=codebook"]).model.standardize
    assert "model.stem_layers of 1 or more" in refusal(
        Finetune, None, [*REQUIRED, "model.inputs=codebook", "model.stem_pixels=true"]
    )
    assert "set model.inputs=codebook, or leave model.stem_pixels out" in refusal(
        Finetune, None, [*REQUIRED, "model.stem_layers=2", "model.stem_pixels=true"]
    )
    assert "multiple of 8" in refusal(Finetune, None, [*REQUIRED, "model.stem_width=12"])


def test_an_unknown_key_in_a_file_is_refused_too(tmp_path):
    file = written(tmp_path, "dataset: a\nrun: b\nloop: {epochs: 3, batch_size: 4}\n")
    assert "unknown key loop.batch_size; did you mean loop.global_batch_size?" in refusal(Pretrain, file, [])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("loop.epochs=many", "key loop.epochs is 'many'; expected: Input should be a valid integer"),
        ("loop.epochs=0", "key loop.epochs is 0; expected: Input should be greater than 0"),
        ("loop.epochs=1.5", "key loop.epochs is 1.5; expected: Input should be a valid integer"),
        ("loop.ema_decay=1", "key loop.ema_decay is 1; expected: Input should be less than 1"),
        ("loop=3", "key loop is 3; expected: Input should be a valid dictionary"),
        ("loop.seed=-1", "key loop.seed is -1; expected: Input should be greater than or equal to 0"),
        ("model.size=huge", "key model.size is 'huge'; expected: Input should be 'nano', 'tiny'"),
        ("optimizer.betas=[0.9]", "key optimizer.betas.1 is [0.9]; expected: Field required"),
        (
            "optimizer.layer_decay=0",
            "key optimizer.layer_decay is 0; expected: Input should be greater than 0",
        ),
        ("masking.mask_ratio_min=1.5", "key masking.mask_ratio_min is 1.5; expected: Input should be less"),
        (
            "workers.num_workers=",
            "key workers.num_workers is None; expected: a whole number of 0 or more, or [least, most]",
        ),
        ("workers.num_workers=[3, 2]", "key workers.num_workers is [3, 2]; expected: a whole number"),
        ("workers.num_workers=-1", "key workers.num_workers is -1; expected: a whole number"),
        ("loop.epochs.x=3", "key loop.epochs"),
    ],
)
def test_a_wrong_value_names_key_value_and_expectation(text, error):
    assert error in refusal(Pretrain, None, [*REQUIRED, text])


def test_every_wrong_key_is_named_at_once():
    text = refusal(Pretrain, None, ["loop.epochs=x", "loop.sed=1"])
    for part in (
        "key run is missing; expected run=VALUE",
        "loop.epochs",
        "loop.sed",
    ):
        assert part in text


@pytest.mark.parametrize("text", ["epochs", "=3", "", "loop.epochs 3"])
def test_an_argument_that_sets_nothing(text):
    assert refusal(Pretrain, None, [text]) == f"argument {text!r}; expected key=value; see --help for the keys"


@pytest.mark.parametrize("value", ["[1, 2", "{a: b", "a: b: c", '"open', "*x", "@", "\x00"])
def test_an_override_that_is_not_yaml(value):
    text = refusal(Pretrain, None, [*REQUIRED, f"loop.epochs={value}"])
    assert text.startswith("key loop.epochs has a value that is not YAML")


def test_a_section_cannot_be_set_below_a_value(tmp_path):
    text = refusal(Pretrain, written(tmp_path, "loop: 3\n"), [*REQUIRED, "loop.epochs=3"])
    assert text == "key loop.epochs: loop holds a value; expected a section"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a: [1, 2", "is not YAML"),
        ("a: b: c", "is not YAML"),
        (b"\xff\xfe\x00\x01", "is not YAML"),
        ("- a\n- b\n", "holds a list; expected a mapping of keys"),
        ("just text", "holds a str; expected a mapping of keys"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_a_file_that_is_no_mapping(tmp_path, text, error):
    file = written(tmp_path, text)
    found = refusal(Pretrain, file, REQUIRED)
    assert found.startswith(f"config file {file}")
    assert error in found


def test_a_missing_file(tmp_path):
    assert "config file nowhere.yaml: no such file or recipe; expected" in refusal(Pretrain, "nowhere.yaml", [])
    assert "config file a/nowhere.yaml: No such file or directory" in refusal(Pretrain, "a/nowhere.yaml", [])
    assert "did you mean pretrain_base_in1k_400e?" in refusal(Pretrain, "pretrain_base_in1k", [])
    assert f"config file {tmp_path}: Is a directory" in refusal(Pretrain, str(tmp_path), [])


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_changes_nothing(tmp_path, text):
    assert load(Pretrain, [written(tmp_path, text)], REQUIRED) == load(Pretrain, [], REQUIRED)


@EACH_VERB
def test_every_key_of_every_verb_is_described(verb):
    keys = dict(fields(verb))
    assert len(keys) > 8
    assert [key for key, (_, text, _) in keys.items() if not text.strip()] == []
    assert verb.__doc__.strip()
    assert all(type_name(kind) for kind, _, _ in keys.values())


def test_defaults_of_a_key_are_those_that_hold():
    assert dict(fields(Finetune))["optimizer.lr_rule"][2] == "sqrt"
    assert dict(fields(Pretrain))["optimizer.lr_rule"][2] == "linear"
    assert dict(fields(Evaluate))["workers.num_workers"][2] == 0
    assert dict(fields(Quickstart))["finetune.loop.global_batch_size"][2] == 1024


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (int, "int"),
        (sections.PositiveInt, "int"),
        (str | None, "str"),
        (float | None, "float"),
        (config.Loop.model_fields["precision"].annotation, "auto|fp32|bf16"),
        (tuple[float, float], "[float,float]"),
        (SecretStr | None, "secret"),
    ],
)
def test_names_of_types(annotation, name):
    assert type_name(annotation) == name


def test_published_settings_of_seitpp():
    pretrain, finetune = load(Pretrain, [], REQUIRED), load(Finetune, [], REQUIRED)
    masking = pretrain.masking
    assert (masking.mask_ratio_min, masking.mask_ratio_mu) == (0.4, 0.45)
    assert (masking.mask_ratio_std, masking.mask_ratio_max) == (0.25, 1.0)
    assert (pretrain.loop.epochs, pretrain.loop.global_batch_size, pretrain.optimizer.warmup_epochs) == (
        400,
        4096,
        40,
    )
    assert (pretrain.optimizer.betas, pretrain.optimizer.weight_decay) == ((0.9, 0.95), 0.05)
    assert (finetune.loop.epochs, finetune.loop.global_batch_size, finetune.optimizer.layer_decay) == (
        100,
        1024,
        0.65,
    )
    assert (finetune.label_smoothing, finetune.model.drop_path) == (0.1, 0.1)


def test_files_lie_over_each_other_and_overrides_over_them(tmp_path):
    """Sections are joined, key by key; what a later file does not name stays."""
    first = written(tmp_path, "dataset: a\nrun: x\nloop: {epochs: 300, seed: 1}\nprobe: {methods: [knn]}\n")
    second = tmp_path / "second.yaml"
    second.write_text("loop: {seed: 2}\nprobe: {methods: [linear, knn]}\nrun: y\n")
    found = load(Pretrain, [first, str(second)], ["run=z"])
    assert (found.dataset, found.run) == ("a", "z")
    assert (found.loop.epochs, found.loop.seed) == (300, 2)
    assert found.probe.methods == ("linear", "knn")
    assert load(Pretrain, [str(second), first], []).loop.seed == 1


def test_a_recipe_is_found_by_its_name():
    named, file = (load(Pretrain, [name], REQUIRED) for name in ("pretrain_base_in1k_400e", RECIPE))
    assert named == file
    assert named.loop.epochs == 400


def test_what_is_written_is_read_back(tmp_path):
    found = load(Pretrain, [], [*REQUIRED, "loop.epochs=300", "storage.secret_access_key=hunter2"])
    write(found, str(tmp_path / "all.yaml"))
    text = (tmp_path / "all.yaml").read_text()
    assert "hunter2" not in text
    again = load(Pretrain, [str(tmp_path / "all.yaml")], [])
    assert again == found.model_copy(update={"storage": again.storage})
    with pytest.raises(ValueError, match="expected a path that can be written"):
        write(found, str(tmp_path / "no" / "all.yaml"))


def test_frozen_settings_have_the_fields_of_their_sections():
    """What is set reaches the packages below: a key that has no field there would be parsed and ignored."""
    # of these keys the verbs make something else: folders, an embedding of its own, the actors of a job
    elsewhere = {
        "Augment": {"adapt_run"},
        "VitVqgan": {"published"},
        "Ccvit": {"tokenizer"},
        "Dtm": {"target_run", "target_dataset", "teacher_weights"},
        "Predict": {"images", "run", "output", "source", "tokenizer", "storage", "cluster"},
        "StudyContinual": {  # trials, the images that they share, and sections with dataclasses of their own
            *("arms", "budgets", "selections", "seeds", "trials", "output", "cluster", "storage"),
            *("images", "source", "val_fraction", "split_seed", "max_images", "tokenizer", "centroid"),
            *("model", "loop", "optimizer"),
        },
    }
    seen = set()
    for section in sections_below(config.Section):
        if section.frozen and "frozen" in vars(section):
            names = {field.name for field in dataclasses.fields(pkgutil.resolve_name(section.frozen))}
            assert set(section.model_fields) - names == elsewhere.get(section.__name__, set()), section
            assert names <= set(section.model_fields)
            seen.add(section.__name__)
    assert {"Loop", "Optimizer", "Model", "Classifier", "Source", "Tokenize", "Workers", "Search"} <= seen


def sections_below(section):
    """All classes that inherit from one."""
    for child in section.__subclasses__():
        yield child
        yield from sections_below(child)


def test_a_tokenadapt_run_implies_what_goes_with_it():
    found = load(Finetune, [], [*REQUIRED, "augment.adapt_run=runs/adapt", "augment.noise_prob=0.5"]).augment
    assert (found.adapt, found.color_before_crop) == ("tokenadapt", True)
    pixels = load(Finetune, [], [*REQUIRED, "augment.adapt=pixels"]).augment
    assert (pixels.adapt, pixels.color_before_crop) == ("pixels", True)
    plain = load(Finetune, [], [*REQUIRED, "augment.noise_prob=0.5"]).augment
    assert (plain.adapt, plain.color_before_crop) == ("none", False)
    chosen = load(Finetune, [], [*REQUIRED, "augment.adapt=pixels", "augment.color_before_crop=false"]).augment
    assert not chosen.color_before_crop
    assert "set augment.adapt_run=FOLDER" in refusal(Finetune, None, [*REQUIRED, "augment.adapt=tokenadapt"])


def test_all_mistakes_are_told_at_once():
    told = refusal(Finetune, None, ["loop.epoch=3", "augment.adapt=tokenadapt", "model.size=huge"])
    for text in ("key run is missing", "unknown key loop.epoch", "augment.adapt_run", "key model.size is 'huge'"):
        assert text in told


@pytest.mark.parametrize(
    ("verb", "keys", "start"),
    [
        (Pretrain, ["loop.epochs=20"], "optimizer.warmup_epochs 40 of loop.epochs 20; expected a warm-up"),
        (Finetune, ["loop.epochs=5"], "optimizer.warmup_epochs 5 of loop.epochs 5; expected a warm-up"),
        (
            Quickstart,
            ["pre_train=true", "pretrain.loop.epochs=20"],
            "pretrain: optimizer.warmup_epochs 40 of loop.epochs 20; expected",
        ),
    ],
)
def test_a_warm_up_that_does_not_end_is_refused(verb, keys, start):
    required = [] if verb is Quickstart else REQUIRED
    text = refusal(verb, None, [*required, *keys])
    assert text.startswith(start)
    assert "\n" not in text
    section = "pretrain." if verb is Quickstart else ""
    load(verb, [], [*required, *keys, f"{section}optimizer.warmup_epochs=4"])


@pytest.mark.parametrize("section", ["", "pretrain."])
@pytest.mark.parametrize(("every", "evaluated"), [(0, None), (2, None), (4, 3)])
def test_best_weights_are_not_chosen_by_a_probe_that_some_evaluations_lack(section, every, evaluated):
    verb, required = (Quickstart, ["pre_train=true"]) if section else (Pretrain, REQUIRED)
    keys = [
        *required,
        f"{section}loop.keep_best=ema_probe_knn_top1",
        f"{section}loop.ema_decay=0.9",
        f"{section}probe.every_epochs={every}",
    ]
    keys += [f"{section}loop.eval_every_epochs={evaluated}"] if evaluated else []
    text = refusal(verb, None, keys)
    assert f"probe.every_epochs {every} with loop.keep_best ema_probe_knn_top1 and an evaluation every " in text
    number = f"{section}loop.eval_every_epochs={every or 2}", f"{section}probe.every_epochs={every or 1}"
    load(verb, [], [*keys, *number])
    load(verb, [], [*keys, f"{section}loop.keep_best=val_loss"])


@pytest.mark.parametrize(
    ("verb", "words", "listing", "is_refused"),
    [
        ("tokenize_images", "images=i tokenizer=t output=out/tokens", "out/tokens", True),
        ("tokenize_images", "images=i tokenizer=t output=out/tokens", "out/tokens/listing", True),
        ("tokenize_images", "images=i tokenizer=t output=out/tokens", "out", True),
        ("tokenize_images", "images=i tokenizer=t output=out/tokens", "out/listing", False),
        ("tokenize_images", "images=i tokenizer=t output=s3://b/tokens", "s3://b/tokens/x", True),
        ("tokenize_images", "images=i tokenizer=t output=s3://b/tokens", "out", False),
        ("fit_tokenizer", "images=i output=out", "./out/", True),
        ("predict", "images=i run=r output=out", "out", True),
        ("finetune", "images=i output=runs run=a", "runs/a/listing", True),
        ("finetune", "images=i output=runs run=a", "runs/listing", False),
        ("train_tokenadapt", "images=i tokenizer=t output=runs run=a", "runs", True),
        ("study_transfer", "images=i targets=[b] output=out", "out/x", True),
        ("quickstart", "images=i output=out", "out", True),
        ("quickstart", "images=i output=out", "out/tokens", True),
        ("quickstart", "images=i output=out", "out/listing", False),
        ("run_all", "images=i output=out", "out", True),
        ("evaluate", "images=i run=r output=figures.json", "out", False),
    ],
)
def test_a_kept_listing_lies_apart_from_what_a_verb_makes(verb, words, listing, is_refused):
    words = [*words.split(), f"source.listing={listing}"]
    if is_refused:
        told = refusal(VERBS[verb], None, words)
        assert told.startswith(f"source.listing {listing} and the output ")
        assert told.endswith("choose another folder for the listing")
    else:
        assert load(VERBS[verb], [], words).source.listing == listing


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("loop: {epochs: 2}\nloop: {seed: 3}\n", "key loop stands twice; expected it once, with all that is in it"),
        ("loop:\n  epochs: 2\n  epochs: 3\n", "key epochs stands twice"),
        ("model.size: nano\n", "key model.size in a file; expected size below model; nest it"),
        ("lop: {epochs: 2}\n", "unknown key lop; did you mean loop?"),
    ],
)
def test_a_file_in_which_a_key_would_be_lost(tmp_path, text, said):
    assert said in refusal(Pretrain, written(tmp_path, text), REQUIRED)


def test_an_anchor_is_taken_over_as_yaml_has_it(tmp_path):
    text = "space: &s {epochs: 3, seed: 1}\nloop:\n  <<: *s\n  epochs: 4\n"
    assert read_yaml(written(tmp_path, text))["loop"] == {"epochs": 4, "seed": 1}


@pytest.mark.parametrize("number", ["inf", ".inf", "nan", "-inf"])
@pytest.mark.parametrize("key", ["optimizer.lr", "augment.mixup_alpha", "augment.noise_scale", "loop.memory_gib"])
def test_numbers_that_are_not_finite_are_refused(key, number):
    assert f"key {key} is" in refusal(Pretrain, None, [*REQUIRED, f"{key}={number}"])


@pytest.mark.parametrize(
    "setting", ["optimizer.betas=[1,0.9]", "optimizer.betas=[0.9,1]", f"loop.seed={1 << 63}", "label_smoothing=1"]
)
def test_what_torch_would_refuse_is_refused_before(setting):
    assert f"key {setting.partition('=')[0]}" in refusal(Finetune, None, ["dataset=tokens", "run=r", setting])


@pytest.mark.parametrize(
    ("verb", "keys", "text"),
    [
        (Finetune, ["loop.keep_best=val_topp1"], "loop.keep_best val_topp1; did you mean val_top1?"),
        (Finetune, ["loop.keep_best=ema_val_top1"], "loop.keep_best ema_val_top1; did you mean val_top1?"),
        (Finetune, ["task=segment", "loop.keep_best=val_top1"], "loop.keep_best val_top1; "),
        (Pretrain, ["loop.keep_best=val_top1"], "loop.keep_best val_top1; "),
        (Pretrain, ["loop.keep_best=probe_linear_top1", "probe.methods=[knn]"], "keep_best probe_linear_top1; did you"),
        (Quickstart, ["finetune.loop.keep_best=x"], "expected one of train_loss, val_loss, val_top1, val_top5"),
    ],
)
def test_the_best_is_chosen_by_a_metric_of_the_training(verb, keys, text):
    required = {Finetune: ["dataset=x", "run=r"], Pretrain: ["dataset=x", "run=r"], Quickstart: []}[verb]
    with pytest.raises(ValueError, match=re.escape(text)):
        load(verb, [], [*required, *keys])
    if verb is Finetune and "task=segment" not in keys:
        load(verb, [], [*required, "loop.ema_decay=0.9", "loop.keep_best=ema_val_top1"])


@pytest.mark.parametrize("key", ["tokenize.seed", "finetune.loop.seed", "pretrain.loop.seed"])
def test_all_phases_have_one_seed(key):
    with pytest.raises(
        ValueError, match=rf"{key} 5; expected none, as the seed comes from seed; drop it, and set seed"
    ):
        load(Quickstart, [], [f"{key}=5", "pre_train=true"])


@pytest.mark.parametrize("how", ["key", "file"])
def test_what_a_recipe_augments_is_turned_off_by_one_key(tmp_path, how):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("augment: {adapt: pixels, adapt_share: 0.7, max_angle: 5, noise_prob: 0.5, noise_scale: 0.1}")
    off = tmp_path / "off.yaml"
    off.write_text("augment: {adapt: none}")
    words = ["dataset=a", "output=b", "run=c"]
    files, words = ([recipe, off], words) if how == "file" else ([recipe], [*words, "augment.adapt=none"])
    augment = load(Finetune, [str(file) for file in files], words).augment
    assert (augment.adapt, augment.adapt_share, augment.max_angle) == ("none", 0.5, 30.0)  # as if nobody had said them
    assert (augment.noise_prob, augment.noise_scale) == (0.5, 0.1)
    both = load(Finetune, [str(recipe)], [*words, "augment.adapt=none", "augment.adapt_share=0.7"]).augment
    assert both.adapt_share == 0.7  # said in one breath: it stays, and is refused


def test_what_is_turned_off_and_on_again_keeps_its_numbers(tmp_path):
    for name, text in (("on", "{noise_prob: 0.5, noise_scale: 2}"), ("off", "{noise_prob: 0}")):
        (tmp_path / f"{name}.yaml").write_text(f"augment: {text}")
    files = [str(tmp_path / "on.yaml"), str(tmp_path / "off.yaml")]
    words = ["dataset=a", "output=b", "run=c"]
    assert load(Finetune, files, words).augment.noise_scale == 1.0
    assert load(Finetune, files, [*words, "augment.noise_prob=0.5"]).augment.noise_scale == 2.0


def test_what_is_turned_off_by_that_is_turned_off_too(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("augment: {adapt: pixels, adapt_mixup_alpha: 0.8, mix_prob: 0.3}")
    words = ["dataset=a", "output=b", "run=c", "augment.adapt=none"]
    augment = load(Finetune, [str(recipe)], words).augment
    assert (augment.adapt_mixup_alpha, augment.mix_prob) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("section", "recipe", "word", "kept"),
    [
        (
            "model",
            "{inputs: codebook, standardize: true, stem_layers: 1, stem_pixels: true}",
            "inputs=learned",
            "stem_layers",
        ),
        ("model", "{token_dim: 8, dropout: 0.3}", "inputs=codebook", "dropout"),
        ("model", "{inputs: codebook, stem_layers: 2, stem_width: 8, stem_pixels: true}", "stem_layers=0", "inputs"),
        (
            "model",
            "{inputs: codebook, standardize: true, stem_layers: 2, stem_stride: 3, stem_padding: 1}",
            "encoder=beit",
            "inputs",
        ),
    ],
)
def test_what_a_recipe_says_of_a_model_is_turned_off_by_one_key(tmp_path, section, recipe, word, kept):
    file = tmp_path / "recipe.yaml"
    file.write_text(f"{section}: {recipe}")
    words, said = ["dataset=a", "output=b", "run=c", f"{section}.{word}"], yaml.safe_load(recipe)
    found = getattr(load(Finetune, [str(file)], words), section)
    plain = getattr(load(Finetune, [], words), section)
    assert {name: getattr(found, name) for name in said} == {
        name: said[name] if name == kept else getattr(plain, name) for name in said
    }


def test_a_target_of_morphing_turns_off_what_another_one_reads(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("dtm: {teacher: vit_tiny_patch16_224, teacher_weights: a.pt, levels: 1}")
    words = ["dataset=a", "output=b", "run=c", "objective=dtm"]
    dtm = load(Pretrain, [str(file)], [*words, "dtm.target=codebook"]).dtm
    assert (dtm.teacher, dtm.teacher_weights, dtm.levels) == (None, None, 1)
    assert load(Pretrain, [str(file)], [*words, "dtm.levels=2"]).dtm.teacher_weights == "a.pt"
    both = load(Pretrain, [str(file)], [*words, "dtm.target=codebook", "dtm.teacher=resnet18"]).dtm
    assert both.teacher == "resnet18"  # said in one breath


def test_a_default_of_rows_is_none_of_a_learned_table():
    words = ["images=a", "output=b"]
    assert load(StudyContinual, [], words).model.standardize
    assert not load(StudyContinual, [], [*words, "model.inputs=learned"]).model.standardize
    with pytest.raises(ValueError, match=r"model\.inputs=codebook where model\.standardize is true"):
        load(StudyContinual, [], [*words, "model.inputs=learned", "model.standardize=true"])


@pytest.mark.parametrize("verb", [Pretrain, Finetune, config.TrainTokenAdapt, config.Sweep])
@pytest.mark.parametrize("run", ["/data/x", "s3://bucket/x", "~/x"])
def test_a_run_is_named_below_output(verb, run):
    with pytest.raises(ValueError, match=f"key run is '{run}'; expected: a name below output"):
        load(verb, [], ["dataset=d", f"run={run}"])
