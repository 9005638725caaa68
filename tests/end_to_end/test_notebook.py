"""The verbs as Python functions, a few lines each, as in a notebook; and the dry run of each, which writes nothing."""

import json

import pytest

from seit_ray.config import Evaluate, Finetune, FitTokenizer, InspectTokens, Pretrain, TokenizeImages
from seit_ray.shards import TokenDataset
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.verbs.command.arguments import VERBS
from seit_ray.verbs.command.main import run_verb
from seit_ray.verbs.evaluate import evaluate
from seit_ray.verbs.finetune import finetune
from seit_ray.verbs.fit_tokenizer import fit_tokenizer
from seit_ray.verbs.inspect_tokens import inspect_tokens
from seit_ray.verbs.pretrain import pretrain
from seit_ray.verbs.tokenize_images import tokenize_images
from tests.tiny_images import contents, image_files, write_files

NUM_IMAGES = 200
HERE, TWO_WORKERS = {"num_workers": 0}, {"num_workers": 2}
MODEL = {"size": "nano", "width": 32, "depth": 2, "num_heads": 2, "stem_kernel": 1}
LOOP = {"epochs": 8, "global_batch_size": 32, "log_every_steps": 1}
FAST = {"lr": 3e-3, "warmup_epochs": 1}


@pytest.fixture(scope="module")
def notebook(ray_cluster, tmp_path_factory):
    """(its folder, name -> the table that the cell showed), after all cells were run from images on."""
    root = tmp_path_factory.mktemp("notebook")
    write_files(root / "images", image_files(NUM_IMAGES))
    images, tokenizer, tokens, runs = (str(root / name) for name in ("images", "tokenizer", "tokens", "runs"))
    shown = {
        "fit": fit_tokenizer(
            FitTokenizer(
                images=images,
                output=tokenizer,
                val_fraction=0.2,
                centroid={"image_size": 16, "patch_size": 4, "codebook_size": 32},
            )
        ),
        "tokenize": tokenize_images(
            TokenizeImages(
                images=images, tokenizer=tokenizer, output=tokens, tokenize={"val_fraction": 0.2, "rows_per_shard": 50}
            )
        ),
        "inspect": inspect_tokens(
            InspectTokens(dataset=tokens, contact_sheet=str(root / "sheet.png"), images=images, num_pictures=5)
        ),
        "pretrain": pretrain(
            Pretrain(dataset=tokens, output=runs, run="mtm", workers=HERE, model=MODEL, loop=LOOP, optimizer=FAST)
        ),
        "finetune": finetune(
            Finetune(
                dataset=tokens,
                output=runs,
                run="classifier",
                init_from=f"{runs}/mtm",
                workers=TWO_WORKERS,
                model=MODEL,
                loop=LOOP,
                optimizer=FAST,
            )
        ),
        "evaluate": evaluate(Evaluate(dataset=tokens, run=f"{runs}/classifier")),
    }
    return root, {name: dict(rows) for name, rows in shown.items()}


def figures(path):
    """A JSON file."""
    return json.loads(path.read_text())


def test_tokenizer(notebook):
    root, shown = notebook
    tokenizer, about = load_tokenizer(Folder(root / "tokenizer"))
    assert tokenizer.grid == (4, 4)
    assert tokenizer.codebook.shape == (32, 3 * 4 * 4)
    assert about["report"]["objective"][-1] < about["report"]["objective"][0]
    assert about["report"]["psnr_db"] > 18
    assert shown["fit"]["tokenizer"] == f"{root / 'tokenizer'} ({about['fingerprint']})"
    assert "held out" in shown["fit"]["PSNR"]


def test_token_dataset(notebook):
    root, shown = notebook
    dataset = TokenDataset(Folder(root / "tokens"))
    train, val = dataset.info.splits["train"], dataset.info.splits["val"]
    assert train.rows + val.rows == NUM_IMAGES
    assert shown["tokenize"]["train"] == f"{train.rows} listed = {train.rows} written + 0 rejected"
    assert shown["inspect"]["train classes"].startswith("2; ")
    assert shown["inspect"]["verified"]
    assert (root / "sheet.png").read_bytes().startswith(b"\x89PNG")
    rows = dataset.read_split("train")  # as the README shows
    assert rows.tokens.shape == (train.rows, 16)
    assert rows.tokens.dtype == "uint16"
    assert set(rows.meta["label"].to_pylist()) == {0, 1}


