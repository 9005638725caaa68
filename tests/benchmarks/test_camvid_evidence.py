"""The arms of the evidence are what they are called, and their table is of what stands."""

import json
from argparse import Namespace

from seit_ray.augment.settings import AugmentSettings
from seit_ray.storage import Folder
from tests.benchmarks.camvid_evidence import (
    ARMS,
    CLASSES,
    MASKED,
    name_of,
    pretraining,
    print_table,
    source_of,
    training,
)
from tests.tiny_maps import write_camvid, write_map_dataset

OPTIONS = Namespace(images="camvid", epochs=8, mtm_epochs=12, side=64)


def test_arms_differ_in_what_they_read_start_from_and_do_to_it(tmp_path):
    found = {arm: training(OPTIONS, tmp_path, arm, 1) for arm in ARMS}
    assert [bool(one.images) for one in found.values()] == [True, False, False, False]
    assert [one.init_from for one in found.values()] == [None, None, *[str(tmp_path / "mtm-1")] * 2]
    assert [one.augment.adapt for one in found.values()] == ["none"] * 3 + ["pixels"]
    assert {one.loop.model_dump_json() for one in found.values()} == {found["pixels"].loop.model_dump_json()}
    assert {one.model.model_dump_json() for one in found.values()} == {found["pixels"].model.model_dump_json()}
    pixels = found["pixels"].pixels
    assert (pixels.image_size // pixels.patch_size, 16 // found[ARMS[1]].model.stem_kernel) == (8, 8)  # equal units
    given = found[ARMS[3]].augment
    own = {name: getattr(given, name) for name in AugmentSettings.__dataclass_fields__ if hasattr(given, name)}
    AugmentSettings(grid=(16, 16), **own)
    assert pretraining(OPTIONS, tmp_path, 1).model.width == found[MASKED[0]].model.width
    assert len(source_of(tmp_path)["class_names"]) > 0
    assert (tmp_path / "classes.txt").read_text().split() == CLASSES


def test_the_table_has_bytes_means_and_errors(tmp_path, capsys):
    write_map_dataset(Folder(tmp_path / "tokens").uri, write_camvid(tmp_path / "photos", {"train": 3}))
    classes = {name: {"iou": None if name == "pole" else 0.5} for name in CLASSES}
    for place, arm in enumerate(ARMS):
        for seed in range(2):
            run = tmp_path / name_of(arm, seed)
            run.mkdir()
            figures = {"miou": 0.2 + 0.1 * place + 0.02 * seed, "mean_accuracy": 0.5, "pixel_accuracy": 0.75}
            figures |= {"miou_standard_error": 0.03, "classes": classes}
            (run / "figures.json").write_text(json.dumps(figures))
    print_table(OPTIONS, tmp_path, 2)
    text = capsys.readouterr().out
    assert "| 21.0 | 1.00 / 3.00 | 50.0 | 75.0 |" in text
    assert "| + MTM | 50.0 | 50.0 | 0.0 |" in text
