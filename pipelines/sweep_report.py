"""What a sweep leaves: the table on the terminal, trials.csv, report.html, and best.yaml to train by."""

import csv
import io
import json

import yaml

from pipelines.places import Rows
from pipelines.record import record_of
from pipelines.sweep_trials import absolute, configs_of
from seit_ray.config import Sweep

SHOWN_TRIALS = 20  # on the terminal; trials.csv and report.html have all
SHOWN_CURVES = 12  # more cannot be told apart


def write_results(config: Sweep, job, outcomes: list) -> Rows:
    """Write everything, best trial first; the rows for the terminal. ValueError when every trial failed."""
    outcomes = ranked(outcomes, job.mode)
    job.folder.write("trials.csv", trials_csv(outcomes, job.metric).encode())
    finished = [outcome for outcome in outcomes if outcome.status == "finished"]
    if not finished:
        raise ValueError(
            f"none of {len(outcomes)} trials finished: {outcomes[0].error if outcomes else 'there was none'}; expected "
            f"one at least; {job.folder.uri_of('trials.csv')} has all errors, and the same command tries again"
        )
    files = write_best(config, job, finished[0])
    page = report(config, job, outcomes)
    job.folder.write("report.html", page.html().encode())
    shown = outcomes[:SHOWN_TRIALS] + [o for o in outcomes[SHOWN_TRIALS:] if o.status == "failed"]
    rows = [(f"{i + 1}. {outcome.name}", line(outcome)) for i, outcome in enumerate(shown)]
    more = len(outcomes) - len(shown)
    return [
        *rows,
        *([("...", f"{more} more")] if more else []),
        ("metric", f"{job.metric}, {'lowest' if job.mode == 'min' else 'highest'} is best"),
        *((f"best, for {verb}", job.folder.uri_of(name)) for verb, name in files.items()),
        ("table", job.folder.uri_of("trials.csv")),
        ("report", job.folder.uri_of("report.html")),
    ]


def ranked(outcomes: list, mode: str) -> list:
    """Finished trials, best first; then stopped ones; then failed ones."""
    order = {"finished": 0, "stopped": 1, "failed": 2}
    sign = 1 if mode == "min" else -1
    return sorted(outcomes, key=lambda o: (order[o.status], sign * (o.value or 0.0), o.name))


def line(outcome) -> str:
    """A trial on one line."""
    from seit_ray.report.sweep import text_of

    texts = {k: f"[{text_of(v)}]" if isinstance(v, list | tuple) else text_of(v) for k, v in outcome.settings.items()}
    settings = " ".join(f"{key.rpartition('.')[2]}={text}" for key, text in texts.items())
    value = f"{outcome.value:.4f}" if outcome.value is not None else f"failed: {outcome.error}"
    stopped = f" (stopped at epoch {outcome.epoch:.0f})" if outcome.status == "stopped" else ""
    return f"{value}{stopped}; {settings}" + (f"; {outcome.seconds:.0f} s" if outcome.seconds else "")


def trials_csv(outcomes: list, metric: str) -> str:
    """One line a trial."""
    keys = list(outcomes[0].settings) if outcomes else []
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["trial", "status", metric, "epoch", "seconds", *keys, "error"])
    for o in outcomes:
        numbers = ["" if v is None else v for v in (o.value, o.epoch, o.seconds and round(o.seconds, 1))]
        settings = [json.dumps(v) if isinstance(v, list | tuple) else v for v in map(o.settings.get, keys)]
        writer.writerow([o.name, o.status, *numbers, *settings, o.error or ""])
    return file.getvalue()


