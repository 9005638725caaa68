"""What a sweep makes of its settings: keys, metric, configs of a trial; mistakes are named before any trial."""

import pytest

from seit_ray.config import Finetune, Pretrain, Sweep, deciding_keys, load
from seit_ray.config.sweep import full_key, is_better_low, metric_of, space_of, stage_configs, trial_name, trials_of

REQUIRED = ["dataset=tokens", "run=r"]
BOTH = "stages=[pretrain, finetune]"


def sweep(*keys, space="space.masking.mask_ratio_mu=[0.3, 0.6]"):
    return load(Sweep, [], [*REQUIRED, *([space] if space else []), *keys])


def all_of(config):
    """The settings of all trials."""
    return trials_of(config, space_of(config))


def refusal(config):
    with pytest.raises(ValueError, match=r"\S") as caught:
        all_of(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_settings_reach_their_keys_and_the_rest_is_that_of_the_section():
    config = sweep("pretrain.loop.epochs=300", "workers.cpus_per_worker=2", "output=out")
    stage = stage_configs(config, {"masking.mask_ratio_mu": 0.6, "augment.crop_area": [0.3, 1]})["pretrain"]
    assert isinstance(stage, Pretrain)
    assert (stage.masking.mask_ratio_mu, stage.augment.crop_area) == (0.6, (0.3, 1.0))
    assert (stage.masking.mask_ratio_std, stage.loop.epochs, stage.workers.cpus_per_worker) == (0.25, 300, 2)
    assert (stage.dataset, stage.output, stage.run) == ("tokens", "out", "pretrain")


def test_trials_are_evaluated_each_epoch_on_any_device():
    """What stops one early compares it with the others at the same epoch."""
    configs = stage_configs(sweep(BOTH, space="space.finetune.optimizer.lr=[1e-3, 2e-3]"), {})
    assert [config.loop.eval_every_epochs for config in configs.values()] == [1, 1]
    rarer = stage_configs(sweep("pretrain.loop.eval_every_epochs=4"), {})
    assert rarer["pretrain"].loop.eval_every_epochs == 4
    assert Pretrain.model_validate({"run": "r"}).loop.eval_every_epochs is None


def test_two_stages_share_a_key_only_by_its_full_name():
    both = sweep(BOTH, space="space.finetune.optimizer.lr=[1e-3, 2e-3]")
    assert list(space_of(both)) == ["finetune.optimizer.lr"]
    configs = stage_configs(both, {"finetune.optimizer.lr": 2e-3, "pretrain.loop.epochs": 500})
    assert list(configs) == ["pretrain", "finetune"]
    assert isinstance(configs["finetune"], Finetune)
    assert (configs["finetune"].optimizer.lr, configs["pretrain"].optimizer.lr) == (2e-3, None)
    assert (configs["finetune"].loop.epochs, configs["pretrain"].loop.epochs) == (100, 500)
    assert "in both stages; expected pretrain.optimizer.lr or finetune.optimizer.lr" in refusal(
        sweep(BOTH, space="space.optimizer.lr=[1]")
    )
    assert list(space_of(sweep(BOTH))) == ["pretrain.masking.mask_ratio_mu"]  # only one stage has it
    assert list(space_of(sweep(space="space.pretrain.optimizer.lr=[1]"))) == ["optimizer.lr"]


@pytest.mark.parametrize(
    ("space", "text"),
    [
        ("space.masking.mask_ratio=[0.3]", "unknown key masking.mask_ratio of the space; did you mean masking.mask_"),
        ("space.lr=[0.3]", "unknown key lr of the space; did you mean optimizer.lr?"),
        ("space.optimiser.lr=[0.3]", "unknown key optimiser.lr of the space; did you mean optimizer.lr?"),
        ("space.label_smoothing=[0.3]", "did you mean masking.label_smoothing?"),
        ("space.zzz=[1]", "unknown key zzz of the space; expected one like model.size; see seit-ray pretrain --help"),
        ("space.dataset=[a]", "unknown key dataset of the space"),
        ("space.optimizer.lr=[1e-3, -1]", "in the space: key optimizer.lr is -1; expected: Input should be greater"),
        ("space.model.size=[nano, huge]", "in the space: key model.size is 'huge'; expected: Input should be 'nano'"),
        ("space.masking.mask_ratio_min={uniform: [0.5, 1.5]}", "key masking.mask_ratio_min is 1.5; expected"),
        (
            "space.loop.epochs={uniform: [50, 90]}",
            "key loop.epochs is 65.28; expected: Input should be a valid integer",
        ),
        ("space.augment.crop_area=[[0.1]]", "key augment.crop_area.1"),
        ("space=3", "key space is 3; expected: Input should be a valid dictionary"),
    ],
)
def test_a_space_that_a_training_would_refuse(space, text):
    if space == "space=3":
        with pytest.raises(ValueError, match="expected: Input should be a valid dictionary"):
            sweep(space=space)
    else:
        assert text in refusal(sweep(space=space))


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (["stages=[finetune, pretrain]"], "stages ['finetune', 'pretrain']; expected [pretrain], [finetune] or"),
        (["stages=[]"], "stages []; expected"),
        (["finetune.loop.epochs=30"], "section finetune with stages ['pretrain']; expected no such section"),
        (["init_from=a"], "init_from or transfer with a pretrain stage"),
        (["stages=[finetune]", "transfer=true"], "transfer without init_from"),
        (["heat_map=[masking.mask_ratio_mu, optimizer.lr]"], "unknown key optimizer.lr of heat_map; expected two of"),
        (["search.searcher=optuna", "space.optimizer.lr={grid: [1]}"], "space.optimizer.lr is a grid with search.sear"),
    ],
)
def test_settings_that_do_not_go_together(keys, text):
    assert text in refusal(sweep(*keys))


