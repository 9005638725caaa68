"""Teachers of images: timm's by name, CLIP by its published names. Weights are random, of the same shapes."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seit_ray.models.teacher import build_teacher

CLIP = "vit_base_patch16_clip_quickgelu_224"
SIZES = {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 32}


def clip_state(width=32, depth=2, patches=4, dim=12, patch=16):
    """The image side of CLIP under its published names, and an entry of the text side."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "class_embedding": (width,),
        "positional_embedding": (patches + 1, width),
        "proj": (width, dim),
        "conv1.weight": (width, 3, patch, patch),
    }
    for name in ("ln_pre", "ln_post"):
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    for i in range(depth):
        at = f"transformer.resblocks.{i}"
        shapes |= {f"{at}.attn.in_proj_weight": (3 * width, width), f"{at}.attn.in_proj_bias": (3 * width,)}
        shapes |= {f"{at}.attn.out_proj.weight": (width, width), f"{at}.attn.out_proj.bias": (width,)}
        for name in ("ln_1", "ln_2"):
            shapes |= {f"{at}.{name}.weight": (width,), f"{at}.{name}.bias": (width,)}
        shapes |= {f"{at}.mlp.c_fc.weight": (4 * width, width), f"{at}.mlp.c_fc.bias": (4 * width,)}
        shapes |= {f"{at}.mlp.c_proj.weight": (width, 4 * width), f"{at}.mlp.c_proj.bias": (width,)}
    state = {f"visual.{name}": torch.randn(shape, generator=generator) / 5 for name, shape in shapes.items()}
    return {**state, "text_projection": torch.zeros(3, 3), "logit_scale": torch.zeros(())}


def clip_features(state, images):
    """CLIP's image transformer written out: patch features after ln_post and projection."""
    v = {name.removeprefix("visual."): value for name, value in state.items()}
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in CLIP_PIXELS)
    x = F.conv2d((images / 255 - mean) / std, v["conv1.weight"], stride=16).flatten(2).transpose(1, 2)
    x = torch.cat([v["class_embedding"].expand(len(x), 1, -1), x], dim=1) + v["positional_embedding"]
    width = x.shape[2]

    def norm(x, name):
        return F.layer_norm(x, (width,), v[f"{name}.weight"], v[f"{name}.bias"], 1e-5)

    x = norm(x, "ln_pre")
    for i in range(2):
        at = f"transformer.resblocks.{i}"
        attention = nn.MultiheadAttention(width, 2, batch_first=True)
        attention.load_state_dict({k.removeprefix(f"{at}.attn."): t for k, t in v.items() if f"{at}.attn." in k})
        y = norm(x, f"{at}.ln_1")
        x = x + attention(y, y, y, need_weights=False)[0]
        y = F.linear(norm(x, f"{at}.ln_2"), v[f"{at}.mlp.c_fc.weight"], v[f"{at}.mlp.c_fc.bias"])
        x = x + F.linear(y * torch.sigmoid(1.702 * y), v[f"{at}.mlp.c_proj.weight"], v[f"{at}.mlp.c_proj.bias"])
    return norm(x, "ln_post")[:, 1:] @ v["proj"]


CLIP_PIXELS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@torch.no_grad()
def test_clip_by_its_published_names_gives_projected_patches():
    state = clip_state()
    teacher = build_teacher(CLIP, state, (2, 2), **SIZES).eval()
    images = torch.randint(256, (2, 3, 32, 32)).byte()
    found = teacher.patch_features(images)
    assert found.shape == (2, 4, 12)
    assert teacher.dim == 12
    torch.testing.assert_close(found, clip_features(state, images.float()), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_images_of_another_size_are_brought_to_the_teachers():
    teacher = build_teacher(CLIP, clip_state(), (2, 2), **SIZES).eval()
    flat = torch.full((1, 3, 16, 16), 200, dtype=torch.uint8)
    torch.testing.assert_close(
        teacher.patch_features(flat), teacher.patch_features(flat.repeat(1, 1, 2, 2)), atol=1e-4, rtol=1e-4
    )


def test_what_does_not_fit_is_one_line():
    with pytest.raises(ValueError, match="of 2x2 patches; expected 3x3, as the student has"):
        build_teacher(CLIP, clip_state(), (3, 3), **SIZES)
    with pytest.raises(ValueError, match="expected a model of timm"):
        build_teacher("no_such_model", {}, (2, 2))
    with pytest.raises(ValueError, match="expected a vision transformer"):
        build_teacher("resnet10t", {}, (2, 2))
    state = clip_state()
    del state["visual.transformer.resblocks.1.ln_2.bias"]
    with pytest.raises(ValueError, match=r"missing blocks.1.norm2.bias"):
        build_teacher(CLIP, state, (2, 2), **SIZES)
