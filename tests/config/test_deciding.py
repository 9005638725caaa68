"""Which keys decide a result: all of them, but those that are named here."""

import warnings

import pytest

from seit_ray.config import (
    Finetune,
    FitTokenizer,
    Pretrain,
    Probe,
    Quickstart,
    RunAll,
    StudyContinual,
    StudyStorageCurve,
    StudyTransfer,
    Sweep,
    TokenizeImages,
    TrainTokenAdapt,
    deciding,
    deciding_keys,
    defaults,
    fields,
    load,
)

WHERE = ("storage.", "cluster.", "workers.", "trials.")
LOOK = {
    "loop.accum_steps",
    "loop.max_micro_batch",
    "loop.compile",
    "loop.memory_gib",
    "loop.max_skipped_steps",
    "loop.log_every_steps",
    "loop.eval_every_epochs",
    "loop.checkpoint_every_epochs",
    "loop.checkpoint_every_steps",
    "loop.checkpoint_every_minutes",
    "loop.keep_checkpoints",
    "loop.trackers",
}
TOKENIZE = {
    f"tokenize.{name}"
    for name in (
        *("mode", "check_source", "keep_changed", "max_reject_fraction", "num_actors", "gpus_per_actor"),
        *("memory_mib", "batch_size", "patience_s", "moved_from"),
    )
}
SOURCE = {"source.listing"}
PARTS = {f"{part}.{key}" for part in ("pretrain", "finetune") for key in LOOK}
PROBE = {f"probe.{name}" for name in Probe.model_fields}  # how an encoder is looked at
PROBED = {f"pretrain.{key}" for key in PROBE}
UNDECIDED = {
    Pretrain: LOOK | PROBE | SOURCE | {"output", "run", "replay"},
    Finetune: LOOK | SOURCE | {"output", "run", "replay"},
    TrainTokenAdapt: LOOK | SOURCE | {"output", "run", "replay"},
    FitTokenizer: LOOK | SOURCE | {"output", "replay", "centroid.num_workers"},
    TokenizeImages: TOKENIZE | SOURCE | {"output"},
    Quickstart: PARTS | PROBED | TOKENIZE | SOURCE | {"output", "centroid.num_workers"},
    RunAll: PARTS
    | PROBED
    | TOKENIZE
    | SOURCE
    | {"output", "centroid.num_workers", "submit", "retries", "installed", "env"},
    StudyContinual: LOOK | SOURCE | {"output", "seeds", "arms", "budgets", "selections", "centroid.num_workers"},
    Sweep: PARTS | {"output", "run", "search.max_concurrent"},
    StudyStorageCurve: LOOK | SOURCE | {"output", "seeds"},
    StudyTransfer: PARTS | SOURCE | {f"supervised.{key}" for key in LOOK} | {"output", "seeds"},
}


@pytest.mark.parametrize("verb", UNDECIDED, ids=lambda verb: verb.__name__)
def test_every_key_decides_but_those_that_are_named_here(verb):
    left = {key for key, _ in fields(verb)} - {key for key, _ in deciding_keys(verb)}
    assert {key for key in left if not key.startswith(WHERE)} == UNDECIDED[verb]
    assert {key for key in left if key.startswith(WHERE)} == {key for key, _ in fields(verb) if key.startswith(WHERE)}


def test_every_key_that_decides_shows_in_what_decides():
    """Each is set to another value, and shows."""
    config = Finetune(dataset="tokens", run="a")
    before = deciding(config)
    assert before.keys() == {key for key, _ in deciding_keys(Finetune)}
    for key in before:
        section, _, name = key.rpartition(".")
        changed = config.model_copy(deep=True)
        (getattr(changed, section) if section else changed).__dict__[name] = "another"
        with warnings.catch_warnings():  # pydantic says that a text is none of the types
            warnings.simplefilter("ignore")
            now = deciding(changed)
        assert {k for k in now if now[k] != before[k]} == {key}


def test_places_are_those_that_hold_an_address():
    found = {key for key, is_place in deciding_keys(Finetune) if is_place}
    assert found == {"dataset", "images", "init_from", "augment.adapt_run", "source.inventory", "source.class_names"}


def test_defaults_are_what_a_config_without_the_key_has():
    known = defaults(Pretrain)
    assert known["dataset"] is None
    config = deciding(load(Pretrain, [], ["dataset=tokens", "run=a"]))
    assert {key: known[key] for key in known if key in config} == {**config, "dataset": None}