def test_fitted_on_the_images_that_are_not_held_out(notebook):
    root, shown = notebook
    train = TokenDataset(Folder(root / "tokens")).info.splits["train"].rows
    assert shown["fit"]["fitted on"].startswith(f"{train - train // 10} images")


def test_runs(notebook):
    root, shown = notebook
    for run in ("mtm", "classifier"):
        lines = (root / "runs" / run / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        assert [r["step"] for r in records] == list(range(1, len(records) + 1))
        assert records[-1]["train_loss"] < records[0]["train_loss"]
        assert list((root / "runs" / run / "tensorboard").iterdir())
    assert shown["pretrain"]["steps"] == shown["finetune"]["steps"] == str(len(records))
    assert "val accuracy of masked tokens" in shown["pretrain"]


def test_accuracy_here_and_with_two_workers(notebook):
    root, shown = notebook
    figure = figures(root / "runs" / "classifier" / "evaluate-val.json")
    assert figure["top1"] > 0.9  # the classes differ in colour
    assert figure["top5"] == 1
    assert set(figure["per_class_top1"]) == {"cat", "dog"}
    assert shown["evaluate"]["top-1 / top-5"] == f"{figure['top1']:.2%} +- {figure['standard_error']:.2%} / 100.00%"
    other = root / "two.json"
    dataset, run = root / "tokens", root / "runs" / "classifier"
    evaluate(Evaluate(dataset=str(dataset), run=str(run), output=str(other), workers=TWO_WORKERS))
    again = figures(other)
    assert again.pop("loss") == pytest.approx(figure.pop("loss"), rel=1e-5)
    assert again == figure


def test_every_run_is_recorded(notebook):
    root, _ = notebook
    folders = {
        "fit_tokenizer": "tokenizer",
        "tokenize_images": "tokens",
        "pretrain": "runs/mtm",
        "finetune": "runs/classifier",
    }
    for verb, folder in folders.items():
        record = figures(root / folder / f"{verb}.run.json")
        assert record["verb"] == verb
        assert set(record["config"]) == set(VERBS[verb].model_fields)
        assert record["versions"]["torch"]


def test_a_dry_run_of_every_verb_writes_nothing(notebook, capsys):
    root, _ = notebook
    new = root / "new"
    images, tokens, runs = f"images={root / 'images'}", f"dataset={root / 'tokens'}", f"output={root / 'runs'}"
    model = [f"model.{key}={value}" for key, value in MODEL.items()]  # that of the run it starts from
    loop = ["loop.epochs=3", "loop.global_batch_size=32", "optimizer.warmup_epochs=1"]
    plans = {
        "quickstart": ([images, f"output={new}"], "seen at"),
        "fit_tokenizer": ([images, f"output={new}"], "train 200"),
        "tokenize_images": ([images, f"tokenizer={root / 'tokenizer'}", f"output={new}"], "K 32"),
        "inspect_tokens": ([tokens, f"contact_sheet={new}/sheet.png"], "grid 4x4"),
        "pretrain": ([tokens, runs, "run=other", "workers.num_workers=2", *model, *loop], "of 32 samples"),
        "finetune": ([tokens, runs, "run=new", f"init_from={root / 'runs/mtm'}", *model, *loop], "of 32 samples"),
        "evaluate": ([tokens, f"run={root / 'runs/classifier'}"], "not used: one process"),
        "recode_tokens": ([tokens, f"output={new}", "drop_unused=true"], "K 32"),
        "export_tokens": ([tokens, f"output={new}"], "grid 4x4"),
        "train_tokenadapt": ([images, f"tokenizer={root / 'tokenizer'}", runs, "run=adapt"], "K 32"),
        "predict": ([images, f"run={root / 'runs/classifier'}", f"output={new}/table.csv"], "classifier"),
        "plan": ([], "bottleneck"),
    }
    elsewhere = {
        "import_tokens",
        "import_weights",
        "run_all",
        "sweep",
        "study_continual",
        "study_storage_curve",
        "study_transfer",
    }  # they need more than is here
    assert set(plans) | elsewhere == set(VERBS)
    before = contents(Folder(root))
    for verb, (arguments, words) in plans.items():
        run_verb(verb, [*arguments, "--dry-run"])
        printed = capsys.readouterr()
        assert "dry run" in printed.out
        assert words in printed.out, verb
        assert printed.err == ""
    assert contents(Folder(root)) == before
