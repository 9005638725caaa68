"""The verbs that import and export tokens and weights, as a user starts them."""

import json
import re

import numpy as np
import pytest
import torch

from seit_ray.config import (
    Evaluate,
    ExportTokens,
    Finetune,
    ImportTokens,
    ImportWeights,
    InspectTokens,
    RecodeTokens,
    load,
)
from seit_ray.models.embed import CodebookEmbedding, TokenEmbedding
from seit_ray.models.exports import import_model
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.models.tokenadapt import TokenAdapt
from seit_ray.models.variants import SIZES
from seit_ray.models.vit import TokenViT
from seit_ray.shards import TokenDataset
from seit_ray.shards.dataset import identity_of
from seit_ray.shards.synonyms import read_synonyms
from seit_ray.storage import Folder
from seit_ray.storage.lock import LOCK, LockedError, locked
from seit_ray.tokenizers.codebook_only import read_codebook
from seit_ray.tokenizers.files import load_tokenizer, save_tokenizer
from seit_ray.verbs.command.main import main
from seit_ray.verbs.evaluate import evaluate
from seit_ray.verbs.export_tokens import check as check_export
from seit_ray.verbs.export_tokens import export_tokens
from seit_ray.verbs.finetune import finetune
from seit_ray.verbs.import_tokens import check as check_tokens
from seit_ray.verbs.import_tokens import import_tokens
from seit_ray.verbs.import_weights import check as check_weights
from seit_ray.verbs.import_weights import import_weights
from seit_ray.verbs.inspect_tokens import check as check_inspect
from seit_ray.verbs.inspect_tokens import inspect_tokens
from seit_ray.verbs.recode_tokens import recode_tokens
from tests.shards.published_files import refusal, ring_synonyms, write_release
from tests.tiny_dataset import tiny_tokenizer

SIDE, NUM_CODES, DIM, NUM_CLASSES = 6, 400, 8, 5


@pytest.fixture
def release(tmp_path):
    """A folder of published files; tokens of 6x6."""
    write_release(tmp_path / "release", side=SIDE, num_codes=NUM_CODES, dim=DIM, num_classes=NUM_CLASSES)
    return tmp_path / "release"


def arguments(release, output, *more):
    """The command line of a whole import."""
    keys = [f"{split}.data={release}/{split}-token.data.bin.gz" for split in ("train", "val")]
    keys += [f"{split}.labels={release}/{split}-label.txt" for split in ("train", "val")]
    keys += [f"codebook={release}/codebook.ckpt", f"grid=[{SIDE},{SIDE}]", f"output={output}", "rows_per_shard=10"]
    return [*keys, *more]


def imported(release, output, *more):
    """The imported dataset."""
    import_tokens(load(ImportTokens, [], arguments(release, output, *more)))
    return TokenDataset(Folder(output))


def test_import_inspect_export(tmp_path, release, capsys):
    more = [f"synonyms={release}/synonyms.json", "num_synonyms=2"]
    main(["import_tokens", *arguments(release, tmp_path / "out", *more)])
    assert "23 listed = 23 written + 0 rejected" in capsys.readouterr().out
    inspect_tokens(load(InspectTokens, [], [f"dataset={tmp_path / 'out'}"]))
    dataset = TokenDataset(Folder(tmp_path / "out"))
    assert (dataset.info.grid, dataset.info.image_size) == ((SIDE, SIDE), 256)
    assert torch.equal(read_synonyms(dataset.folder), ring_synonyms(NUM_CODES, 2))
    rows = export_tokens(load(ExportTokens, [], [f"dataset={tmp_path / 'out'}", f"output={tmp_path / 'back'}"]))
    assert dict(rows)["synonyms.json"].endswith(" bytes")
    again = imported(tmp_path / "back", tmp_path / "again")
    for split in ("train", "val"):
        assert np.array_equal(again.read_split(split).tokens, dataset.read_split(split).tokens)
    assert (tmp_path / "out" / "import_tokens.run.json").exists()
    assert (tmp_path / "back" / "export_tokens.run.json").exists()


