"""Verbs as jobs of a Ray cluster: submission, following, and new attempts of what failed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import requests
from ray.exceptions import RayError
from ray.job_submission import JobStatus, JobSubmissionClient

from seit_ray.distributed.resources import check_answers

# Ray's own lines name every ignore file that is met, every upload, every log that ends.
for name in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
    logging.getLogger(name).setLevel(logging.ERROR)

USER_MISTAKE = 2  # a verb's exit status for what only the user can mend
STOPPED = 143  # 128 + SIGTERM
AGENT_WAIT_S = 60.0  # a head answers before it takes jobs
POLL_S = 0.5
RETRY_S = 10.0  # what failed for a node or a storage may need a while
MAX_LOST = 10  # polls in a row without an answer


@contextlib.contextmanager
def explained(address: str | None) -> Iterator[None]:
    """What the job server and the way to it can go wrong with, as a ValueError of one line."""
    try:
        yield
    except (ConnectionError, requests.RequestException, RayError, RuntimeError) as error:
        text = " ".join(str(error).split())[:200].rstrip(".")
        raise ValueError(
            f"job server {address or 'of RAY_API_SERVER_ADDRESS or this machine'}: {text}; expected a running "
            "cluster that knows this token; check the address (http://HEAD:8265), RAY_AUTH_MODE and RAY_AUTH_TOKEN"
        ) from error


def job_server(address: str | None) -> JobSubmissionClient:
    """The job server at an address (http://HEAD:8265), of RAY_API_SERVER_ADDRESS or RAY_ADDRESS, or of this machine."""
    if address:
        with explained(address):
            check_answers(address)
        os.environ["RAY_API_SERVER_ADDRESS"] = address  # Ray prefers it to the address that it is given
    with explained(address):
        return JobSubmissionClient(address)


def next_attempt(client: JobSubmissionClient, name: str) -> str:
    """The first free submission id `<name>-<attempt>`; ValueError while an earlier attempt still runs."""
    pattern, last = re.compile(re.escape(name) + r"-(\d+)"), 0
    for job in client.list_jobs():
        found = pattern.fullmatch(job.submission_id or "")
        if found and not job.status.is_terminal():
            raise ValueError(
                f"job {job.submission_id} is {job.status.value.lower()}; expected one job of a run at a time; follow "
                f"it (ray job logs --follow {job.submission_id}) or stop it (ray job stop {job.submission_id})"
            )
        last = max(last, int(found[1])) if found else last
    return f"{name}-{last + 1}"


def submit(
    client: JobSubmissionClient, name: str, entrypoint: str, runtime_env: dict[str, Any], num_cpus: float = 0
) -> str:
    """Start the next attempt of a job and return its submission id.

    num_cpus: reserved for the job's own process, so that it runs where there are as many; 0 puts it on the head.
    """
    deadline = time.monotonic() + AGENT_WAIT_S
    while True:
        try:
            return client.submit_job(
                entrypoint=entrypoint,
                submission_id=next_attempt(client, name),
                runtime_env=runtime_env,
                entrypoint_num_cpus=num_cpus or None,
            )
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(2)


@dataclass(frozen=True)
class Ended:
    """How a job ended: its exit status, and Ray's words where its command did not get to run."""

    job: str
    status: int
    message: str = ""


def follow(client: JobSubmissionClient, job: str, on_text: Callable[[str], None]) -> Ended:
    """Hand on what a job prints until it ends; survives a connection that breaks for some seconds."""
    shown = lost = 0

    async def tail() -> None:
        nonlocal shown
        skip = shown  # a new connection tells everything again
        async for text in client.tail_job_logs(job):
            fresh, skip = text[skip:], max(0, skip - len(text))
            if fresh:
                shown += len(fresh)
                on_text(fresh)

    while True:
        try:
            asyncio.run(tail())
            info = client.get_job_info(job)
            if info.status.is_terminal():
                return ended(job, info)
            lost = 0
        except (ConnectionError, RuntimeError, aiohttp.ClientError, requests.RequestException):
            lost += 1
            if lost > MAX_LOST:
                raise
        time.sleep(POLL_S * (1 + lost))


def ended(job: str, info: Any) -> Ended:
    """The exit status of a job: that of its command, 143 for a stopped one, 1 where the command did not run."""
    if info.status == JobStatus.SUCCEEDED:
        return Ended(job, 0)
    if info.status == JobStatus.STOPPED:
        return Ended(job, STOPPED)
    code = info.driver_exit_code
    if not code:
        return Ended(job, 1, " ".join((info.message or "").split())[-500:])
    return Ended(job, code if code > 0 else 128 - code)  # killed by a signal


def run_job(
    client: JobSubmissionClient,
    name: str,
    entrypoint: str,
    runtime_env: dict[str, Any],
    *,
    num_cpus: float = 0,
    retries: int = 0,
    on_start: Callable[[str], None] = lambda job: None,
    on_text: Callable[[str], None] = lambda text: None,
) -> Ended:
    """Submit, follow to the end, and submit again what failed: not what was stopped, nor a user's mistake."""
    while True:
        job = submit(client, name, entrypoint, runtime_env, num_cpus)
        on_start(job)
        outcome = follow(client, job, on_text)
        if outcome.status in (0, USER_MISTAKE, STOPPED) or not retries:
            return outcome
        retries -= 1
        time.sleep(RETRY_S)