def write_best(config: Sweep, job, best) -> dict[str, str]:
    """Verb -> file of the config that gives the best trial's run; with two stages best.yaml is that of the last."""
    configs = configs_of(absolute(config), best.settings)
    files = {}
    for i, (verb, stage) in enumerate(configs.items()):
        name = "best.yaml" if i == len(configs) - 1 else f"best_{verb}.yaml"
        values = stage.model_dump(mode="json", exclude={"storage", "cluster"})
        values |= {"output": absolute(config).output, "run": f"{config.run}-best-{verb}"}
        # of the storage, what is set; secrets are left to the environment
        secrets = {"access_key_id", "secret_access_key", "session_token"}
        if storage := config.storage.model_dump(mode="json", exclude=secrets, exclude_defaults=True):
            values["storage"] = storage
        settings = ", ".join(f"{key}={value}" for key, value in best.settings.items())
        text = (
            f"# The best trial of sweep {config.run}: {best.name}, {job.metric} {best.value:.4f} "
            f"at epoch {best.epoch:g}.\n"
            f"# {settings}\n# Command: seit-ray {verb} --config {job.folder.uri_of(name)}\n"
        )
        job.folder.write(name, (text + yaml.safe_dump(values, sort_keys=False)).encode())
        files[verb] = name
    return files


def report(config: Sweep, job, outcomes: list):
    """The page: a table, the pictures, the settings."""
    from seit_ray.report.page import Page
    from seit_ray.report.sweep import parallel_coordinates, text_of

    keys = list(outcomes[0].settings)
    done = [outcome for outcome in outcomes if outcome.value is not None]
    finished = [outcome for outcome in done if outcome.status == "finished"]
    counts = ", ".join(f"{sum(o.status == s for o in outcomes)} {s}" for s in dict.fromkeys(o.status for o in outcomes))
    page = Page(f"Sweep {config.run}", f"{counts}; {job.metric} after {' and '.join(config.stages)}")
    header = ("trial", job.metric, "epoch", "seconds", *(key.rpartition(".")[2] for key in keys), "status")
    page.add_table("Trials, best first", header, [cells(o, keys, text_of) for o in outcomes])
    low = job.mode == "min"
    add_heat_map(page, config, job, finished)
    page.add_chart(
        "All keys",
        parallel_coordinates([(o.settings, o.value) for o in finished], "Trials", job.metric, best_is_low=low),
        "A line is a finished trial; the stronger its colour the better, the best in a colour of its own.",
    )
    add_curves(page, job, done)
    page.add_details("Settings, versions and git state", json.dumps(record_of("sweep", config), indent=1))
    return page


def cells(outcome, keys: list[str], text_of) -> tuple[str, ...]:
    """A row of the page's table."""
    numbers = [
        "-" if value is None else form.format(value)
        for value, form in ((outcome.value, "{:.4f}"), (outcome.epoch, "{:.2f}"), (outcome.seconds, "{:.1f}"))
    ]
    status = outcome.status + (f": {outcome.error}" if outcome.error else "")
    return (outcome.name, *numbers, *(text_of(outcome.settings[key]) for key in keys), status)


def add_heat_map(page, config: Sweep, job, finished: list) -> None:
    """The mean metric over two keys; the chosen ones, or the first two."""
    from seit_ray.config.sweep import full_key
    from seit_ray.report.sweep import heat_map

    keys = [full_key(config, key) for key in config.heat_map] if config.heat_map else list(finished[0].settings)[:2]
    if len(keys) < 2:
        return
    points = [(o.settings[keys[0]], o.settings[keys[1]], o.value) for o in finished]
    page.add_chart(
        "Two keys",
        heat_map(points, job.metric, *keys, best_is_low=job.mode == "min"),
        f"Mean {job.metric} of the finished trials in a cell; the stronger its colour the better.",
    )


def add_curves(page, job, done: list) -> None:
    """The metric of the best trials over epochs."""
    from seit_ray.report.curves import line_chart
    from seit_ray.training.metrics import read_metrics

    curves = {}
    for outcome in done[:SHOWN_CURVES]:
        records = [r for r in read_metrics(job.build(outcome.settings).stages[-1].run) if job.metric in r]
        curves[outcome.name] = ([r["epoch"] for r in records], [r[job.metric] for r in records])
    shown = f"the best {SHOWN_CURVES}" if len(done) > SHOWN_CURVES else "all"
    chart = line_chart(curves, "Learning curves", "epoch", job.metric)
    page.add_chart("Learning curves", chart, f"{job.metric} of {shown} of {len(done)} trials.")