def test_calls_that_find_all_there_leave_the_record_of_what_made_it(tmp_path, release):
    config = load(ImportTokens, [], arguments(release, tmp_path / "out"))
    recode = load(RecodeTokens, [], [f"dataset={tmp_path / 'out'}", f"output={tmp_path / 'new'}", "encoding=compact"])
    for function, how, name in (
        (import_tokens, config, "out/import_tokens"),
        (recode_tokens, recode, "new/recode_tokens"),
    ):
        function(how)
        first = (tmp_path / f"{name}.run.json").read_bytes()
        assert not (tmp_path / f"{name}.history.jsonl").exists()
        function(how)
        assert (tmp_path / f"{name}.run.json").read_bytes() == first
        assert len((tmp_path / f"{name}.history.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("function", [check_tokens, import_tokens])
def test_a_folder_of_others_is_refused_by_the_dry_run_too(tmp_path, release, function):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.docx").write_text("mine")
    config = load(ImportTokens, [], arguments(release, tmp_path / "out"))
    assert "holds thesis.docx, which this program did not write there" in refusal(function, config)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.docx"]


def test_the_plan_reads_and_writes_nothing_that_stays(tmp_path, release):
    config = load(ImportTokens, [], arguments(release, tmp_path / "out"))
    rows = dict(check_tokens(config))
    assert rows["train"].startswith("23 images, ")
    assert rows["classes"] == "5"
    assert rows["tokenizer"] == f"codebook, grid 6x6, codebook [{NUM_CODES}, {DIM}]"
    assert not list((tmp_path / "out").glob("**/*"))
    import_tokens(config)
    assert dict(check_tokens(config))["token dataset"].endswith("(already complete)")


def test_a_whole_tokenizer_instead_of_the_codebook(tmp_path, release):
    tokenizer = tiny_tokenizer(side=SIDE, num_codes=NUM_CODES)
    mark = save_tokenizer(tokenizer, Folder(tmp_path / "tokenizer"), {"psnr_db": 3.0})
    keys = [key for key in arguments(release, tmp_path / "out") if not key.startswith("codebook")]
    import_tokens(load(ImportTokens, [], [*keys, f"tokenizer={tmp_path / 'tokenizer'}"]))
    dataset = TokenDataset(Folder(tmp_path / "out"))
    assert (dataset.info.tokenizer, dataset.info.family) == (mark, "centroid")
    assert load_tokenizer(dataset.folder.join("tokenizer"))[1]["report"] == {"psnr_db": 3.0}
    config = load(InspectTokens, [], [f"dataset={tmp_path / 'out'}", f"contact_sheet={tmp_path / 'sheet.png'}"])
    inspect_tokens(config)
    assert (tmp_path / "sheet.png").stat().st_size > 100


def test_pictures_of_imported_tokens_are_refused_in_one_line(tmp_path, release):
    imported(release, tmp_path / "out")
    config = load(InspectTokens, [], [f"dataset={tmp_path / 'out'}", f"contact_sheet={tmp_path / 'sheet.png'}"])
    for function in (check_inspect, inspect_tokens):
        assert "whose tokenizer of family 'codebook' cannot decode" in refusal(function, config)


@pytest.mark.parametrize(
    ("drop", "more", "text"),
    [
        (("train.", "val."), [], "no token files; expected train.data=FILE"),
        (("train.data",), [], "train.data is missing"),
        (("codebook",), [], "neither of codebook and tokenizer"),
        ((), ["tokenizer=there"], "both of codebook and tokenizer"),
        ((), ["train.data=tokens.gz"], "train.index is missing; expected train.index=FILE, as tokens.gz has no"),
        ((), ["synonyms={release}/codebook.ckpt"], "codebook.ckpt: synonyms that are no JSON"),
        ((), ["codebook={release}/train-label.txt"], "train-label.txt: torch file of"),
        ((), ["grid=[5,5]"], "train-token.index.npy.gz: offsets of image "),
        ((), ["val.data={release}/nowhere.data.bin.gz"], "nowhere.index.npy.gz does not exist"),
    ],
)
def test_mistakes_are_one_line(tmp_path, release, drop, more, text):
    keys = [key for key in arguments(release, tmp_path / "out") if not key.startswith(drop or "never")]
    config = load(ImportTokens, [], [*keys, *(key.format(release=release) for key in more)])
    assert text in refusal(import_tokens, config)
    assert text in refusal(check_tokens, config)
    assert not (tmp_path / "out").exists()


def test_the_plan_looks_for_the_blob(tmp_path, release):
    (release / "val-token.data.bin.gz").unlink()
    config = load(ImportTokens, [], arguments(release, tmp_path / "out"))
    assert "val-token.data.bin.gz does not exist" in refusal(check_tokens, config)


def seit_vit(codebook, **changes):
    """A SeiT classifier of the centre 4x4 of the tokens."""
    torch.manual_seed(0)
    settings = {"grid": (4, 4), "num_classes": NUM_CLASSES, "kernel": 4, "stride": 2, "padding": 1} | changes
    return TokenViT(size=SIZES["nano"], embedding=CodebookEmbedding(codebook), **settings).eval()


def weights_config(tmp_path, state, *more):
    """Save a state dict as releases do; the config that imports it."""
    torch.save({"model": state, "epoch": 299}, tmp_path / "trained-vit.ckpt")
    keys = [f"weights={tmp_path}/trained-vit.ckpt", f"dataset={tmp_path}/out", f"run={tmp_path}/run"]
    return load(ImportWeights, [], [*keys, *more])


def test_imported_weights_evaluate(tmp_path, release):
    dataset = imported(release, tmp_path / "out")
    codebook = read_codebook((release / "codebook.ckpt").read_bytes())
    vit = seit_vit(codebook)
    config = weights_config(tmp_path, vit.state_dict())
    rows = dict(check_weights(config))
    assert rows["model"] == f"classifier, 128 wide, 4 blocks, grid 4x4, K {NUM_CODES}"
    assert rows["classifier"] == "5 classes, codebook embedding, stem 4/2/1, mean pool"
    assert not list((tmp_path / "run").glob("*"))
    import_weights(config)
    found, about = import_model(Folder(tmp_path / "run"), "classifier")
    rows = dataset.read_split("val")
    tokens = torch.from_numpy(rows.tokens.astype("int64")).view(-1, SIDE, SIDE)[:, 1:5, 1:5]
    assert torch.equal(found(tokens), vit(tokens))
    assert about["tokenizer"] == dataset.info.tokenizer
    evaluate(load(Evaluate, [], [f"dataset={tmp_path}/out", f"run={tmp_path}/run"]))
    figures = json.loads((tmp_path / "run" / "evaluate-val.json").read_text())
    right = (vit(tokens).argmax(1).numpy() == rows.meta["label"].to_numpy()).mean()
    assert figures["top1"] == pytest.approx(right)


def test_importing_weights_twice_writes_once_and_never_over_another(tmp_path, release):
    imported(release, tmp_path / "out")
    codebook = read_codebook((release / "codebook.ckpt").read_bytes())
    state = seit_vit(codebook).state_dict()
    import_weights(weights_config(tmp_path, state))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    with locked(Folder(tmp_path / "run"), LOCK):
        killed = json.loads((tmp_path / "run" / LOCK).read_text()) | {"started": "1"}
    (tmp_path / "run" / LOCK).write_text(json.dumps(killed))
    import_weights(weights_config(tmp_path, state))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before
    changed = {**state, "norm.bias": state["norm.bias"] + 1}
    for config in (weights_config(tmp_path, state, "pool=cls"), weights_config(tmp_path, changed)):
        assert "run holds another model" in refusal(import_weights, config)
        assert "run holds another model" in refusal(check_weights, config)
    (tmp_path / "run" / "model.json").unlink()
    Folder(tmp_path / "run").write("checkpoints/step-1/checkpoint.json", b"{}")
    assert "holds an unfinished training" in refusal(import_weights, weights_config(tmp_path, state))


def test_one_job_at_a_time_imports_weights_or_exports_tokens(tmp_path, release):
    imported(release, tmp_path / "out")
    weights = weights_config(tmp_path, seit_vit(read_codebook((release / "codebook.ckpt").read_bytes())).state_dict())
    tokens = load(ExportTokens, [], [f"dataset={tmp_path}/out", f"output={tmp_path}/back"])
    for function, config, output in ((import_weights, weights, "run"), (export_tokens, tokens, "back")):
        folder = Folder(tmp_path / output)
        with locked(folder, LOCK):
            with pytest.raises(LockedError, match="is being written to by"):
                function(config)
            assert [path.name for path in (tmp_path / output).iterdir()] == [LOCK]
        function(config)
        assert not folder.exists(LOCK)


def test_a_masked_model_is_imported(tmp_path, release):
    imported(release, tmp_path / "out")
    mtm = MaskedTokenModel(grid=(SIDE, SIDE), num_codes=NUM_CODES, size=SIZES["nano"], token_dim=4)
    import_weights(weights_config(tmp_path, mtm.state_dict()))
    found, _ = import_model(Folder(tmp_path / "run"), "mtm")
    assert "pool cls for a model that has none" in refusal(
        import_weights, weights_config(tmp_path, mtm.state_dict(), "pool=cls")
    )
    assert {k: v.tolist() for k, v in found.state_dict().items()} == {
        k: v.tolist() for k, v in mtm.state_dict().items()
    }


def test_an_imported_masked_model_is_a_start_for_fine_tuning(tmp_path, release):
    imported(release, tmp_path / "out")
    mtm = MaskedTokenModel(grid=(SIDE, SIDE), num_codes=NUM_CODES, size=SIZES["nano"], token_dim=4)
    import_weights(weights_config(tmp_path, mtm.state_dict()))
    keys = [f"dataset={tmp_path}/out", f"output={tmp_path}", "run=tuned", f"init_from={tmp_path}/run"]
    keys += [
        "model.size=nano",
        "model.token_dim=4",
        "loop.epochs=1",
        "optimizer.warmup_epochs=0",
        "loop.global_batch_size=8",
        "workers.num_workers=0",
    ]
    finetune(load(Finetune, [], keys))
    assert import_model(Folder(tmp_path / "tuned"), "classifier")[1]["init_from"] == f"{tmp_path}/run"


def test_tokenadapt_is_imported(tmp_path, release):
    dataset = imported(release, tmp_path / "out")
    sizes = {"num_codes": NUM_CODES, "dim": DIM, "width": 16, "depth": 2, "num_heads": 1, "mlp_width": 24}
    model = TokenAdapt(grid=(SIDE, SIDE), out_grid=(5, 5), **sizes)
    config = weights_config(tmp_path, model.state_dict())
    assert dict(check_weights(config))["model"].startswith("tokenadapt, 16 wide, 2 blocks, grid 6x6")
    import_weights(config)
    found, about = import_model(Folder(tmp_path / "run"), "tokenadapt")
    assert identity_of(dataset).items() <= about.items()
    maps = torch.randn(2, DIM, *model.map_size)
    assert torch.equal(found.to_codes(maps), model.to_codes(maps))
    other = TokenAdapt(grid=(5, 5), out_grid=(5, 5), **sizes)
    config = weights_config(tmp_path, other.state_dict())
    assert "weights for the grid (5, 5); expected (6, 6)" in refusal(check_weights, config)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"num_classes": 9}, "tells 9 classes apart; expected 5"),
        ({"grid": (8, 8)}, "weights of 16 positions under a stem of kernel 4"),
        ({"kernel": 2, "padding": 0, "embedding": TokenEmbedding(7, 4)}, "weights for 7 codes; expected 400"),
    ],
)
def test_weights_of_other_tokens_are_refused(tmp_path, release, changes, text):
    imported(release, tmp_path / "out")
    settings = {"grid": (4, 4), "num_classes": NUM_CLASSES, "kernel": 4, "stride": 2, "padding": 1} | changes
    settings.setdefault("embedding", CodebookEmbedding(torch.zeros(NUM_CODES, DIM)))
    config = weights_config(tmp_path, TokenViT(size=SIZES["nano"], **settings).state_dict())
    assert text in refusal(import_weights, config)
    assert not (tmp_path / "run").exists()


