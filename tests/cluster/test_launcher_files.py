"""cluster/{aws,gcp,local}.yaml: accepted by Ray's own validator, and what that does not look into, by a table."""

import copy
import re

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.test_cluster_files import CLUSTER, ROOT, project, versions

CLOUDS = ("aws", "gcp")
EACH_CLOUD = pytest.mark.parametrize("name", CLOUDS)
EACH = pytest.mark.parametrize("name", [*CLOUDS, "local"])

# The fields of a node_config that these files use: a type, or the fields of an object, or of each in a list.
NODE_CONFIG = {
    "aws": {
        "InstanceType": str,
        "ImageId": str,
        "IamInstanceProfile": {"Name": str},
        "BlockDeviceMappings": [{"DeviceName": str, "Ebs": {"VolumeSize": int, "VolumeType": str}}],
        "InstanceMarketOptions": {"MarketType": str},
    },
    "gcp": {
        "machineType": str,
        "disks": [
            {
                "boot": bool,
                "autoDelete": bool,
                "type": str,
                "initializeParams": {"diskSizeGb": int, "sourceImage": str},
            }
        ],
        "metadata": {"items": [{"key": str, "value": str}]},
        "scheduling": [{"preemptible": bool, "onHostMaintenance": str}],
    },
}
# CPUs and GPUs of the machines, as their makers say
MACHINES = {
    "m6i.2xlarge": (8, 0),
    "c6i.8xlarge": (32, 0),
    "g6.2xlarge": (8, 1),
    "g6.12xlarge": (48, 4),
    "n2-standard-8": (8, 0),
    "n2-standard-32": (32, 0),
    "g2-standard-8": (8, 1),
    "g2-standard-48": (48, 4),
}


def read(name):
    return yaml.safe_load((CLUSTER / f"{name}.yaml").read_text())


def faults(value, kind, where):
    """Paths in a value that a table of fields does not know, or whose type is another."""
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            return [where]
        return [
            fault
            for key, inner in value.items()
            for fault in (faults(inner, kind[key], f"{where}.{key}") if key in kind else [f"{where}.{key}"])
        ]
    if isinstance(kind, list):
        if not isinstance(value, list):
            return [where]
        return [fault for i, inner in enumerate(value) for fault in faults(inner, kind[0], f"{where}[{i}]")]
    return [] if type(value) is kind else [where]


@EACH
def test_ray_accepts_the_file(name):
    config = prepare_config(read(name))
    validate_config(config)  # raises what it does not accept
    assert config["provider"]["type"] == {"aws": "aws", "gcp": "gcp", "local": "local"}[name]
    assert config["head_node_type"] in config["available_node_types"]


@EACH_CLOUD
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["max_worker"], 3),
        (["head_node_type"], "haed"),
        (["available_node_types", "train", "max_worker"], 3),
        (["available_node_types", "train", "resources", "GPU"], 0.5),
        (["docker", "imag"], "x"),
    ],
)
def test_the_validator_finds_mistakes(name, path, value):
    config = copy.deepcopy(read(name))
    inner = config
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        validate_config(prepare_config(config))


@EACH_CLOUD
def test_node_configs_have_only_known_fields(name):
    for node, settings in read(name)["available_node_types"].items():
        assert faults(settings["node_config"], NODE_CONFIG[name], node) == []


def test_the_table_finds_mistakes():
    good = read("aws")["available_node_types"]["decode"]["node_config"]
    for change, where in (
        ({"InstanceTyp": "x"}, "n.InstanceTyp"),
        ({"ImageId": 3}, "n.ImageId"),
        ({"IamInstanceProfile": {"Nam": "x"}}, "n.IamInstanceProfile.Nam"),
        ({"BlockDeviceMappings": [{"Ebs": {"VolumeSize": "150"}}]}, "n.BlockDeviceMappings[0].Ebs.VolumeSize"),
        ({"InstanceMarketOptions": [{"MarketType": "spot"}]}, "n.InstanceMarketOptions"),
    ):
        assert faults({**good, **change}, NODE_CONFIG["aws"], "n") == [where]


@EACH_CLOUD
def test_the_groups_are_what_the_phases_need(name):
    config = read(name)
    types = config["available_node_types"]
    assert config["head_node_type"] == "head"
    assert types["head"]["resources"] == {"CPU": 0}  # its CPUs are for the cluster and the drivers
    workers = {node: settings for node, settings in types.items() if node != "head"}
    assert {node: settings["min_workers"] for node, settings in workers.items()} == dict.fromkeys(workers, 0)
    assert sum(settings["max_workers"] for settings in workers.values()) == config["max_workers"]
    for node, settings in types.items():
        machine = settings["node_config"].get("InstanceType") or settings["node_config"]["machineType"]
        resources = settings["resources"]
        assert node == "head" or (resources["CPU"], resources.get("GPU", 0)) == MACHINES[machine]
    spot = {node for node in types if "spot" in str(types[node]) or "preemptible" in str(types[node])}
    assert spot == {"decode", "tokenise"}
    # a training worker fits a training node as often as that has GPUs, and no other node
    cpus = int(re.search(r"gpus_per_worker=1 workers\.cpus_per_worker=(\d+)", (CLUSTER / "README.md").read_text())[1])
    assert cpus > types["tokenise"]["resources"]["CPU"]
    assert types["train"]["resources"]["CPU"] >= cpus * types["train"]["resources"]["GPU"]
    assert types["tokenise"]["priority"] > types["train"].get("priority", 0)


@EACH_CLOUD
def test_nodes_get_the_image_the_token_and_nothing_unpinned(name):
    config = read(name)
    (mounted,) = config["file_mounts"]
    options = " ".join(config["docker"]["run_options"])
    assert "--env RAY_AUTH_MODE=token" in options
    assert f"--env RAY_AUTH_TOKEN_PATH={mounted}/token" in options
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert config["docker"]["image"] == f"REGISTRY/seit_ray:{version}"
    installs = [line for key, lines in config.items() if key.endswith("_commands") for line in lines if "pip " in line]
    assert len(installs) == 1
    assert "--constraint /home/ray/seit_ray/cluster/constraints.txt" in installs[0]
    assert "WORKDIR /home/ray/seit_ray\n" in (CLUSTER / "Dockerfile").read_text()
    prepared = prepare_config(config)
    assert "nightly" not in str(prepared)
    assert "wheels" not in str(prepared)  # Ray's defaults install such
    assert config["idle_timeout_minutes"] <= 10


def test_own_machines_get_the_checkout_with_the_pinned_versions():
    config = read("local")
    assert config["file_mounts"]["~/seit_ray"] == "."
    (install,) = config["setup_commands"]
    assert ".venv/bin/pip install --quiet --constraint cluster/constraints.txt ." in install
    for command in (config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]):
        assert "PATH=~/seit_ray/.venv/bin:$PATH" in command
        assert "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=~/.seit_ray/token" in command


def test_ray_is_the_one_of_the_constraints_or_another_that_is_allowed():
    import ray

    allowed = next(r.specifier for r in map(Requirement, project()["dependencies"]) if r.name == "ray")
    assert ray.__version__ in allowed  # so that it was such a version which accepted the files
    assert versions()["ray"] in allowed
