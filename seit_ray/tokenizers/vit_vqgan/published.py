"""Published ViT-VQGAN weights: {"state_dict": {...}} as torch.save writes it, or the same names in safetensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from seit_ray.storage import Folder
from seit_ray.storage.torch_file import read_torch
from seit_ray.tokenizers.fit_numbers import VqganSize
from seit_ray.tokenizers.vit_vqgan.build import build_vqgan
from seit_ray.tokenizers.vit_vqgan.network import HEAD_WIDTH
from seit_ray.tokenizers.vit_vqgan.tokenizer import VitVqganTokenizer

__all__ = ["infer_settings", "load_published", "read_state_dict"]

IGNORED = ("loss.",)  # discriminator and feature network of the published training
CODEBOOK, POSITIONS = "quantizer.embedding.weight", "encoder.en_pos_embedding"
PATCHES = "encoder.to_patch_embedding.0.weight"
FIRST_BLOCK = ("0.fn.to_qkv.weight", "1.fn.net.0.weight")


def load_published(folder: Folder, name: str, *, resize: str = "squash") -> VitVqganTokenizer:
    """The tokenizer of a published checkpoint; its sizes are read off the shapes.

    Nothing is unpickled but tensors. A file that holds more, or whose entries are not exactly those of a ViT-VQGAN
    (`loss.*` apart), is a ValueError.
    """
    data = folder.read(name)
    try:
        state = {key: value for key, value in read_state_dict(data).items() if not key.startswith(IGNORED)}
        return VitVqganTokenizer(build_vqgan(infer_settings(state), state), resize=resize)
    except ValueError as error:
        raise ValueError(f"{folder.uri}/{name}: {error}") from error


def read_state_dict(data: bytes) -> dict[str, Tensor]:
    """Named tensors of a checkpoint in torch's or the safetensors format; ValueError when it holds anything else."""
    content = read_torch(data)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ValueError(
            f"checkpoint of a {type(content).__name__}; expected {{'state_dict': {{name: tensor}}}}; save the module's "
            "state_dict() alone"
        )
    return dict(state)


def infer_settings(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """`VitVqgan.settings` from the shapes of its entries; ValueError that lists those it needs and does not find."""
    needed = {CODEBOOK: 2, POSITIONS: 3, PATCHES: 4}
    for part in ("encoder", "decoder"):
        needed |= {f"{part}.transformer.layers.0.{entry}": 2 for entry in FIRST_BLOCK}
    wrong = [f"missing {name}" for name in needed if name not in state]
    wrong += [
        f"{name} {list(state[name].shape)} where {dims} dimensions are due"
        for name, dims in needed.items()
        if name in state and state[name].ndim != dims
    ]
    if wrong:
        raise ValueError(
            f"weights that differ in {len(wrong)} entries ({'; '.join(wrong)}); expected those of a ViT-VQGAN; take "
            "the weights of the whole autoencoder, without a wrapper's prefix"
        )
    num_tokens, patch_size = state[POSITIONS].shape[1], state[PATCHES].shape[-1]
    side = math.isqrt(num_tokens)
    if side * side != num_tokens:
        raise ValueError(f"{POSITIONS} for {num_tokens} tokens; expected a square number; take square images' weights")
    codebook_size, code_width = state[CODEBOOK].shape
    numbers = {"image_size": side * patch_size, "patch_size": patch_size}
    numbers |= {"codebook_size": codebook_size, "code_width": code_width}
    return {**numbers, **{part: asdict(infer_size(state, part)) for part in ("encoder", "decoder")}}


def infer_size(state: Mapping[str, Tensor], part: str) -> VqganSize:
    """Size of the encoder's or decoder's transformer; heads that are not HEAD_WIDTH wide are a ValueError."""
    prefix = f"{part}.transformer.layers."
    qkv, hidden = (state[f"{prefix}0.{entry}"] for entry in FIRST_BLOCK)
    if len(qkv) % (3 * HEAD_WIDTH):
        raise ValueError(
            f"{prefix}0.{FIRST_BLOCK[0]} {list(qkv.shape)}; expected a multiple of {3 * HEAD_WIDTH} rows, for heads "
            f"{HEAD_WIDTH} wide; take weights of the published kind"
        )
    depth = len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})
    return VqganSize(qkv.shape[1], depth, len(qkv) // (3 * HEAD_WIDTH), len(hidden))