def test_files_that_are_no_weights_are_named(tmp_path, release):
    imported(release, tmp_path / "out")
    config = weights_config(tmp_path, {"fc": torch.zeros(1)})
    assert "trained-vit.ckpt: weights with fc; expected one of" in refusal(import_weights, config)
    (tmp_path / "trained-vit.ckpt").write_bytes(b"no weights")
    assert "trained-vit.ckpt: torch file of 10 bytes" in refusal(check_weights, config)
    (tmp_path / "trained-vit.ckpt").unlink()
    assert "trained-vit.ckpt does not exist" in refusal(check_weights, config)


def test_everything_in_a_bucket(s3_server, tmp_path, release):
    bucket = Folder(f"s3://{s3_server.create_bucket('import-export')}", **s3_server.credentials)
    for path in release.iterdir():
        bucket.write(f"release/{path.name}", path.read_bytes())
    keys = [f"storage.{name}={value}" for name, value in s3_server.credentials.items()]
    root = f"{bucket.uri}/release"
    more = [f"synonyms={root}/synonyms.json", *keys]
    import_tokens(load(ImportTokens, [], arguments(root, f"{bucket.uri}/out", *more)))
    local = imported(release, tmp_path / "out", f"synonyms={release}/synonyms.json")
    remote = TokenDataset(bucket.join("out"))
    assert remote.info.splits == local.info.splits
    assert remote.info.tokenizer == local.info.tokenizer
    vit = seit_vit(read_codebook((release / "codebook.ckpt").read_bytes()))
    torch.save({"model": vit.state_dict()}, tmp_path / "vit.ckpt")
    bucket.write("vit.ckpt", (tmp_path / "vit.ckpt").read_bytes())
    uris = [f"{key}={bucket.uri}/{name}" for key, name in (("weights", "vit.ckpt"), ("dataset", "out"), ("run", "run"))]
    import_weights(load(ImportWeights, [], [*uris, *keys]))
    tokens = torch.randint(NUM_CODES, (2, 16))
    assert torch.equal(import_model(bucket.join("run"), "classifier")[0](tokens), vit(tokens))
    export_tokens(load(ExportTokens, [], [f"dataset={bucket.uri}/out", f"output={bucket.uri}/back", *keys]))
    assert bucket.read("back/train-label.txt") == (release / "train-label.txt").read_bytes()
    assert not [
        entry.name for entry in bucket.list("out") if s3_server.secret_access_key.encode() in bucket.read(entry.name)
    ]


