"""Export a token dataset as the token files of SeiT's release, for programs that read those.

seit-ray export_tokens dataset=runs/tokens output=published
"""

from seit_ray.config import ExportTokens
from seit_ray.progress import Progress, silent
from seit_ray.verbs.command.places import Rows, dataset_rows, folder_of, output_rows


def check(config: ExportTokens) -> Rows:
    """What would be read, and where it would go."""
    from seit_ray.shards import TokenDataset
    from seit_ray.shards.published import check_codes
    from seit_ray.storage.output import refuse_overlap

    dataset, output = (folder_of(uri, config.storage) for uri in (config.dataset, config.output))
    refuse_overlap(output, dataset, "dataset")
    check_codes(TokenDataset(dataset))
    return [*dataset_rows(dataset), *output_rows(output)]


def export_tokens(config: ExportTokens, progress: Progress = silent) -> Rows:
    """Export; returns the table to print."""
    from seit_ray.shards import TokenDataset
    from seit_ray.shards.exporting import run_export
    from seit_ray.verbs.command.record import write_record

    dataset = TokenDataset(folder_of(config.dataset, config.storage))
    output = folder_of(config.output, config.storage)
    sizes = run_export(dataset, output, progress)
    write_record(output, "export_tokens", config)
    return [("token files", output.uri), *((name, f"{size} bytes") for name, size in sizes.items())]
