"""A tokenizer in a folder: tokenizer.safetensors, then tokenizer.json (written last: the marker)."""

from __future__ import annotations

import json
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.contract import Tokenizer, fingerprint

FAMILIES: dict[str, type[Tokenizer]] = {"centroid": CentroidTokenizer}
FORMAT_VERSION = 1


def save_tokenizer(tokenizer: Tokenizer, folder: Folder, report: dict[str, Any] | None = None) -> str:
    """Write a tokenizer and the report of its fitting; returns its fingerprint."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tokenizer.tensors().items()}
    folder.write("tokenizer.safetensors", save_safetensors(tensors))
    mark = fingerprint(tokenizer)
    about = {
        "format_version": FORMAT_VERSION,
        "family": tokenizer.family,
        "fingerprint": mark,
        "config": tokenizer.config(),
        "grid": list(tokenizer.grid),
        "codebook_size": len(tokenizer.codebook),
        "report": report or {},
    }
    folder.write("tokenizer.json", json.dumps(about, indent=1).encode())
    return mark


def load_tokenizer(folder: Folder) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer and its tokenizer.json; ValueError when it is missing, of an unknown family, or altered."""
    if not folder.exists("tokenizer.json"):
        raise ValueError(f"no tokenizer in {folder.uri}; expected tokenizer.json; run fit_tokenizer first")
    try:
        about = json.loads(folder.read("tokenizer.json"))
        family, config, known = about["family"], about["config"], about["fingerprint"]
        tensors = load_safetensors(folder.read("tokenizer.safetensors"))
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(f"tokenizer in {folder.uri} cannot be read ({error!r}); fit it again") from error
    if family not in FAMILIES:
        raise ValueError(f"tokenizer family {family!r} in {folder.uri}; expected one of {sorted(FAMILIES)}")
    tokenizer = FAMILIES[family].build(config, tensors)
    if fingerprint(tokenizer) != known:
        raise ValueError(
            f"tokenizer in {folder.uri} has fingerprint {fingerprint(tokenizer)}; expected {known} as its "
            "tokenizer.json says; the files were altered: copy or fit them again"
        )
    return tokenizer, about