def test_what_was_exported_is_imported_without_a_word_on_its_grid(tmp_path, release):
    first = imported(release, tmp_path / "out", f"synonyms={release}/synonyms.json")
    export_tokens(load(ExportTokens, [], [f"dataset={tmp_path / 'out'}", f"output={tmp_path / 'back'}"]))
    files = [f"train.data={tmp_path}/back/train-token.data.bin.gz", f"output={tmp_path}/again"]
    import_tokens(load(ImportTokens, [], files))
    again = TokenDataset(Folder(tmp_path / "again"))
    assert (again.info.grid, again.info.tokenizer) == (first.info.grid, first.info.tokenizer)
    assert (again.read_split("train").tokens == first.read_split("train").tokens).all()
    (tmp_path / "back" / "about.json").write_text("{")
    assert "about.json cannot be read" in refusal(import_tokens, load(ImportTokens, [], files))


def test_files_of_others_are_not_written_beside(tmp_path, release):
    imported(release, tmp_path / "out")
    state = seit_vit(read_codebook((release / "codebook.ckpt").read_bytes())).state_dict()
    weights = weights_config(tmp_path, state)
    export = load(ExportTokens, [], [f"dataset={tmp_path}/out", f"output={tmp_path}/run"])
    Folder(tmp_path / "run").write("thesis.tex", b"mine")
    for function, config in (
        (import_weights, weights),
        (check_weights, weights),
        (export_tokens, export),
        (check_export, export),
    ):
        assert "run holds thesis.tex, which this program did not write there" in refusal(function, config)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_an_export_goes_on_where_it_was_and_never_over_another(tmp_path, release):
    imported(release, tmp_path / "out")
    imported(release, tmp_path / "other")
    config = load(ExportTokens, [], [f"dataset={tmp_path}/out", f"output={tmp_path}/back"])
    export_tokens(config)
    files = {path.name: path.read_bytes() for path in (tmp_path / "back").iterdir()}
    (tmp_path / "back" / "train-token.data.bin.gz").unlink()  # as where it was killed
    export_tokens(config)
    again = {path.name: path.read_bytes() for path in (tmp_path / "back").iterdir()}
    assert {name: again[name] for name in files} == files
    other = load(ExportTokens, [], [f"dataset={tmp_path}/other", f"output={tmp_path}/back"])
    for function in (export_tokens, check_export):
        assert re.search("back holds files of .*/out; expected those of .*/other", refusal(function, other))
    assert {path.name: path.read_bytes() for path in (tmp_path / "back").iterdir()} == again