def test_optuna_has_no_list():
    assert all_of(sweep("search.searcher=optuna")) is None


def test_what_is_compared():
    assert metric_of(sweep()) == "probe_linear_top1"
    assert metric_of(sweep("pretrain.probe={every_epochs: 2, methods: [knn]}")) == "probe_knn_top1"
    assert metric_of(sweep("pretrain.probe={every_epochs: 2, methods: [rankme, knn]}")) == "probe_rankme"
    assert metric_of(sweep(BOTH)) == "val_top1"
    assert metric_of(sweep("metric=val_loss")) == "val_loss"
    assert metric_of(sweep(BOTH, "metric=ema_val_top1", "finetune.loop.ema_decay=0.9")) == "ema_val_top1"
    assert is_better_low("val_loss")
    assert not is_better_low("probe_knn_top1")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (["metric=val_top1"], "unknown metric val_top1 of pretrain; did you mean val_"),
        ([BOTH, "metric=probe_knn_top1"], "unknown metric probe_knn_top1 of finetune"),
        ([BOTH, "metric=ema_val_top1"], "unknown metric ema_val_top1 of finetune; did you mean val_top1?"),
        (["pretrain.probe={every_epochs: 0, methods: [knn]}"], "probe_knn_top1 with pretrain.probe.every_epochs 0"),
        (["metric=probe_linear_top1", "pretrain.probe.methods=[knn]"], "expected a linear probe"),
    ],
)
def test_a_metric_that_is_not_reported(keys, text):
    with pytest.raises(ValueError, match=r"\S") as caught:
        metric_of(sweep(*keys))
    assert text in str(caught.value)


def test_a_name_follows_from_what_decides_the_result():
    config, settings = sweep(), {"masking.mask_ratio_mu": 0.3}

    def name(config, settings):
        return trial_name(stage_configs(config, settings))

    same = (sweep("run=other"), sweep("output=s3://b/o"), sweep("workers.num_workers=2"), sweep("search.seed=4"))
    assert {name(c, settings) for c in (config, *same)} == {name(config, settings)}
    others = (sweep("dataset=b"), sweep("pretrain.loop.epochs=300"), sweep("pretrain.loop.seed=1"))
    assert len({name(c, settings) for c in (config, *others)}) == 4
    assert name(config, {"masking.mask_ratio_mu": 0.6}) != name(config, settings)
    assert name(sweep("pretrain.masking.mask_ratio_mu=0.6"), {}) == name(config, {"masking.mask_ratio_mu": 0.6})


def test_a_key_of_the_heat_map_is_one_of_the_space():
    config = sweep("space.optimizer.lr=[1e-3]", "heat_map=[lr, masking.mask_ratio_mu]")
    assert "choose from masking.mask_ratio_mu, optimizer.lr" in refusal(config)
    config = sweep("space.optimizer.lr=[1e-3]", "heat_map=[optimizer.lr, pretrain.masking.mask_ratio_mu]")
    assert len(all_of(config)) == 2
    assert full_key(config, "pretrain.masking.mask_ratio_mu") == "masking.mask_ratio_mu"


@pytest.mark.parametrize(("key", "section"), [("loop.keep_checkpoints", "pretrain"), ("loop.compile", "pretrain")])
def test_a_key_that_decides_no_result_is_not_searched(key, section):
    """Trials that differ in it alone would have one name."""
    text = refusal(sweep(space=f"space.{key}=[1, 2]"))
    assert text.startswith(f"key {key} of the space decides no result; expected one that does; set it in the section")
    assert text.endswith(section)
    full = refusal(sweep(BOTH, space=f"space.finetune.{key}=[1, 2]"))
    assert full.endswith("section finetune")


def test_probes_are_not_searched_and_yet_decide_a_sweep():
    """They decide no weights, so that trials that differ in them alone would have one name; but they compare."""
    text = refusal(sweep(space="space.probe.k=[5, 20]"))
    assert text.startswith("key probe.k of the space decides no result; expected one that does")
    assert {"pretrain.probe.k", "pretrain.probe.ridge"} <= {key for key, _ in deciding_keys(Sweep)}


def test_what_decides_no_result_is_no_part_of_a_name():
    names = {trial_name(stage_configs(sweep(f"pretrain.loop.{key}"), {})) for key in ("seed=0", "log_every_steps=7")}
    assert len(names) == 1


@pytest.mark.parametrize("searcher", ["grid", "random", "optuna"])
def test_keys_that_bound_each_other_are_judged_together(searcher):
    """The default's warm-up is longer than these epochs, and adapt alone lacks its run."""
    for space in (
        "loop.epochs: [2, 3], optimizer.warmup_epochs: [1]",
        "augment: {adapt: [tokenadapt], adapt_run: [a, b]}",
    ):
        both = sweep(f"space={{{space}}}", f"search.searcher={searcher}", space=None)
        assert (all_of(both) is None) == (searcher == "optuna")
    longer = "space={loop.epochs: [2, 3], optimizer.warmup_epochs: [1, 2]}"
    assert "warmup_epochs 2 of loop.epochs 2" in refusal(sweep(longer, f"search.searcher={searcher}", space=None))
