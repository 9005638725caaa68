"""Tokenise images into a token dataset with a Ray Data job; a rerun does only what is missing.

seit-ray tokenize_images images=photos/ tokenizer=runs/tokenizer output=runs/tokens
"""

from pipelines.command import run_verb
from pipelines.places import Rows, cluster_rows, folder_of, output_rows, source_rows
from pipelines.progress import silent
from seit_ray.config import TokenizeImages


def plan(config: TokenizeImages) -> Rows:
    """What would be read, by what, and where it would go."""
    from seit_ray.tokenizers import load_tokenizer

    tokenizer, about = load_tokenizer(folder_of(config.tokenizer, config.storage))
    settings = config.tokenize
    return [
        *source_rows(
            folder_of(config.images, config.storage),
            config.source,
            val_fraction=settings.val_fraction,
            seed=settings.seed,
        ),
        (
            "tokenizer",
            f"{tokenizer.family} {about['fingerprint']}, grid {tokenizer.grid}, K {len(tokenizer.codebook)}",
        ),
        *output_rows(folder_of(config.output, config.storage)),
        *cluster_rows(config.cluster),
    ]


def tokenize_images(config: TokenizeImages, progress=silent) -> Rows:
    """Run the job; returns the table to print."""
    from pipelines.record import write_record
    from seit_ray.distributed.cluster import connected
    from seit_ray.distributed.tokenize_job import TokenizeJob, run_tokenize_job

    job = TokenizeJob(
        source=folder_of(config.images, config.storage),
        source_settings=config.source.model_dump(),
        tokenizer_folder=folder_of(config.tokenizer, config.storage),
        output=folder_of(config.output, config.storage),
        settings=config.tokenize.model_dump(),
    )
    with connected(**config.cluster.model_dump()) as cluster:
        run_tokenize_job(job, cluster, progress)
    write_record(job.output, "tokenize_images", config)
    return summary(job.output)


def summary(folder) -> Rows:
    """Counts and sizes of a token dataset."""
    from seit_ray.shards import TokenDataset

    dataset = TokenDataset(folder)
    rows: Rows = [("token dataset", folder.uri)]
    for name, split in dataset.info.splits.items():
        rows.append((name, f"{split.listed} listed = {split.rows} written + {split.rejected} rejected"))
    splits = dataset.info.splits.values()
    total = max(1, sum(s.rows for s in splits))
    source, tokens, files = (
        sum(getattr(s, k) for s in splits) / total for k in ("source_bytes", "token_bytes", "file_bytes")
    )
    rows += [
        ("bytes an image", f"{source:.0f} source -> {tokens:.1f} tokens ({files:.1f} with keys and labels)"),
        ("order-0 entropy", f"{dataset.entropy_bytes():.1f} bytes an image"),
    ]
    return rows


if __name__ == "__main__":
    run_verb("tokenize_images")
