"""Export a token dataset as the token files of SeiT's release, for programs that read those.

seit-ray export_tokens dataset=runs/tokens output=published
"""

from seit_ray.config import ExportTokens
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.storage.lock import LOCK, locked
from seit_ray.verbs.command.places import Rows, dataset_rows, folder_of, output_rows


def check(config: ExportTokens) -> Rows:
    """What would be read, and where it would go."""
    from seit_ray.shards import TokenDataset
    from seit_ray.shards.published import check_export

    dataset, output = (folder_of(uri, config.storage) for uri in (config.dataset, config.output))
    check_export(TokenDataset(dataset), output)
    claim_output(output, config)
    return [*dataset_rows(dataset), *output_rows(output)]


def export_tokens(config: ExportTokens, progress: Progress = silent) -> Rows:
    """Export; returns the table to print."""
    from seit_ray.shards import TokenDataset
    from seit_ray.shards.exporting import run_export
    from seit_ray.shards.published import check_export
    from seit_ray.verbs.command.record import begin_record

    dataset = TokenDataset(folder_of(config.dataset, config.storage))
    output = folder_of(config.output, config.storage)
    check_export(dataset, output)
    claim_output(output, config)
    output.check_writable()
    with locked(output, LOCK, on_note=lambda note: progress("lock", 1, 1, note)) as lock:
        claim_output(output, config)  # another process may have begun there since
        begin_record(output, "export_tokens", config)  # first, since it says that the folder is ours
        sizes = run_export(dataset, output, progress, before_marker=lock.check)
    return [("token files", output.uri), *((name, f"{size} bytes") for name, size in sizes.items())]


def claim_output(output: Folder, config: ExportTokens) -> None:
    """ValueError unless the folder is empty, or holds what was exported of the same dataset."""
    from seit_ray.storage.output import claim
    from seit_ray.verbs.command.record import differing

    claim(output, ("export_tokens.run.json",))
    for before, now in differing(output, "export_tokens", config).values():
        raise ValueError(f"{output.uri} holds files of {before}; expected those of {now}; choose another output")
