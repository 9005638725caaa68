"""Finished runs of small classifiers of images, without training: their weights are drawn."""

from __future__ import annotations

import torch

from seit_ray.models.exports import build_model, export_model
from seit_ray.models.variants import Size
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer

CLASSES = ("cat", "dog", "emu")
SIZE = Size(16, 2, 2, decoder_width=8, decoder_depth=1, decoder_num_heads=2)


def drawn_model(settings, seed):
    """A classifier with weights large enough for its answers to differ from image to image."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model("classifier", **settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        model.head.weight.copy_(3 * torch.randn(model.head.weight.shape, generator=generator))
    return model.eval()


def write_classifier(place, tokens, *, class_names=CLASSES, grid=None, seed=0, ema_seed=None, rows=False, **more):
    """A finished run on a dataset's folder, in which there is just a tokenizer; returns the run's folder."""
    run = place if isinstance(place, Folder) else Folder(place)
    tokenizer, about = load_tokenizer(tokens.join("tokenizer"))
    settings = {
        "size": SIZE,
        "grid": tuple(grid or tokenizer.grid),
        "num_codes": len(tokenizer.codebook),
        "num_classes": len(class_names),
        "token_dim": 8,
        "stem_kernel": 1,
        **more,
    }
    if rows:  # of the codebook, in place of a learned table
        del settings["num_codes"], settings["token_dim"]
        settings |= {"inputs": "codebook", "codebook": tokenizer.codebook}
    known = {
        "tokenizer": about["fingerprint"],
        "grid": list(tokenizer.grid),
        "codebook_size": len(tokenizer.codebook),
        "data": tokens.uri,
        "class_names": list(class_names),
    }
    ema = drawn_model(settings, ema_seed).state_dict() if ema_seed is not None else None
    export_model(run, drawn_model(settings, seed), kind="classifier", settings=settings, about=known, ema=ema)
    return run


def write_pixel_classifier(place, *, image_size, class_names=CLASSES, resize="crop"):
    """A finished run on pixels."""
    run = place if isinstance(place, Folder) else Folder(place)
    settings = {
        "size": SIZE,
        "grid": (image_size, image_size),
        "num_classes": len(class_names),
        "stem_kernel": 4,
        "inputs": "pixels",
    }
    about = {"image_size": image_size, "patch_size": 4, "resize": resize, "class_names": list(class_names)}
    export_model(run, drawn_model(settings, 0), kind="classifier", settings=settings, about=about)
    return run
