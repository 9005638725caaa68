"""The encoder of a classifier of pixels as timm's own vision transformer, in a folder as timm saves and loads one."""

from __future__ import annotations

import json

from torch import Tensor

from seit_ray.models.about_timm import CONFIG
from seit_ray.models.embed import PIXEL_MEAN, PIXEL_STD, PixelEmbedding
from seit_ray.models.exports import import_model
from seit_ray.models.vit import TokenViT
from seit_ray.models.weights import save_tensors
from seit_ray.storage import Folder

__all__ = ["export_timm"]

NAME = "vit_base_patch16_224"  # timm's plain vision transformer, which every size is an argument of
WEIGHTS = "model.safetensors"
TAKEN = ("cls_token", "pos_embed", "patch_embed.", "blocks.", "norm.")


def export_timm(run: Folder, folder: Folder, weights: str = "model") -> str:
    """Write the encoder of a finished run that classifies pixels, without its head; returns timm's name of it.

    Its features [B,1+P,width] of standardised square images are the run's own: `timm.create_model("local-dir:FOLDER",
    pretrained=True)` builds it, and `dtm.teacher_weights=FOLDER/model.safetensors` takes it as a teacher. weights: as
    of `import_model`. ValueError for a run that timm's model cannot be: of tokens, of BEiT's blocks, with layers before
    its patches.
    """
    model, about = import_model(run, "classifier", weights)
    check_plain(model, run.uri)
    state: dict[str, Tensor] = {k: v for k, v in model.state_dict().items() if k.startswith(TAKEN)}
    folder.write(WEIGHTS, save_tensors(state))
    folder.write(CONFIG, json.dumps(config_of_model(model, about["settings"]["size"]["num_heads"]), indent=2).encode())
    return NAME


def check_plain(model: TokenViT, uri: str) -> None:
    """ValueError unless a classifier reads square images, in patches side by side, through nothing else."""
    plain = isinstance(model, TokenViT) and isinstance(model.token_emb, PixelEmbedding)
    stem = model.patch_embed
    if not plain or len(stem.early) or stem.padding or stem.stride != stem.kernel or len(set(model.grid)) > 1:
        raise ValueError(
            f"{uri} for timm; expected a classifier of images with model.encoder=vit and model.stem_layers=0; name "
            "such a run"
        )


def config_of_model(model: TokenViT, num_heads: int) -> dict[str, object]:
    """config.json, as timm reads it."""
    side, patch, width = model.grid[0], model.patch_embed.kernel, model.cls_token.shape[-1]
    sizes = {"img_size": side, "patch_size": patch, "embed_dim": width, "depth": len(model.blocks)}
    pixels = {"input_size": [3, side, side], "crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bicubic"}
    pixels |= {"mean": PIXEL_MEAN, "std": PIXEL_STD, "num_classes": 0, "fixed_input_size": True}
    names = {"first_conv": "patch_embed.proj", "classifier": "head"}
    return {
        "architecture": NAME,
        "num_classes": 0,
        "num_features": width,
        "model_args": {**sizes, "num_heads": num_heads},
        "pretrained_cfg": {**pixels, **names},
    }
