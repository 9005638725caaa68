"""What lies at the addresses that a sweep or study reads: a mark of each file, which changes with its content."""

from __future__ import annotations

from collections.abc import Iterable

from seit_ray.config import Section, Storage, deciding, deciding_keys
from seit_ray.storage import split_uri
from seit_ray.verbs.command.places import folder_of

FILES = {  # key -> file in the folder that it names, which says all of its content; None: the key names a file
    "dataset": "dataset.json",
    "target_dataset": "dataset.json",
    "tokenizer": "tokenizer.json",
    "init_from": "model.safetensors",
    "target_run": "model.safetensors",
    "adapt_run": "model.safetensors",
    "teacher_weights": None,
}


def contents_of(configs: Iterable[Section], storage: Storage) -> dict[str, str]:
    """Address of a file -> its mark, of all that these configs name and that is there."""
    places = {
        (key.rpartition(".")[2], values[key], values.get("init_weights") or "model")
        for config in configs
        for values in [deciding(config)]
        for key, is_place in deciding_keys(type(config))
        if is_place and values[key]
    }
    found: dict[str, str] = {}
    for key, uri, weights in sorted(places):
        if key in FILES:
            found |= mark_of(uri, FILES[key] if key != "init_from" else f"{weights}.safetensors", storage)
    return found


def mark_of(uri: str, name: str | None, storage: Storage) -> dict[str, str]:
    """Address -> mark of one file; nothing where there is none, which whoever reads it will say."""
    from seit_ray.runs.contents import file_mark
    from seit_ray.tokenizers.about import read_about

    place, file = (uri, name) if name else split_uri(uri)
    folder = folder_of(place, storage)
    if not folder.exists(file):
        return {}
    mark = read_about(folder)["fingerprint"] if name == "tokenizer.json" else file_mark(folder, file)
    return {folder.uri_of(file): mark}
