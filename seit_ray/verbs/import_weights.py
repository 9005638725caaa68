"""Import published weights as a finished run: of SeiT, SeiT++, TokenAdapt, CCViT or DTM.

seit-ray import_weights weights=trained-vit.ckpt dataset=runs/tokens run=runs/seit
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seit_ray.config import ImportWeights
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.storage.lock import LOCK, locked, remove_ended
from seit_ray.storage.output import claim
from seit_ray.verbs.command.places import Rows, dataset_rows, folder_of, output_rows

if TYPE_CHECKING:
    from torch import Tensor

    from seit_ray.shards import TokenDataset


def check(config: ImportWeights) -> Rows:
    """What the weights are, for which tokens, and where the run would go."""
    _, kind, settings, source = read_weights(config)
    run = folder_of(config.run, config.storage)
    existing(run, source)
    return [
        *dataset_rows(folder_of(config.dataset, config.storage)),
        *model_rows(kind, settings),
        *output_rows(run),
    ]


def import_weights(config: ImportWeights, progress: Progress = silent) -> Rows:
    """Read, check, build and write the run; returns the table to print."""
    from seit_ray.models.exports import export_model
    from seit_ray.models.published import load_published
    from seit_ray.verbs.command.record import begin_record

    state, kind, settings, source = read_weights(config)
    run = folder_of(config.run, config.storage)
    if existing(run, source):
        remove_ended(run)
    else:
        model = load_published(kind, settings, state)
        run.check_writable()
        with locked(run, LOCK, on_note=lambda note: progress("lock", 1, 1, note)) as lock:
            if not existing(run, source):  # another process may have made it since
                begin_record(run, "import_weights", config)  # first, since it says that the folder is ours
                about = about_run(config, kind, settings, source)
                lock.check()
                export_model(run, model, kind=kind, settings=settings, about=about)
    progress("import", len(state), len(state), "tensors")
    return [("run", run.uri), *model_rows(kind, settings)]


def about_run(config: ImportWeights, kind: str, settings: dict[str, Any], source: dict[str, Any]) -> dict[str, Any]:
    """What the run says of itself beside the model: as a training would, and where it is from."""
    from seit_ray.shards import TokenDataset

    dataset = TokenDataset(folder_of(config.dataset, config.storage))
    return {
        **identity_for(kind, settings, dataset),
        "init_from": None,
        "data": dataset.folder.uri,
        "class_names": dataset.info.class_names,
        "metrics": {},
        "imported": source,
    }


def identity_for(kind: str, settings: dict[str, Any], dataset: TokenDataset) -> dict[str, Any]:
    """What the model reads: the dataset's tokens, or images as the dataset's tokenizer takes them."""
    from seit_ray.shards.dataset import identity_of
    from seit_ray.tokenizers.about import read_about

    if settings.get("inputs") != "pixels":
        return identity_of(dataset)
    config = read_about(dataset.folder.join("tokenizer"))["config"]
    patch = settings.get("kernel") or settings["stem_kernel"]
    found = {"image_size": settings["grid"][0], "patch_size": patch, "resize": config.get("resize", "squash")}
    return {**found, "tokenizer": dataset.info.tokenizer} if kind == "ccvit" else found


def read_weights(config: ImportWeights) -> tuple[dict[str, Tensor], str, dict[str, Any], dict[str, Any]]:
    """(state dict, kind, settings, where from) of the weights for the dataset; ValueError when they do not fit."""
    from seit_ray.models.published import published_settings, published_state
    from seit_ray.shards import TokenDataset
    from seit_ray.shards.importing import naming, read_uri
    from seit_ray.shards.parquet import checksum
    from seit_ray.storage.torch_file import read_torch
    from seit_ray.tokenizers.files import load_tokenizer

    dataset = TokenDataset(folder_of(config.dataset, config.storage))
    tokenizer, _ = load_tokenizer(dataset.folder.join("tokenizer"))
    names = ("num_heads", "decoder_num_heads", "stem_stride", "stem_padding", "pool", "early_layers")
    given = {name: getattr(config, name) for name in names}
    data = read_uri(dataset.folder, config.weights)
    with naming(config.weights):
        state = published_state(read_torch(data))
        kind, settings = published_settings(state, grid=dataset.info.grid, codebook=tokenizer.codebook, **given)
    classes, known = settings.get("num_classes"), dataset.info.class_names
    if classes and known and classes != len(known):
        raise ValueError(
            f"{config.weights} tells {classes} classes apart; expected {len(known)}, as {config.dataset} has; take the "
            "dataset that they were trained on"
        )
    source = {"uri": config.weights, "sha256": checksum(data), "dataset": dataset.info.tokenizer, **given}
    return state, kind, settings, source


def existing(run: Folder, source: dict[str, Any]) -> bool:
    """Whether the run stands already, of the same weights and settings; ValueError when it is another."""
    import json

    if not run.exists("model.json"):
        if next(run.join("checkpoints").list(), None) is not None:
            raise ValueError(f"{run.uri} holds an unfinished training; expected no run; choose another folder")
        claim(run, ("import_weights.run.json",))
        return False
    try:
        found = json.loads(run.read("model.json")).get("imported")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{run.uri}/model.json cannot be read ({error!r}); choose another folder") from error
    if found != source:
        raise ValueError(f"{run.uri} holds another model; expected none; choose another folder, or delete that one")
    return True


def model_rows(kind: str, settings: dict[str, Any]) -> Rows:
    """A model in words."""
    h, w = settings["grid"]
    size = settings.get("size")
    width, depth = (size.width, size.depth) if size else (settings["width"], settings["depth"])
    codes = f", K {settings['num_codes']}" if "num_codes" in settings else ""
    rows = [("model", f"{kind}, {width} wide, {depth} blocks, grid {h}x{w}{codes}")]
    if kind == "classifier":
        stem = "/".join(str(settings.get(f"stem_{part}", "-")) for part in ("kernel", "stride", "padding"))
        inputs = f"{settings['inputs']} embedding, stem {stem}"
        rows.append(("classifier", f"{settings['num_classes']} classes, {inputs}, {settings['pool']} pool"))
    return rows
