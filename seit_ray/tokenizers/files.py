"""A tokenizer in a folder: tokenizer.safetensors, then tokenizer.json (written last: the marker)."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.codebook_only import CodebookTokenizer
from seit_ray.tokenizers.contract import Tokenizer, fingerprint
from seit_ray.tokenizers.vit_vqgan import VitVqganTokenizer

FAMILIES: dict[str, type[Tokenizer]] = {
    "centroid": CentroidTokenizer,
    "codebook": CodebookTokenizer,
    "vit_vqgan": VitVqganTokenizer,
}
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
    about["sha256"] = digest(about)
    folder.write("tokenizer.json", json.dumps(about, indent=1).encode())
    return mark


def load_tokenizer(folder: Folder) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer and its tokenizer.json; ValueError when it is missing, of an unknown family, or altered."""
    if not folder.exists("tokenizer.json"):
        raise ValueError(f"no tokenizer in {folder.uri}; expected tokenizer.json; run fit_tokenizer first")
    text, weights = folder.read("tokenizer.json"), folder.read("tokenizer.safetensors")
    try:
        about = json.loads(text)
        family, version, known = about["family"], about["format_version"], about["fingerprint"]
    except (ValueError, KeyError, TypeError) as error:
        raise unreadable(folder, error) from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"tokenizer in {folder.uri} has format version {version}; expected {FORMAT_VERSION}; update seit_ray"
        )
    if family not in list(FAMILIES):
        raise ValueError(f"tokenizer family {family!r} in {folder.uri}; expected one of {sorted(FAMILIES)}")
    try:
        tokenizer = FAMILIES[family].build(about["config"], load_safetensors(weights))
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise unreadable(folder, error) from error
    if fingerprint(tokenizer) != known or digest(about) != about.get("sha256"):
        raise ValueError(
            f"tokenizer in {folder.uri} has fingerprint {fingerprint(tokenizer)}; expected {known} and the text that "
            "tokenizer.json was written with; the files were altered: copy or fit them again"
        )
    return tokenizer, about


def digest(about: dict[str, Any]) -> str:
    """SHA-256, in hex, of the content of a tokenizer.json beside its own `sha256`."""
    content = {key: value for key, value in about.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def unreadable(folder: Folder, error: Exception) -> ValueError:
    """The error for files that hold something else."""
    return ValueError(f"tokenizer in {folder.uri} cannot be read ({error!r}); copy or fit it again")
