"""cluster/kuberay-*.yaml: one Ray, one image, groups that fit the job, entry points that parse; the CRD's schema."""

import gzip
import json
import os
import re
import shlex
from pathlib import Path

import jsonschema
import pytest
import yaml

from seit_ray.config import load
from seit_ray.verbs.command.arguments import VERBS, config_files, parse
from tests.cluster.test_cluster_files import CLUSTER, ROOT, versions

FILES = sorted(path.name for path in CLUSTER.glob("kuberay-*.yaml"))
JOBS = [name for name in FILES if "rayjob" in name]
EACH = pytest.mark.parametrize("name", FILES)
EACH_JOB = pytest.mark.parametrize("name", JOBS)
IN_THE_IMAGE = "/home/ray/seit_ray/"  # WORKDIR of the Dockerfile
SCHEMAS = os.environ.get("SEIT_RAY_KUBERAY_SCHEMAS")  # folder of <kind>.v1.schema.json[.gz], from KubeRay's CRDs


def read(name):
    return yaml.safe_load((CLUSTER / name).read_text())


def cluster_of(manifest):
    """The spec of the Ray cluster in a manifest of either kind."""
    return manifest["spec"] if manifest["kind"] == "RayCluster" else manifest["spec"]["rayClusterSpec"]


def container_of(group):
    (container,) = group["template"]["spec"]["containers"]
    return container


def entrypoint_of(name):
    """(verb, the arguments behind it) of a job."""
    program, verb, *arguments = shlex.split(read(name)["spec"]["entrypoint"])
    assert program == "seit-ray"
    return verb, [word.replace(IN_THE_IMAGE, f"{ROOT}/") for word in arguments]


def config_of(name):
    """The config that the entry point of a job makes."""
    verb, arguments = entrypoint_of(name)
    parsed = parse(verb, arguments)
    return load(VERBS[verb], config_files(parsed), parsed.overrides)


def test_there_is_a_cluster_and_a_job_for_each_long_phase():
    assert [name.removeprefix("kuberay-") for name in FILES] == [
        "raycluster.yaml",
        "rayjob-pretrain.yaml",
        "rayjob-sweep.yaml",
        "rayjob-tokenize.yaml",
    ]


@EACH
def test_one_ray_and_one_image(name):
    manifest = read(name)
    cluster = cluster_of(manifest)
    assert manifest["apiVersion"] == "ray.io/v1"
    assert cluster["rayVersion"] == versions()["ray"]
    assert cluster["authOptions"] == {"mode": "token"}
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert {container_of(group)["image"] for group in groups} == {f"REGISTRY/seit_ray:{version}"}
    assert f"WORKDIR {IN_THE_IMAGE.rstrip('/')}\n" in (CLUSTER / "Dockerfile").read_text()


@EACH
def test_groups_have_resources_and_shrink_to_nothing(name):
    cluster = cluster_of(read(name))
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] == group["replicas"] == 0
        assert group["maxReplicas"] > 0
        resources = container_of(group)["resources"]
        assert resources["requests"] == resources["limits"]  # Ray takes the limits for what there is
        assert set(resources["limits"]) >= {"cpu", "memory"}
        has_gpu = "nvidia.com/gpu" in resources["limits"]
        assert has_gpu == (group["groupName"] != "decode")
        tolerated = [t["key"] for t in group["template"]["spec"].get("tolerations", ())]
        assert ("nvidia.com/gpu" in tolerated) == has_gpu
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert container_of(group)["envFrom"] == [{"secretRef": {"name": "seit-ray-storage", "optional": True}}]


@EACH_JOB
def test_the_entry_point_is_a_verb_with_keys_that_exist(name):
    config = config_of(name)
    places = [value for value in dict(config).values() if isinstance(value, str) and "://" in value]
    assert len(places) >= 2
    assert all(place.startswith("s3://BUCKET/") for place in places)


@EACH_JOB
def test_a_job_can_be_tried_again_and_cleans_up(name):
    spec = read(name)["spec"]
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0


@EACH_JOB
def test_the_groups_hold_what_the_job_asks_for(name):
    config = config_of(name)
    groups = {group["groupName"]: group for group in cluster_of(read(name))["workerGroupSpecs"]}
    limits = {group: container_of(groups[group])["resources"]["limits"] for group in groups}
    if hasattr(config, "tokenize"):
        assert set(groups) == {"decode", "tokenise"}
        assert config.tokenize.gpus_per_actor == 1  # the cluster has no GPU yet when the job looks
        assert config.tokenize.num_actors == groups["tokenise"]["maxReplicas"]
        return
    assert set(groups) == {"train"}
    workers, gpus, cpus = config.workers, int(limits["train"]["nvidia.com/gpu"]), int(limits["train"]["cpu"])
    assert workers.gpus_per_worker == 1
    assert workers.cpus_per_worker * gpus <= cpus
    assert workers.num_workers <= gpus * groups["train"]["maxReplicas"]


def test_training_workers_fit_no_node_for_tokenising():
    groups = {group["groupName"]: group for group in cluster_of(read("kuberay-raycluster.yaml"))["workerGroupSpecs"]}
    cpus = {name: int(container_of(group)["resources"]["limits"]["cpu"]) for name, group in groups.items()}
    assert config_of("kuberay-rayjob-pretrain.yaml").workers.cpus_per_worker > cpus["tokenise"]


def strict(schema):
    """The schema, refusing keys that it does not list, and taking numbers or text where Kubernetes takes either."""
    if isinstance(schema, list):
        return [strict(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(inner) for key, inner in schema.items()}
    if found.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if isinstance(found.get("properties"), dict) and not found.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


@pytest.fixture(scope="module")
def schema():
    """A function from kind to strict schema."""
    if not SCHEMAS:
        pytest.skip("SEIT_RAY_KUBERAY_SCHEMAS names no folder of KubeRay's schemas (<kind>.v1.schema.json[.gz])")

    def of(kind):
        (path,) = Path(SCHEMAS).glob(f"{kind.lower()}.v1.schema.json*")
        data = path.read_bytes()
        return strict(json.loads(gzip.decompress(data) if path.suffix == ".gz" else data))

    return of


@EACH
def test_the_schema_of_the_resource_accepts_the_file(schema, name):
    manifest = read(name)
    checked = schema(manifest["kind"])
    jsonschema.validate(manifest, checked)
    cluster_of(manifest)["workerGroupSpecs"][0]["maxReplica"] = 3
    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):  # it does look
        jsonschema.validate(manifest, checked)
