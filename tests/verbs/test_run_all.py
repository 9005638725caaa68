"""run_all: every phase once, with one config."""

import pytest

from seit_ray.config import Quickstart, RunAll, Workers, load
from seit_ray.storage import Folder
from seit_ray.verbs import quickstart
from seit_ray.verbs.command.arguments import VERBS
from seit_ray.verbs.command.main import main
from seit_ray.verbs.run_all import PHASES, check, missing, phases, run_all, words_of
from tests.tiny_images import contents, image_files, write_files

SMALL = [
    "centroid.image_size=16",
    "centroid.patch_size=4",
    "centroid.codebook_size=16",
    "tokenize.val_fraction=0.3",
    "tokenize.num_actors=1",
    "workers.num_workers=0",
    "seed=3",
]
for part in ("pretrain", "finetune"):
    SMALL += [f"{part}.model.size=nano", f"{part}.loop.epochs=1", f"{part}.loop.global_batch_size=20"]
    SMALL += [f"{part}.optimizer.warmup_epochs=0"]


def config_of(images, output, *more):
    return load(RunAll, [], [f"images={images}", f"output={output}", *SMALL, *more])


@pytest.mark.parametrize("more", [[], ["storage.region=eu", "workers={num_workers: 2}", "finetune.augment={}"]])
def test_the_words_of_a_phase_give_its_config_again(more):
    found = phases(config_of("/photos", "s3://bucket/all", *more, "cluster.address=http://head:8265"))
    assert [*found] == [*PHASES]
    for name, part in found.items():
        again = load(VERBS[name], [], words_of(part))
        assert again == part.model_copy(update={"cluster": again.cluster})
        assert again.cluster.address is None  # that of the job server is no address for a job
    assert dict(found["evaluate"].workers) == dict(found["pretrain"].workers)
    assert found["tokenize_images"].tokenize.seed == found["finetune"].loop.seed == 3


def test_secrets_do_not_become_words():
    found = phases(config_of("/photos", "/all", "storage.secret_access_key=hunter2"))
    with pytest.raises(ValueError, match="holds a secret") as caught:
        words_of(found["pretrain"])
    assert "hunter2" not in str(caught.value)


def test_a_job_needs_an_output_that_stays(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path / "images", image_files(60))
    with pytest.raises(SystemExit) as caught:
        main(["run_all", "images=images", "output=all", "submit=true", *SMALL, "tokenize.val_fraction=0.5"])
    assert caught.value.code == 2
    assert "key output is 'all', a path in the working directory of the job" in capsys.readouterr().err


MISTAKES = {
    "tokenize.val_fraction=0": r"images has no val images but train; expected both train and val; .*tokenize",
    "pretrain.loop.global_batch_size=500": r"500",
    "source.include=['cat/*']": r"1 classes",
    "finetune.model.stem_kernel=3": r"finetune: grid 4x4 under a stem of kernel 3",
    "finetune.model.grid_side=300": r"finetune: model.grid_side 300; expected at most 4",
    "finetune.model.width=64": r"finetune: the pre-training before it has a model of width 128; expected 64",
    "finetune.augment.adapt_share=0.4": r"finetune: augment.adapt_share with augment.adapt none",
    "pretrain.model.stem_kernel=3": r"pretrain: grid 4x4 in patches of 3x3",
    "pretrain.masking.mask_ratio_min=1": r"pretrain: mask_ratio_min 1.0 of 4 units",
    "pretrain.dtm.weight=2": r"pretrain: dtm.weight with objective mtm on tokens",
    "centroid.image_size=18": r"centroid.image_size 18; expected a multiple of patch_size 4",
}


@pytest.mark.parametrize("key", MISTAKES)
def test_what_would_end_the_last_phases_is_told_before_the_first(tmp_path, key):
    write_files(tmp_path / "images", image_files(60))
    config = config_of(tmp_path / "images", tmp_path / "all", key)
    for asked in (check, run_all):
        with pytest.raises(ValueError, match=MISTAKES[key]):
            asked(config)
    keys = [f"images={tmp_path}/images", f"output={tmp_path}/all", "pre_train=true", *SMALL, key]
    for asked in (quickstart.check, quickstart.quickstart):
        with pytest.raises(ValueError, match=MISTAKES[key]):
            asked(load(Quickstart, [], keys))
    assert not (tmp_path / "all").exists()


def test_each_phase_is_done_once_and_a_changed_one_is_refused(ray_cluster, tmp_path):
    write_files(tmp_path / "images", image_files(60))
    config = config_of(tmp_path / "images", tmp_path / "all")
    output = Folder(tmp_path / "all")
    assert [row for row in check(config) if row[0] in PHASES] == [(name, "to do") for name in PHASES]
    rows = dict(run_all(config))
    assert [rows[name] for name in PHASES] == ["done"] * len(PHASES)
    assert rows["top-1 / top-5"].endswith("%")
    assert [row for row in check(config) if row[0] in PHASES] == [(name, "done") for name in PHASES]

    before = contents(output)
    rows = dict(run_all(config))
    assert [rows[name] for name in PHASES] == ["was done"] * len(PHASES)
    assert contents(output) == before

    changed = config_of(tmp_path / "images", tmp_path / "all", "finetune.label_smoothing=0.2")
    with pytest.raises(ValueError, match=r"was made by finetune with label_smoothing 0\.1 \(now 0\.2\); expected"):
        run_all(changed)
    output.delete_tree("finetune")
    assert [*missing(output, phases(changed))] == ["finetune", "evaluate"]
    rows = dict(run_all(changed))
    assert [rows[name] for name in PHASES] == ["was done"] * 3 + ["done"] * 2
    now = contents(output)
    assert {name: now[name] for name in now if not name.startswith("finetune/")} == {
        name: before[name] for name in before if not name.startswith("finetune/")
    }
    elsewhere = changed.model_copy(update={"workers": Workers(num_workers=1)})
    assert missing(output, phases(elsewhere)) == {}  # where it runs does not matter
