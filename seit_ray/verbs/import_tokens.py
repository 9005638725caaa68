"""Import published token files as a token dataset: escape bytes, offsets, labels, codebook, synonyms.

seit-ray import_tokens train.data=train-token.data.bin.gz train.labels=train-label.txt codebook=codebook.ckpt output=...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seit_ray.config import ImportTokens, TokenFiles
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.verbs.command.places import Rows, folder_of, output_rows

if TYPE_CHECKING:
    from seit_ray.shards.importing import ImportJob, SplitFiles
    from seit_ray.tokenizers.contract import Tokenizer


def check(config: ImportTokens) -> Rows:
    """What the small files say, and where it would go; the tokens themselves are read by the import alone."""
    from seit_ray.shards.importing import class_names_of, existing, list_splits
    from seit_ray.storage.output import OURS, claim

    job = job_of(config)
    finished = existing(job.output, job.plan())
    if finished is not None:
        return [("token dataset", f"{job.output.uri} (already complete)")]
    claim(job.output, OURS)
    listed = list_splits(job)
    for files in job.files.values():
        check_there(files.data, config)
    h, w = job.tokenizer.grid
    rows = [(name, f"{len(split.offsets) - 1} images, {split.offsets[-1]} bytes") for name, split in listed.items()]
    return [
        *rows,
        ("classes", str(len(class_names_of(job, listed) or []))),
        ("tokenizer", f"{job.tokenizer.family}, grid {h}x{w}, codebook {list(job.tokenizer.codebook.shape)}"),
        ("synonyms", "none" if job.synonyms is None else f"{job.synonyms.shape[1]} a code"),
        *output_rows(job.output),
    ]


def import_tokens(config: ImportTokens, progress: Progress = silent) -> Rows:
    """Import; returns the table to print."""
    from seit_ray.shards.importing import run_import
    from seit_ray.shards.marker import MARKER
    from seit_ray.verbs.command.record import end_record
    from seit_ray.verbs.tokenize_images import summary

    job = job_of(config)
    is_new = not job.output.exists(MARKER)
    run_import(job, progress)
    end_record(job.output, "import_tokens", config, is_new=is_new)
    return summary(job.output)


def job_of(config: ImportTokens) -> ImportJob:
    """The import that a config describes; reads codebook and synonyms."""
    config = with_what_lies_beside(config)
    from seit_ray.shards.importing import ImportJob, naming, read_uri
    from seit_ray.shards.synonyms import parse_published

    output = folder_of(config.output, config.storage)
    named = {name: files_of(name, split) for name, split in (("train", config.train), ("val", config.val))}
    files = {name: split for name, split in named.items() if split}
    if not files:
        raise ValueError("no token files; expected train.data=FILE, val.data=FILE or both; name them")
    tokenizer, report = tokenizer_of(config, output)
    synonyms = None
    if config.synonyms:
        with naming(config.synonyms):
            data = read_uri(output, config.synonyms)
            synonyms = parse_published(data, len(tokenizer.codebook), config.num_synonyms)
    return ImportJob(
        files=files,
        tokenizer=tokenizer,
        report=report,
        synonyms=synonyms,
        output=output,
        num_classes=config.num_classes,
        rows_per_shard=config.rows_per_shard,
        encoding=config.encoding,
    )


def with_what_lies_beside(config: ImportTokens) -> ImportTokens:
    """The config with what an export wrote beside its token files, where nothing else was said."""
    from seit_ray.shards.published import read_about
    from seit_ray.storage import split_uri

    data = config.train.data or config.val.data
    if not data:
        return config
    folder = folder_of(split_uri(data)[0], config.storage)
    found = read_about(folder)
    if found and not config.codebook and not config.tokenizer:
        found["codebook"] = folder.uri_of("codebook.ckpt")
    return config.model_copy(update={k: v for k, v in found.items() if k not in config.model_fields_set})


def files_of(name: str, files: TokenFiles) -> SplitFiles | None:
    """A split's uris; None when no data is named. The index lies beside the data unless it is named."""
    from seit_ray.shards.importing import SplitFiles

    if not files.data:
        if files.index or files.labels:
            raise ValueError(f"{name}.data is missing; expected {name}.data=FILE beside its index and labels; name it")
        return None
    folder, slash, file = files.data.rpartition("/")
    index = files.index or folder + slash + file.replace("data.bin", "index.npy")
    if index == files.data:
        raise ValueError(f"{name}.index is missing; expected {name}.index=FILE, as {file} has no data.bin; name it")
    return SplitFiles(files.data, index, files.labels)


def tokenizer_of(config: ImportTokens, storage: Folder) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer that the tokens are of, and its report: a whole one, or just the published codebook."""
    from seit_ray.shards.importing import naming, read_uri
    from seit_ray.tokenizers.codebook_only import CodebookTokenizer, read_codebook
    from seit_ray.tokenizers.files import load_tokenizer

    named = config.codebook or config.tokenizer
    if not named or (config.codebook and config.tokenizer):
        raise ValueError(
            f"{'both' if config.codebook else 'neither'} of codebook and tokenizer; expected codebook=FILE of the "
            "release, or tokenizer=FOLDER of a whole tokenizer with the same codes; give one"
        )
    if config.tokenizer:
        tokenizer, about = load_tokenizer(folder_of(config.tokenizer, config.storage))
        if tokenizer.grid != config.grid:
            raise ValueError(
                f"tokenizer {config.tokenizer} of grid {list(tokenizer.grid)}; expected {list(config.grid)}, the grid "
                "of the tokens; set grid, or name the tokenizer that they were made with"
            )
        return tokenizer, about["report"]
    with naming(named):
        codebook = read_codebook(read_uri(storage, named))
    bare = CodebookTokenizer(codebook, grid=config.grid, image_size=config.image_size, metric=config.metric)
    return bare, {"imported_from": named}


def check_there(uri: str, config: ImportTokens) -> None:
    """ValueError when there is no object at an uri."""
    from seit_ray.storage import split_uri

    folder, name = split_uri(uri)
    if not folder_of(folder, config.storage).exists(name):
        raise ValueError(f"{uri} does not exist; expected a *-token.data.bin.gz; correct the path")
