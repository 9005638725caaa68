"""The prediction job, in this process and on a local ray: every image once, in order, whatever happens on the way."""

import contextlib
import hashlib
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import torch

from seit_ray.config import Predict
from seit_ray.distributed.data import predict_job
from seit_ray.distributed.data.predict_begin import PredictJob
from seit_ray.distributed.data.predict_job import run_predict_job
from seit_ray.evaluation import prediction_table
from seit_ray.evaluation.image_classifier import ImageClassifier
from seit_ray.evaluation.prediction_folder import MARKER
from seit_ray.evaluation.prediction_output import output_at
from seit_ray.images import decode_image
from seit_ray.storage import Folder
from seit_ray.storage.lock import LockedError, locked
from tests.distributed.data.jobs import Interruption, interrupt_when
from tests.tiny_classifiers import write_classifier
from tests.tiny_images import contents, image_bytes, image_files, write_files, write_tokenizer

GOOD = image_files(70, classes=("cat", "dog", "emu")) | {"dog/größe und 猫.png": image_bytes("dog", 1001)}
BAD = {"cat/empty.png": b"", "emu/text.jpg": b"this is no picture"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """images/, tokens/ with a tokenizer, run/; not to be changed."""
    place = Folder(tmp_path_factory.mktemp("place"))
    write_files(place.join("images"), GOOD | BAD)
    write_tokenizer(place.join("tokens", "tokenizer"))
    write_classifier(place.join("run"), place.join("tokens"), ema_seed=3)
    return place


@pytest.fixture
def output(tmp_path):
    return Folder(tmp_path / "out")


def job_of(place, output, name="found.parquet", images=None, **settings):
    """A job with small parts, in this process."""
    settings = {"rows_per_part": 16, "num_actors": 0, **settings}
    config = Predict(images="images", run="run", output=name, **settings)
    return PredictJob(
        images=images or place.join("images"),
        source_settings=config.source.settings(),
        run=place.join("run"),
        tokenizer=None,
        output=output_at(output.join(name), output, name),
        settings=config.settings(),
    )


def refuse_cluster():
    raise AssertionError("a cluster was asked for")


def predict(*arguments, connect=refuse_cluster, on_progress=lambda *state: None, **settings):
    """(about, predictions, rejected) of such a job."""
    job = job_of(*arguments, **settings)
    about = run_predict_job(job, connect, on_progress)
    table = job.output
    read = pa_csv.read_csv if table.suffix == ".csv" else pq.read_table
    return about, *(read(io.BytesIO(table.folder.read(name))) for name in (table.name, table.rejected_name))


def plain_probabilities(place, keys, weights="model"):
    """[N,C] of a plain loop over images one by one."""
    classifier = ImageClassifier.load(place.join("run"), weights=weights)
    pixels = [decode_image(GOOD[key], image_size=classifier.image_size).pixels for key in keys]
    return torch.cat([classifier.logits(torch.from_numpy(p)[None]).softmax(1) for p in pixels]).numpy()


@pytest.fixture(scope="module")
def undisturbed(place, tmp_path_factory):
    """The result of a job made in one go in this process; its folder is last."""
    folder = Folder(tmp_path_factory.mktemp("undisturbed"))
    return *predict(place, folder, top_k=2), folder


def test_every_image_is_predicted_or_rejected_in_order(place, undisturbed):
    about, table, rejected, folder = undisturbed
    assert table["key"].to_pylist() == sorted(GOOD, key=str.encode)
    assert table["uri"].to_pylist() == [place.join("images").uri_of(key) for key in table["key"].to_pylist()]
    assert table["source_label"].to_pylist() == [key.partition("/")[0] for key in table["key"].to_pylist()]
    assert rejected["key"].to_pylist() == sorted(BAD)
    assert [reason[:5] for reason in rejected["reason"].to_pylist()] == ["empty", "not a"]
    counts = about["counts"]
    assert counts["listed"] == counts["predicted"] + counts["rejected"] == len(GOOD) + len(BAD)
    assert sum(counts["labels"].values()) == len(GOOD)
    right = [a == b for a, b in zip(table["label"].to_pylist(), table["source_label"].to_pylist(), strict=True)]
    assert (counts["agreeing"], counts["labelled"]) == (sum(right), len(GOOD))
    assert set(contents(folder)) == {"found.parquet", "found.parquet.json", "found-rejected.parquet"}
    assert json.loads(folder.read("found.parquet.json")) == about


def test_predictions_are_those_of_a_plain_loop(place, undisturbed):
    _, table, *_ = undisturbed
    expected = plain_probabilities(place, table["key"].to_pylist())
    np.testing.assert_allclose(np.array(table["probabilities"].to_pylist()), expected, atol=1e-5)
    names = ["cat", "dog", "emu"]
    assert table["label"].to_pylist() == [names[i] for i in expected.argmax(1)]
    assert len(set(table["label"].to_pylist())) > 1
    np.testing.assert_allclose(table["probability"].to_numpy(), expected.max(1), atol=1e-5)
    order = np.argsort(-expected, axis=1)[:, :2]
    assert table["top_labels"].to_pylist() == [[names[i] for i in row] for row in order]


def test_ray_gives_the_same_table(place, undisturbed, output, ray_cluster):
    _, table, rejected = predict(
        place,
        output,
        connect=lambda: contextlib.nullcontext(ray_cluster),
        num_actors=2,
        batch_size=256,
        top_k=2,
    )
    _, here, here_rejected, _ = undisturbed
    numbers = [name for name in here.column_names if name in ("probability", "probabilities", "top_probabilities")]
    assert table.drop_columns(numbers) == here.drop_columns(numbers)
    for name in numbers:
        np.testing.assert_allclose(np.array(table[name].to_pylist()), np.array(here[name].to_pylist()), atol=1e-6)
    assert rejected == here_rejected


def test_averaged_weights_and_batches(place, undisturbed, output):
    _, table, _ = predict(place, output, weights="ema", batch_size=3)
    expected = plain_probabilities(place, table["key"].to_pylist(), "ema")
    np.testing.assert_allclose(np.array(table["probabilities"].to_pylist()), expected, atol=1e-5)
    assert table["label"] != undisturbed[1]["label"]


def test_a_rerun_changes_nothing(place, undisturbed):
    about, _, _, folder = undisturbed
    before, seen = contents(folder), []
    again, *_ = predict(place, folder, top_k=2, on_progress=lambda *state: seen.append(state))
    assert again == about
    assert contents(folder) == before
    assert seen == [("predict", 1, 1, "already complete")]


def test_interrupted_at_half_it_does_what_is_missing(place, undisturbed, output):
    half = interrupt_when(lambda phase, done, total: phase == "predict" and done > total / 2)
    with pytest.raises(Interruption):
        predict(place, output, top_k=2, on_progress=half)
    parts = output.join("_found.parquet.work", "records")
    made = [entry.name for entry in parts.list()]
    assert 2 <= len(made) < 5
    assert not output.exists("found.parquet")
    seen = []
    predict(place, output, top_k=2, on_progress=lambda *state: seen.append(state))
    assert seen[0][3] == f"{5 - len(made)} of 5 parts to do"
    assert contents(output) == contents(undisturbed[3])


@pytest.mark.parametrize("written", ["found-rejected.parquet", "found.parquet.json", "found.parquet"])
def test_interrupted_while_the_tables_are_written(place, undisturbed, output, monkeypatch, written):
    write = Folder.write

    def stop_after(folder, name, data):
        write(folder, name, data)
        if name == written and folder == output:
            raise Interruption

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "write", stop_after)
        with pytest.raises(Interruption):
            predict(place, output, top_k=2)
    assert output.exists("found.parquet") is (written == "found.parquet")
    predict(place, output, top_k=2)
    assert contents(output) == contents(undisturbed[3])


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"weights": "ema"}, {"probabilities": False}])
def test_another_job_for_the_same_table_is_refused(place, undisturbed, settings):
    folder = undisturbed[3]
    before = contents(folder)
    with pytest.raises(ValueError, match=r"was made with other .* expected the same images, run and settings"):
        predict(place, folder, **{"top_k": 2, **settings})
    assert contents(folder) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_of_someone_else_is_not_replaced(place, output, overwrite):
    output.write("found.csv", b"mine")
    with pytest.raises(ValueError, match=r"exists, and no found\.csv\.json says what it is of"):
        predict(place, output, "found.csv", overwrite=overwrite)
    assert contents(output) == {"found.csv": b"mine"}


