"""Jobs without a cluster: what is sent, names of attempts, exit status, what is tried again."""

from types import SimpleNamespace

import pytest
from ray.job_submission import JobStatus

from seit_ray.distributed import jobs
from seit_ray.distributed.jobs import Ended, ended, explained, next_attempt, run_job


class Server:
    """A job server whose jobs end as it was told, one after another."""

    def __init__(self, *ends, earlier=()):
        self.ends, self.jobs, self.sent = [*ends], dict(earlier), []

    def list_jobs(self):
        return [SimpleNamespace(submission_id=name, status=status) for name, (status, _) in self.jobs.items()]

    def submit_job(self, **arguments):
        assert arguments["submission_id"] not in self.jobs
        self.sent.append(arguments)
        self.jobs[arguments["submission_id"]] = self.ends.pop(0)
        return arguments["submission_id"]

    def get_job_info(self, job):
        status, code = self.jobs[job]
        return SimpleNamespace(status=status, driver_exit_code=code, message="a\nreason")

    async def tail_job_logs(self, job):
        for text in ("one\n", f"{job}\n"):
            yield text


ENVIRONMENT = {"working_dir": "/checkout"}
DONE, STOPPED = (JobStatus.SUCCEEDED, 0), (JobStatus.STOPPED, None)
FAILED, MISTAKE, KILLED = (JobStatus.FAILED, 1), (JobStatus.FAILED, 2), (JobStatus.FAILED, -9)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """Between attempts."""
    monkeypatch.setattr(jobs, "RETRY_S", 0.0)


@pytest.mark.parametrize(
    ("ends", "retries", "status", "attempts"),
    [
        ([DONE], 3, 0, 1),
        ([FAILED], 0, 1, 1),
        ([FAILED, KILLED, DONE], 2, 0, 3),
        ([FAILED, KILLED], 1, 137, 2),
        ([MISTAKE], 3, 2, 1),
        ([STOPPED], 3, 143, 1),
        ([KILLED, MISTAKE], 3, 2, 2),
    ],
)
def test_what_fails_is_tried_again_and_nothing_else(ends, retries, status, attempts):
    server, started, texts = Server(*ends), [], []
    outcome = run_job(
        server, "pretrain-a", "python x", ENVIRONMENT, retries=retries, on_start=started.append, on_text=texts.append
    )
    assert (outcome.status, outcome.job) == (status, f"pretrain-a-{attempts}")
    assert started == [f"pretrain-a-{i + 1}" for i in range(attempts)]
    assert texts == [text for name in started for text in ("one\n", f"{name}\n")]
    assert [job["entrypoint"] for job in server.sent] == ["python x"] * attempts
    assert server.ends == []


def test_numbers_of_attempts_go_on_and_are_those_of_the_same_name():
    earlier = {"pretrain-a-1": FAILED, "pretrain-a-12": STOPPED, "pretrain-a-b-40": DONE, "xpretrain-a-50": DONE}
    assert next_attempt(Server(earlier=earlier), "pretrain-a") == "pretrain-a-13"
    assert next_attempt(Server(earlier=earlier), "pretrain-a-b") == "pretrain-a-b-41"
    assert next_attempt(Server(earlier=earlier), "pretrain.a") == "pretrain.a-1"
    assert next_attempt(Server(earlier={None: DONE}), "x") == "x-1"  # drivers that are no submitted jobs


@pytest.mark.parametrize("status", [JobStatus.RUNNING, JobStatus.PENDING])
def test_two_jobs_of_a_run_at_a_time_are_refused(status):
    server = Server(DONE, earlier={"pretrain-a-3": (status, None)})
    with pytest.raises(ValueError, match=rf"job pretrain-a-3 is {status.lower()}; expected one job of a run at a time"):
        next_attempt(server, "pretrain-a")
    assert next_attempt(server, "pretrain-ab") == "pretrain-ab-1"


def test_a_job_whose_command_did_not_run_says_why():
    info = SimpleNamespace(status=JobStatus.FAILED, driver_exit_code=None, message="no\n such  package")
    assert ended("a-1", info) == Ended("a-1", 1, "no such package")


def test_a_broken_connection_is_taken_up_again_without_showing_twice(monkeypatch):
    monkeypatch.setattr(jobs, "POLL_S", 0.001)

    class Broken(Server):
        tries = 0

        async def tail_job_logs(self, job):
            self.tries += 1
            yield "one\ntw"
            if self.tries == 1:
                raise RuntimeError("WebSocket connection closed unexpectedly")
            yield "o\n"

    texts = []
    assert run_job(Broken(DONE), "a", "x", ENVIRONMENT, on_text=texts.append).status == 0
    assert "".join(texts) == "one\ntwo\n"


def test_a_lost_cluster_ends_the_waiting(monkeypatch):
    monkeypatch.setattr(jobs, "POLL_S", 0.001)

    class Gone(Server):
        def get_job_info(self, job):
            raise ConnectionError("Failed to connect to Ray at address: http://head:8265.")

    with (
        pytest.raises(ValueError, match="job server http://head:8265: Failed to connect") as caught,
        explained("http://head:8265"),
    ):
        run_job(Gone(DONE), "a", "x", ENVIRONMENT)
    assert "\n" not in str(caught.value)


def test_a_head_that_takes_no_jobs_yet_is_asked_again(monkeypatch):
    monkeypatch.setattr(jobs.time, "sleep", lambda seconds: None)

    class Starting(Server):
        def submit_job(self, **arguments):
            if len(self.sent) < 2:
                self.sent.append(arguments)
                raise RuntimeError("Request failed with status code 500: No available agent to submit job")
            return super().submit_job(**arguments)

    assert run_job(Starting(DONE), "a", "x", ENVIRONMENT) == Ended("a-1", 0)

    class Refusing(Server):
        def submit_job(self, **arguments):
            raise RuntimeError("Request failed with status code 400")

    with pytest.raises(RuntimeError, match="400"):
        run_job(Refusing(), "a", "x", ENVIRONMENT)
