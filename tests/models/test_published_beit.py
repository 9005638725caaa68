"""Published weights of CCViT, DTM and BEiT classifiers: the kind and sizes are read off their names and shapes."""

import pytest
import torch

from seit_ray.models.beit import BeitViT
from seit_ray.models.beit_transfer import as_timm
from seit_ray.models.embed import PixelEmbedding
from seit_ray.models.published import load_published, published_settings, published_state
from seit_ray.models.variants import Size
from tests.models.test_ccvit_golden import early_layers_of, patch_of, recorded_model
from tests.recordings import Recording


def test_ccvit_loads_by_its_published_names_as_the_golden_recording_has_it():
    record = Recording("ccvit")
    full = {**record.state(()), "blocks.0.attn.relative_position_index": torch.zeros(3, 3)}
    state = published_state({"model": {f"module.{name}": value for name, value in full.items()}})
    codebook = record["in/centroids"]
    grid = tuple(side // patch_of(record) for side in record.pixels("in/images").shape[2:])
    early = early_layers_of(record)
    kind, settings = published_settings(state, grid=grid, codebook=codebook, early_layers=early)
    assert (kind, settings["unit"]) == ("ccvit", 1)
    assert settings["grid"] == tuple(record.pixels("in/images").shape[2:])
    model, known = load_published(kind, settings, state), recorded_model(record, shared_head=False)
    assert model.early_layers == known.early_layers == early
    assert all(torch.equal(value, known.float().state_dict()[name]) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match="take the dataset that they were trained on"):
        published_settings(state, grid=grid, codebook=codebook[:-1])
    with pytest.raises(ValueError, match="for a model that has none"):
        published_settings(state, grid=grid, codebook=codebook, pool="mean")


def test_dtm_loads_by_its_published_names_as_the_golden_recording_has_it():
    record = Recording("dtm_model")
    codebook = torch.rand(5, 3 * 8 * 8)
    kind, settings = published_settings(published_state(record.state(())), grid=(8, 8), codebook=codebook)
    assert (kind, settings["own_bias"], settings["grid"]) == ("dtm", True, tuple(record["in/x"].shape[2:]))
    model = load_published(kind, settings, record.state())
    with torch.no_grad():
        record.same("out/all_tokens", model(record["in/x"], record["in/bool_masked_pos"].bool()), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_a_timm_beit_classifier_loads(pool):
    torch.manual_seed(0)
    size = Size(16, 2, 2, 16, 2, 2)
    model = BeitViT(num_classes=3, size=size, pool=pool, grid=(16, 24), embedding=PixelEmbedding(), kernel=8)
    state = as_timm(model).state_dict()
    kind, settings = published_settings(state, grid=(4, 6), codebook=torch.rand(5, 48))
    assert (kind, settings["encoder"], settings["pool"], settings["grid"]) == ("classifier", "beit", pool, (16, 24))
    images = torch.randint(256, (2, 3, 16, 24)).byte()
    torch.testing.assert_close(load_published(kind, settings, state)(images), model.eval()(images))
    other = "cls" if pool == "mean" else "mean"
    with pytest.raises(ValueError, match=f"expected {pool}"):
        published_settings(state, grid=(4, 6), codebook=torch.rand(5, 48), pool=other)
    with pytest.raises(ValueError, match="position biases of"):
        published_settings(state, grid=(4, 4), codebook=torch.rand(5, 48))
