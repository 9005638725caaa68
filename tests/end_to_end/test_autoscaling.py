"""A tokenising job on a cluster that starts without GPU nodes: they come when it needs them, and go when it is done.

The nodes are pretended: Ray's own provider for tests starts them as processes of this machine.
"""

import json
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from seit_ray.images.decode import decode_image
from seit_ray.shards import TokenDataset
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer
from tests.end_to_end.processes import ROOT
from tests.end_to_end.ray_head import command, running_head
from tests.s3_server import free_ports
from tests.tiny_images import image_bytes, write_files, write_tokenizer
from tests.warm import processes as warm

HEAD_ID = "f" * 51 + "00000"  # of the head, for the provider
NUM_IMAGES, ROWS = (720, 2880), 4  # on a busy machine a second node can come too late for the first number


def worker(resources, max_workers):
    """A type of node that exists only while it is needed."""
    return {
        "resources": {**resources, "object_store_memory": 200 << 20},
        "node_config": {},
        "min_workers": 0,
        "max_workers": max_workers,
    }


def cluster_config(gcs_address):
    """As cluster/aws.yaml: a head without work, nodes with CPUs to decode, nodes with a GPU to encode."""
    provider = {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "launch_multiple": True,
        "head_node_id": HEAD_ID,
        "gcs_address": gcs_address,
    }
    types = {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "decode": worker({"CPU": 2}, 1),
        "tokenise": worker({"CPU": 0, "GPU": 1}, 2),
    }
    lists = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    return {
        "cluster_name": "pretended",
        "max_workers": 3,
        "idle_timeout_minutes": 0.1,
        "upscaling_speed": 10.0,
        "provider": provider,
        "available_node_types": types,
        "head_node_type": "ray.head.default",
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{f"{name}_commands": [] for name in lists},
        **{name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
        "file_mounts_sync_continuously": False,
    }


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A shell that knows a head which starts and ends pretended nodes."""
    from ray.util import get_node_ip_address

    home, port = tmp_path_factory.mktemp("home"), 9400 + free_ports(1)[0] % 600  # Ray's workers use 10002 to 19999
    config = home / "cluster.yaml"
    config.write_text(yaml.safe_dump(cluster_config(f"{get_node_ip_address()}:{port}")))
    variables = {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
    }
    options = (f"--autoscaling-config={config}", "--num-cpus=0")
    with running_head(home, *options, gcs_port=port, **variables) as environment:
        yield environment


def gpu_nodes(head):
    """How many living nodes have a GPU."""
    with open(head["RAY_AUTH_TOKEN_PATH"]) as file:
        headers = {"Authorization": f"Bearer {file.read().strip()}"}
    address = head["RAY_API_SERVER_ADDRESS"] + "/api/v0/nodes"
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=30) as answer:
        nodes = json.load(answer)["data"]["result"]["result"]
    return sum(node["state"] == "ALIVE" and node["resources_total"].get("GPU", 0) > 0 for node in nodes)


def said_by_autoscaler(head):
    """The end of its logs."""
    logs = sorted(Path(head["RAY_LOGS"]).glob("monitor*"))
    return "\n".join(f"{log.name}: {log.read_text()[-3000:]}" for log in logs)


def nodes_for(head, place, keys):
    """The most GPU nodes that there were at once while a job with these keys ran to its end."""
    with open(place / "printed.txt", "w+") as printed:  # a pipe that nobody reads would fill up
        job = warm.Popen(
            command("tokenize_images", *keys, "--wait"), cwd=ROOT, env=head, stdout=printed, stderr=subprocess.STDOUT
        )
        seen, deadline = [0], time.monotonic() + 400
        while job.poll() is None and time.monotonic() < deadline:
            seen.append(gpu_nodes(head))
            time.sleep(0.3)
        job.kill()
        printed.seek(0)
        assert job.wait() == 0, f"{printed.read()[-5000:]} with {max(seen)} nodes; {said_by_autoscaler(head)}"
    return max(seen)


def wait_for_none(head):
    """Until no node has a GPU."""
    deadline = time.monotonic() + 60
    while gpu_nodes(head) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert gpu_nodes(head) == 0


@pytest.mark.slow
def test_gpu_nodes_come_for_a_tokenising_job_and_go_after_it(head, tmp_path):
    pictures = [image_bytes(("cat", "dog")[i % 2], i, side=128, format="JPEG") for i in range(50)]
    # so little to decode and so much to encode that one GPU node is too few
    tokenizer = write_tokenizer(tmp_path / "tokenizer", image_size=128, num_codes=16384)
    assert gpu_nodes(head) == 0
    for num_images in NUM_IMAGES:
        place = tmp_path / str(num_images)
        names = [f"{('cat', 'dog')[i % 2]}/{i:05d}.jpg" for i in range(num_images)]
        write_files(place / "images", {name: pictures[i % 50] for i, name in enumerate(names)})
        keys = [f"images={place}/images", f"tokenizer={tokenizer.uri}", f"output={place}/tokens"]
        keys += [f"tokenize.rows_per_shard={ROWS}", "tokenize.gpus_per_actor=1", "tokenize.num_actors=2"]
        most = nodes_for(head, place, keys)
        wait_for_none(head)
        if most == 2:
            break
    assert most == 2

    rows = TokenDataset(Folder(place / "tokens")).read_split("train")
    assert rows.meta["key"].to_pylist() == sorted(names)
    encoder, _ = load_tokenizer(tokenizer)
    size = {"image_size": encoder.image_size, "resize": encoder.resize}
    for start in range(0, num_images, 12 * ROWS):
        files = [(place / "images" / name).read_bytes() for name in sorted(names)[start : start + ROWS]]
        pixels = torch.from_numpy(np.stack([decode_image(data, **size).pixels for data in files]))
        assert np.array_equal(rows.tokens[start : start + ROWS], encoder.encode(pixels).numpy())
