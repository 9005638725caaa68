"""Tokenising jobs for tests: folders in, a finished dataset out."""

from contextlib import nullcontext

from seit_ray.config import Source, Tokenize
from seit_ray.distributed.data.tokenize_begin import TokenizeJob
from seit_ray.distributed.data.tokenize_job import run_tokenize_job
from seit_ray.shards import TokenDataset

SETTINGS = {"val_fraction": 0.2, "rows_per_shard": 16, "num_actors": 1, "max_reject_fraction": 0.1}


def job_of(source, tokenizer, output, source_settings=None, **settings):
    """A job with small parts."""
    return TokenizeJob(
        source=source,
        source_settings=Source(**source_settings or {}).settings(),
        tokenizer_folder=tokenizer,
        output=output,
        settings=Tokenize(**SETTINGS | settings).settings(),
    )


def run(cluster, *arguments, on_progress=lambda *state: None, **settings):
    """The finished dataset of such a job."""
    job = job_of(*arguments, **settings)
    run_tokenize_job(job, lambda: nullcontext(cluster), on_progress)
    return TokenDataset(job.output)


class Interruption(BaseException):
    """The end of a driver at a chosen moment; no code handles it."""


def interrupt_when(condition):
    """Progress that ends the job as soon as condition(phase, done, total) holds."""

    def on_progress(phase, done, total, note):
        if condition(phase, done, total):
            raise Interruption

    return on_progress
