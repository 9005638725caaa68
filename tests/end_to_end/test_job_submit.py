"""The README's form of a job: ray job submit to a cluster with token authentication, from the working directory."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def free_port() -> int:
    """A port of this machine that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """60 small PNGs of two classes."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for name in ("dark", "light"):
        (folder / name).mkdir()
        for i in range(30):
            values = generator.integers(0, 100, (16, 16, 3)) + 150 * (name == "light")
            Image.fromarray(values.astype(np.uint8)).save(folder / name / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """The environment of a shell that knows a fresh Ray head: its addresses and its token."""
    home = tmp_path_factory.mktemp("home")
    (home / "token").write_text("0123456789abcdef" * 4)
    dashboard, gcs = free_port(), 6400 + os.getpid() % 3000
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {
        "HOME": str(home),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(home / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
    command = [BIN / "ray", "start", "--head", "--block", f"--port={gcs}", f"--dashboard-port={dashboard}"]
    # two heads on one machine would else share the agent's fixed port
    command += [f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"]
    command += ["--num-cpus=2", f"--object-store-memory={200 << 20}", "--disable-usage-stats"]
    log = open(home / "head.log", "w")  # noqa: SIM115 - closed at the end of the module
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    environment["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{dashboard}"
    try:
        wait_until_up(environment, process, home / "head.log")
        yield {**environment, "GCS": f"127.0.0.1:{gcs}"}
    finally:
        process.terminate()  # ray start --block stops its own processes
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
        log.close()


def wait_until_up(environment: dict, process: subprocess.Popen, log: Path) -> None:
    """Until the job server answers; fails with the head's log."""
    for _ in range(60):
        listed = subprocess.run([BIN / "ray", "job", "list"], env=environment, capture_output=True, timeout=60)
        if listed.returncode == 0:
            return
        if process.poll() is not None:
            break
        time.sleep(1)
    pytest.fail(f"the ray head did not come up: {log.read_text()[-2000:]}")


def submit(head: dict, *entrypoint: str) -> subprocess.CompletedProcess:
    """`ray job submit` from the repository's root, waiting for the job."""
    command = [BIN / "ray", "job", "submit", "--working-dir", ".", "--runtime-env-json"]
    command += ['{"excludes": [".git", ".venv", "runs", "pipelines/sample", "tests"]}', "--", *entrypoint]
    for _ in range(30):
        done = subprocess.run(command, cwd=ROOT, env=head, capture_output=True, text=True, timeout=400)
        if "No available agent" not in done.stdout + done.stderr:  # the head answers before its agent is up
            return done
        time.sleep(2)
    return done


@pytest.mark.slow
def test_submitted_job_tokenises_and_a_wrong_one_fails_in_one_line(head, images, tmp_path):
    fitted = subprocess.run(
        [
            sys.executable,
            "pipelines/fit_tokenizer.py",
            f"images={images}",
            f"output={tmp_path}/tokenizer",
            "centroid.image_size=16",
            "centroid.patch_size=4",
            "centroid.codebook_size=32",
        ],
        cwd=ROOT,
        env=head,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert fitted.returncode == 0, fitted.stderr
    keys = [f"tokenizer={tmp_path}/tokenizer", f"output={tmp_path}/tokens", "tokenize.slice_size=16"]
    done = submit(head, "python", "pipelines/tokenize_images.py", f"images={images}", *keys)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 listed = 60 written + 0 rejected" in done.stdout
    content = json.loads((tmp_path / "tokens" / "dataset.json").read_text())
    assert content["splits"]["train"]["rows"] == 60
    assert content["class_names"] == ["dark", "light"]

    wrong = submit(head, "python", "pipelines/tokenize_images.py", f"images={tmp_path}/nowhere", keys[0], "output=x")
    assert wrong.returncode != 0
    lines = [line for line in (wrong.stdout + wrong.stderr).splitlines() if "error: " in line and "nowhere" in line]
    assert lines, wrong.stdout + wrong.stderr
    assert "Traceback" not in wrong.stdout.split("error: ")[0]


@pytest.mark.slow
def test_submission_without_the_token_is_refused(head):
    stranger = {k: v for k, v in head.items() if k not in ("RAY_AUTH_TOKEN_PATH",)} | {"HOME": "/nonexistent"}
    done = subprocess.run([BIN / "ray", "job", "list"], env=stranger, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
