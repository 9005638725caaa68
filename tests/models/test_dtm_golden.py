"""DTM's student against the recording of the published code."""

import torch

from seit_ray.models.dtm import MorphingStudent
from seit_ray.models.embed import PixelEmbedding
from seit_ray.models.variants import Size
from seit_ray.models.weights import load_named
from tests.recordings import Recording


def test_predicted_features_equal_the_golden_recording():
    record = Recording("dtm_model")
    state = record.state()
    width, _, patch, _ = state["patch_embed.proj.weight"].shape
    depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    heads = state["rel_pos_bias.relative_position_bias_table"].shape[1]
    model = MorphingStudent(
        grid=tuple(record["in/x"].shape[2:]),
        size=Size(width, depth, heads, 1, 1, 1),
        embedding=PixelEmbedding(),
        kernel=patch,
        output_dim=len(state["lm_head.bias"]),
        own_bias=any(".attn.relative_position" in name for name in state),
    )
    load_named(model, state)
    model.double()
    found = model(record["in/x"].double(), record["in/bool_masked_pos"].bool())
    record.same("out/all_tokens", found, atol=1e-5, rtol=1e-5)
    unmasked = model(record["in/x"].double(), torch.zeros_like(record["in/bool_masked_pos"]).bool())
    assert not torch.allclose(unmasked, found)