def test_two_jobs_do_not_write_one_table(place, output):
    with locked(output, "_found.parquet.lock"), pytest.raises(LockedError, match="is being written to by"):
        predict(place, output)
    assert contents(output) == {}


def test_a_folder_of_the_same_name_as_its_work_is_not_touched(place, output):
    work = output.join("_found.parquet.work")
    work.write("notes.txt", b"mine")
    with pytest.raises(ValueError, match=r"holds notes\.txt, which this program did not write"):
        predict(place, output)
    assert contents(output) == {"_found.parquet.work/notes.txt": b"mine"}


def test_a_table_of_other_settings_is_replaced_when_asked(place, undisturbed, output):
    """A finished one, and one that was only begun; what lies beside stays."""
    predict(place, output, top_k=1)
    output.write("notes.txt", b"mine")
    predict(place, output, top_k=2, overwrite=True)
    assert contents(output) == contents(undisturbed[3]) | {"notes.txt": b"mine"}
    output.delete("found.parquet")
    output.join("_found.parquet.work").write("plan.json", b"{}")
    predict(place, output, top_k=2, overwrite=True)
    assert contents(output) == contents(undisturbed[3]) | {"notes.txt": b"mine"}
    predict(place, output, top_k=2, overwrite=True)  # the same settings: the same once more
    assert contents(output) == contents(undisturbed[3]) | {"notes.txt": b"mine"}


