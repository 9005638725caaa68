"""What a trial and its training say to each other, in whatever order that happens; and when a training begins."""

import asyncio
from pathlib import Path

import ray
from ray import tune

from seit_ray.distributed.tune.trial import Desk, TrialActor
from seit_ray.runs.settings import WorkerSettings
from seit_ray.storage import Folder
from seit_ray.studies.trials import Stage, Trial

FIRST, SECOND = {"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}


def talk(conversation):
    """The result of a conversation at a new desk, which must come to an end."""
    return asyncio.run(asyncio.wait_for(conversation(Desk()), 20))


def test_a_training_waits_until_its_record_has_been_judged():
    async def conversation(desk):
        await desk.open("a")
        report = asyncio.ensure_future(desk.report("a", FIRST))
        await asyncio.sleep(0)
        assert await desk.next("a") == ("record", FIRST)
        await asyncio.sleep(0)
        assert not report.done()
        following = asyncio.ensure_future(desk.next("a"))
        assert await report is True
        await desk.end("a", "end", SECOND)
        return await following

    assert talk(conversation) == ("end", SECOND)


def test_a_stop_between_two_reports_ends_the_training_at_the_next():
    async def conversation(desk):
        await desk.open("a")
        await desk.stop("a")
        return await desk.report("a", FIRST)

    assert talk(conversation) is False


def test_a_stop_ends_a_training_that_waits():
    async def conversation(desk):
        await desk.open("a")
        report = asyncio.ensure_future(desk.report("a", FIRST))
        await desk.next("a")
        await desk.stop("a")
        return await report, await desk.report("a", SECOND)

    assert talk(conversation) == (False, False)


def test_attempts_of_one_trial_do_not_hear_each_other():
    async def conversation(desk):
        await desk.open("first")
        heard = asyncio.ensure_future(desk.next("first"))
        await asyncio.sleep(0)
        await desk.open("second")
        report = asyncio.ensure_future(desk.report("first", FIRST))
        await desk.stop("second")
        assert await heard == ("record", FIRST)
        assert not report.done()
        await desk.stop("first")
        return await report

    assert talk(conversation) is False


def one_trial(config):
    """Of a training that leaves a file."""
    return Trial("trial", config, (Stage("train", "tests.distributed.tune.test_trial:training", config),))


def training(*, run, name, world, on_metrics, **hooks):
    """One report, and a file that says who trained."""
    with Path(run.uri, "trained.txt").open("a") as file:
        file.write(f"{name}\n")
    on_metrics({"epoch": 1, "loss": 1.0})
    return {"epoch": 2, "loss": 0.5}


def test_a_process_that_is_dropped_before_its_first_step_has_trained_nothing(ray_cluster, tmp_path):
    """Tune starts a process for a trial, and then gives it to one that another trial has left."""
    shared = {"cluster": ray_cluster, "metric": "loss", "workers": WorkerSettings(num_workers=0)}
    desk = ray.remote(num_cpus=0)(Desk).remote()
    actor = ray.remote(num_cpus=0)(tune.with_parameters(TrialActor, build=one_trial, desk=desk, **shared))
    actors = [actor.remote({"run": Folder(tmp_path), "name": name}) for name in ("used", "dropped")]
    ray.get([actor.__ray_ready__.remote() for actor in actors])
    used, dropped = actors
    try:
        first = ray.get(used.train.remote(), timeout=60)
        ray.get(dropped.stop.remote(), timeout=60)
        last = ray.get(used.train.remote(), timeout=60)
    finally:
        for left in (*actors, desk):
            ray.kill(left)
    assert (first["loss"], last["loss"], last["done"]) == (1.0, 0.5, True)
    assert (tmp_path / "trained.txt").read_text().split() == ["used"]
