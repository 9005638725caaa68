"""Weights by name: strict loading, from pre-training to fine-tuning, bytes of safetensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn

__all__ = [
    "copy_entries",
    "encoder_weights",
    "init_from_pretrained",
    "load_named",
    "load_weights",
    "save_tensors",
    "save_weights",
]

# In the released SeiT++ weights, and read by nothing: the decoder adds its learned positions instead.
PUBLISHED_UNUSED = ("decoder_pos_embed",)
ENCODER = ("token_emb.", "patch_embed.", "cls_token", "pos_embed", "blocks.", "norm.")
HEAD = "head."


def _differences(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    missing = [f"missing {name} {list(wanted[name].shape)}" for name in wanted if name not in state]
    unexpected = [f"unexpected {name} {list(state[name].shape)}" for name in state if name not in wanted]
    misshapen = [
        f"{name} {list(state[name].shape)} where the model has {list(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    return missing + unexpected + misshapen


def copy_entries(model: nn.Module, wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Copy a state dict into the wanted entries of a model; ValueError that lists all differences, nothing copied."""
    differences = _differences(wanted, state)
    if differences:
        raise ValueError(
            f"weights that differ in {len(differences)} entries ({'; '.join(differences)}); expected exactly "
            f"the entries of {type(model).__name__}; build the model with the sizes of the weights (grid, "
            "num_codes, width, depth, stem, classes) or take other weights"
        )
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(state[name])


def load_named(model: nn.Module, state: Mapping[str, Tensor], ignore: tuple[str, ...] = ()) -> None:
    """Copy a state dict into the model; dtype and device stay the model's.

    Entries that are missing, unexpected or of another shape are one ValueError that lists all of them, and
    then nothing is loaded. `ignore` holds prefixes to leave out; the release's unused decoder table always
    is.
    """
    kept = {k: v for k, v in state.items() if k not in PUBLISHED_UNUSED and not k.startswith(ignore)}
    copy_entries(model, model.state_dict(), kept)


def encoder_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what a `TokenViT` takes over: embedding, stem, class token, positions, blocks and norm.

    The state dict is that of a `MaskedTokenModel` or of another `TokenViT`. One without an encoder is a
    ValueError.
    """
    kept = {name: tensor for name, tensor in state.items() if name.startswith(ENCODER)}
    if not kept:
        names = ", ".join(list(state)[:5]) or "nothing"
        raise ValueError(
            f"state dict with {names}; expected the entries of a pre-trained model (patch_embed., ...); "
            "take the weights of the model, without an optimizer's or wrapper's prefix"
        )
    return kept


def init_from_pretrained(vit: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Load a pre-trained encoder into a `TokenViT`; return the entries that stay new, which are the head's.

    Anything else that is missing, left over or of another shape is a ValueError that lists it, and then
    nothing is loaded. A `TokenViT` on codebook rows has no token embedding to load. Source: SeiT++,
    fine-tuning.
    """
    wanted = vit.state_dict()
    new = [name for name in wanted if name.startswith(HEAD)]
    copy_entries(vit, {name: wanted[name] for name in wanted if name not in new}, encoder_weights(state))
    return new


def save_weights(model: nn.Module) -> bytes:
    """Return the model's state dict as safetensors bytes; tensors that share memory are written each."""
    return save_tensors(model.state_dict())


def save_tensors(state: Mapping[str, Tensor]) -> bytes:
    """Return named tensors as safetensors bytes; those that share memory are written each."""
    # safetensors refuses shared memory, so each is a copy. The model ties them again when it is built.
    copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}
    return safetensors.save({name: tensor.contiguous() for name, tensor in copies.items()})


def load_weights(data: bytes) -> dict[str, Tensor]:
    """Return the state dict of safetensors bytes, on the CPU; bytes of another kind are a ValueError."""
    try:
        return safetensors.load(data)
    except SafetensorError as error:
        raise ValueError(
            f"weights of {len(data)} bytes that are no safetensors ({error}); expected what save_weights "
            "gives; check the file, or write the weights again"
        ) from error
