"""A tokenizer in a folder: tokenizer.safetensors, then tokenizer.json (written last: the marker)."""

from __future__ import annotations

import json
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from seit_ray.storage import Folder
from seit_ray.tokenizers.about import FORMAT_VERSION, digest, read_about, unreadable
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.codebook_only import CodebookTokenizer
from seit_ray.tokenizers.contract import Tokenizer, fingerprint
from seit_ray.tokenizers.vit_vqgan import VitVqganTokenizer

FAMILIES: dict[str, type[Tokenizer]] = {
    "centroid": CentroidTokenizer,
    "codebook": CodebookTokenizer,
    "vit_vqgan": VitVqganTokenizer,
}


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
    about["sha256"] = digest(about)
    folder.write("tokenizer.json", json.dumps(about, indent=1).encode())
    return mark


def load_tokenizer(folder: Folder) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer and its tokenizer.json; ValueError when it is missing, of an unknown family, or altered."""
    about = read_about(folder)
    family, weights = about["family"], folder.read("tokenizer.safetensors")
    if family not in list(FAMILIES):
        raise ValueError(f"tokenizer family {family!r} in {folder.uri}; expected one of {sorted(FAMILIES)}")
    try:
        tokenizer = FAMILIES[family].build(about["config"], load_safetensors(weights))
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise unreadable(folder, error) from error
    if fingerprint(tokenizer) != about["fingerprint"] or digest(about) != about.get("sha256"):
        raise ValueError(
            f"tokenizer in {folder.uri} has fingerprint {fingerprint(tokenizer)}; expected {about['fingerprint']} and "
            "the text that tokenizer.json was written with; the files were altered: copy or fit them again"
        )
    return tokenizer, about