def test_images_that_came_since_are_predicted_when_asked(place, output, tmp_path):
    """Killed in between, it continues."""
    images = write_files(tmp_path / "images", image_files(20))
    predict(place, output, images=images)
    write_files(images, image_files(20, first=20))
    assert len(predict(place, output, images=images)[1]) == 20
    half = interrupt_when(lambda phase, done, total: phase == "predict" and done > total / 2)
    with pytest.raises(Interruption):
        predict(place, output, images=images, overwrite=True, on_progress=half)
    seen = []
    table = predict(place, output, images=images, overwrite=True, on_progress=lambda *state: seen.append(state))[1]
    assert len(table) == 40
    assert next(note for phase, *_, note in seen if phase == "predict") == "1 of 3 parts to do"


def test_csv_and_one_split_of_a_table_without_labels(place, tmp_path, output):
    files = {f"{i}.png": image_bytes("emu", i) for i in range(6)}
    rows = [f"{i}.png,{'val' if i % 2 else 'train'}" for i in range(6)]
    source = write_files(tmp_path / "images", files | {"list.csv": "\n".join(["uri,split", *rows]).encode()})
    table = Folder(source.uri_of("list.csv"))
    _, found, rejected = predict(place, output, "all.csv", images=table, rows_per_part=2)
    assert found["key"].to_pylist() == [f"{i}.png" for i in range(6)]  # the rows' order, not that of splits
    assert [name for name in found.column_names if name.startswith("p_")] == ["p_cat", "p_dog", "p_emu"]
    assert len(rejected) == 0
    about, some, _ = predict(place, output, "val.csv", images=table, split="val", probabilities=False)
    assert some["key"].to_pylist() == [f"{i}.png" for i in (1, 3, 5)]
    assert "p_cat" not in some.column_names
    assert about["counts"]["labelled"] == 0
    assert output.exists("all.csv")
    with pytest.raises(ValueError, match=r"split 'test' of .*; expected one of \['train', 'val'\]"):
        predict(place, output, "test.csv", images=table, split="test")
    assert not [name for name in contents(output) if "test.csv" in name]


def test_nothing_readable_is_a_table_without_rows(place, tmp_path, output):
    source = write_files(tmp_path / "images", {"a.png": b"", "b.jpg": b"x"})
    about, table, rejected = predict(place, output, images=source, rows_per_part=1)
    assert (len(table), len(rejected)) == (0, 2)
    assert about["counts"]["listed"] == about["counts"]["rejected"] == 2


def test_few_images_need_no_ray_and_many_ask_for_it(place, output, monkeypatch):
    predict(place, output, num_actors=None)
    monkeypatch.setattr(predict_job, "FEW_IMAGES", 10)
    with pytest.raises(AssertionError, match="a cluster was asked for"):
        predict(place, output, "other.parquet", num_actors=None)


def wrong_jobs():
    yield {"name": "found.txt"}, r"expected a name that ends in .parquet or .csv, or a folder"
    yield {"images": Folder("/no/such/folder")}, "does not exist"


@pytest.mark.parametrize(("settings", "words"), list(wrong_jobs()))
def test_wrong_jobs_are_named_and_leave_nothing(place, output, settings, words):
    with pytest.raises(ValueError, match=words) as caught:
        predict(place, output, **settings)
    assert "\n" not in str(caught.value)
    assert contents(output) == {}


def test_too_many_probabilities_for_one_table(place, output, monkeypatch):
    monkeypatch.setattr(prediction_table, "MAX_VALUES", 3 * len(GOOD))
    with pytest.raises(ValueError, match="set probabilities=false and top_k"):
        predict(place, output)
    assert contents(output) == {}
    predict(place, output, probabilities=False)


def in_a_folder(place, output, name="found", connect=refuse_cluster, on_progress=lambda *state: None, **settings):
    """(about, predictions, rejected) of a job that writes parts to a folder."""
    job = job_of(place, output, name, **settings)
    about = run_predict_job(job, connect, on_progress)
    tables = [
        [pq.read_table(output.join(name).uri_of(f["name"])) for f in about["parts"] if f"/{kind}-" in f["name"]]
        for kind in ("part", "rejected")
    ]
    return about, *(pa.concat_tables(some) for some in tables)


