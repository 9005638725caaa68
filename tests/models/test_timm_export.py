"""A classifier of pixels as timm's own model: the same features, by timm's own way of loading and as a teacher."""

import json

import pytest
import timm
import torch

from seit_ray.models.about_timm import check_teacher
from seit_ray.models.build import build_model
from seit_ray.models.exports import export_model
from seit_ray.models.teacher import build_teacher
from seit_ray.models.timm_export import NAME, export_timm
from seit_ray.models.variants import Size
from seit_ray.models.weights import load_weights
from seit_ray.storage import Folder

SIZE = Size(24, 2, 3, decoder_width=8, decoder_depth=1, decoder_num_heads=2)
SETTINGS = {"size": SIZE, "grid": (16, 16), "stem_kernel": 4, "inputs": "pixels", "num_classes": 3}


def finished(tmp_path, **more):
    """(run, model) of a classifier of drawn weights."""
    torch.manual_seed(0)
    settings = SETTINGS | more
    model = build_model("classifier", **settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    run = Folder(tmp_path / "run")
    export_model(run, model, kind="classifier", settings=settings, about={})
    return run, model


@torch.no_grad()
@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_timm_and_the_teacher_have_the_features_of_the_run(tmp_path, pool):
    run, model = finished(tmp_path, pool=pool)
    folder = Folder(tmp_path / "timm")
    assert export_timm(run, folder) == NAME
    images = torch.randint(256, (2, 3, 16, 16)).byte()
    wanted = model.patch_features(images)
    network = timm.create_model(f"local-dir:{folder.uri}", pretrained=True).eval()
    maps = model.token_emb.maps(images, (16, 16))
    torch.testing.assert_close(network.forward_features(maps)[:, 1:], wanted, atol=1e-4, rtol=1e-4)
    how = check_teacher(NAME, folder, "model.safetensors", (4, 4))
    state = load_weights(folder.read("model.safetensors"))
    teacher = build_teacher(NAME, state, (4, 4), scaling=how.scaling, **how.arguments).eval()
    torch.testing.assert_close(teacher.patch_features(images), wanted, atol=1e-4, rtol=1e-4)


def test_a_run_that_timm_has_no_model_of_is_refused(tmp_path):
    for number, more in enumerate(({"stem_layers": 1}, {"inputs": "learned", "num_codes": 5}, {"encoder": "beit"})):
        run, _ = finished(tmp_path / str(number), **more)
        with pytest.raises(ValueError, match=r"for timm; expected a classifier of images with model\.encoder=vit"):
            export_timm(run, Folder(tmp_path / "timm"))
    assert not (tmp_path / "timm").exists()


def test_a_config_of_timm_is_read_before_the_weights(tmp_path):
    folder = Folder(tmp_path)
    with pytest.raises(ValueError, match=r"no file .*model.safetensors; expected the weights of vit_tiny_patch16_224"):
        check_teacher("vit_tiny_patch16_224", folder, "model.safetensors", (4, 4))
    folder.write("model.safetensors", b"")
    for text in ("{}", "no JSON", "[]"):  # another's
        folder.write("config.json", text.encode())
        assert check_teacher(NAME, folder, "model.safetensors", (4, 4)).arguments == {}

    def refused(about):
        folder.write("config.json", json.dumps(about).encode())
        with pytest.raises(ValueError, match=r"\S") as caught:
            check_teacher(NAME, folder, "model.safetensors", (4, 4))
        return str(caught.value)

    sizes = {"img_size": 16, "patch_size": 8}
    assert "of 2x2 patches; expected 4x4, as the student" in refused({"architecture": NAME, "model_args": sizes})
    assert "dtm.teacher=vit_tiny_patch16_224" in refused({"architecture": "vit_tiny_patch16_224"})
    assert "model_args checkpoint_path" in refused({"architecture": NAME, "model_args": {"checkpoint_path": "/x"}})
    assert "cannot be read" in refused({"architecture": NAME, "pretrained_cfg": {"mean": "red"}})
    assert "cannot be read" in refused({"architecture": NAME, "model_args": {"img_size": 16, "patch_size": 0}})