def test_a_folder_holds_the_rows_of_the_table_in_parts(place, undisturbed, output):
    about, table, rejected = in_a_folder(place, output, top_k=2)
    expected_about, expected, expected_rejected, _ = undisturbed
    assert table.drop_columns(["id"]).to_pylist() == expected.to_pylist()
    assert rejected.drop_columns(["id"]).to_pylist() == expected_rejected.to_pylist()
    assert about["counts"] == expected_about["counts"]
    names = {file["name"] for file in about["parts"]}
    assert set(contents(output.join("found"))) == names | {MARKER}
    assert len([name for name in names if "/part-" in name]) == 5
    for file in about["parts"]:
        data = output.join("found").read(file["name"])
        assert hashlib.sha256(data).hexdigest() == file["sha256"]
    before = contents(output)
    assert in_a_folder(place, output, top_k=2)[0] == about
    assert contents(output) == before


def test_a_folder_that_was_begun_goes_on(place, output, tmp_path):
    undisturbed = Folder(tmp_path / "undisturbed")
    in_a_folder(place, undisturbed)
    half = interrupt_when(lambda phase, done, total: phase == "predict" and done > total / 2)
    with pytest.raises(Interruption):
        in_a_folder(place, output, on_progress=half)
    assert not output.join("found").exists(MARKER)
    seen = []
    in_a_folder(place, output, on_progress=lambda *state: seen.append(state[3]))
    assert 0 < int(seen[0].partition(" of 5 parts")[0]) < 5
    found, expected = contents(output), contents(undisturbed)
    assert found == expected


def test_a_folder_of_other_settings_is_refused_or_replaced(place, output):
    in_a_folder(place, output, top_k=1)
    with pytest.raises(ValueError, match=r"was made with other top_k .* set overwrite=true"):
        in_a_folder(place, output, top_k=2)
    output.write("found/notes.txt", b"mine")
    about, table, _ = in_a_folder(place, output, top_k=2, rows_per_part=50, overwrite=True)
    assert len(table["top_labels"][0]) == 2
    names = {f"found/{file['name']}" for file in about["parts"]} | {f"found/{MARKER}", "found/notes.txt"}
    assert set(contents(output)) == names


def test_a_folder_with_files_of_others_is_refused(place, output):
    output.write("found/notes.txt", b"mine")
    with pytest.raises(ValueError, match=r"holds notes\.txt, which this program did not write"):
        in_a_folder(place, output)
    assert contents(output) == {"found/notes.txt": b"mine"}


def test_a_folder_whose_parts_are_gone_is_not_complete(place, output):
    about, *_ = in_a_folder(place, output)
    output.join("found").delete(about["parts"][0]["name"])
    with pytest.raises(ValueError, match="is missing, or has another size"):
        in_a_folder(place, output)


@pytest.mark.parametrize("name", ["found-rejected.csv", "found.csv.json"])
def test_tables_of_others_that_come_meanwhile_are_not_replaced(place, output, name):
    half = interrupt_when(lambda phase, done, total: phase == "predict" and done > total / 2)
    with pytest.raises(Interruption):
        predict(place, output, "found.csv", on_progress=half)
    output.write(name, b"mine")
    with pytest.raises(ValueError, match="exists, which this output would replace"):
        predict(place, output, "found.csv")
    assert output.read(name) == b"mine"


def test_a_replacement_that_is_killed_between_its_deletions_goes_on(place, output, monkeypatch):
    predict(place, output, top_k=1)
    delete = Folder.delete

    def stop_after(folder, name):
        delete(folder, name)
        if name == "found.parquet":
            raise Interruption

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "delete", stop_after)
        with pytest.raises(Interruption):
            predict(place, output, top_k=2, overwrite=True)
    assert len(predict(place, output, top_k=2, overwrite=True)[1]["top_labels"][0]) == 2


def test_any_number_of_probabilities_fits_a_folder(place, output, monkeypatch):
    monkeypatch.setattr(prediction_table, "MAX_VALUES", 3 * len(GOOD))
    assert len(in_a_folder(place, output)[1]) == len(GOOD)


def test_ray_fills_the_same_folder(place, output, tmp_path, ray_cluster):
    here, there = (Folder(tmp_path / name) for name in ("here", "there"))
    cluster = {"connect": lambda: contextlib.nullcontext(ray_cluster), "num_actors": 2}
    about, table, _ = in_a_folder(place, there, probabilities=False, **cluster)
    assert table["key"].to_pylist() == [
        row["key"] for row in in_a_folder(place, here, probabilities=False)[1].to_pylist()
    ]
    assert about["counts"]["listed"] == len(GOOD) + len(BAD)
