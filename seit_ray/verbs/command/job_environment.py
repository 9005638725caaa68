"""What a job runs in: the packages its nodes install, and its variables."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import seit_ray
from seit_ray.config import Verb
from seit_ray.config.loading import read_yaml
from seit_ray.storage.uris import CLOUDS, OTHER_NAMES, SCHEME

ENVIRONMENT = Path(seit_ray.__file__).resolve().parent / "cluster" / "runtime_env.yaml"
EXTRAS = ("gs", "az", "optuna", "mlflow", "wandb")  # of pyproject.toml


def extras_of(*configs: Verb) -> list[str]:
    """The extras of the package that these configs ask for: by an address of theirs, or by their name."""
    values = {value for config in configs for value in texts(config.model_dump(mode="json"))}
    asked = {extra for value in values if (extra := cloud_extra(value))} | values
    return [name for name in EXTRAS if name in asked]


def cloud_extra(uri: str) -> str | None:
    """The extra that an address needs, by whichever name of its service; None for a path or another text."""
    found = SCHEME.match(uri)
    scheme = found[1].lower() if found else ""
    cloud = CLOUDS.get(OTHER_NAMES.get(scheme, scheme))
    return cloud.extra if cloud is not None else None


def refuse_extras(extras: Sequence[str], *, file: str | None, installed: bool) -> None:
    """ValueError for extras that are asked for where the job installs none of them."""
    if extras and (file or installed):
        other = "--runtime-env, which says itself what is installed" if file else "--installed, which installs nothing"
        raise ValueError(f"--extra {' '.join(extras)} beside {other}; expected one of the two; leave one out")


def texts(value: Any) -> Iterator[str]:
    """All texts in what JSON can hold."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)


def requirements(extras: Sequence[str]) -> list[str]:
    """The packages of these extras, as pip takes them."""
    if not extras:
        return []
    try:
        known = [line.partition(";") for line in importlib.metadata.requires("seit_ray") or []]
    except importlib.metadata.PackageNotFoundError:
        raise ValueError(
            f"the extra {', '.join(extras)} of a package that is not installed here; expected pip install seit_ray, "
            "which says what its extras need; install it, or --runtime-env FILE"
        ) from None
    marks = {f'extra == "{name}"' for name in extras}
    return [package.strip() for package, _, mark in known if mark.strip() in marks]


def environment_of(
    file: str | None, *, installed: bool, names: list[str], extras: Sequence[str] = ()
) -> dict[str, Any]:
    """The runtime environment of a job but for its working directory; ValueError for what is missing.

    names: of variables of this process that the job has too. extras: of the package, beside what the file installs.
    """
    path = Path(file) if file else ENVIRONMENT
    if not path.is_file():
        raise ValueError(f"runtime environment {path} is no file; expected YAML; name one with --runtime-env")
    environment = read_yaml(str(path))
    if "working_dir" in environment:
        raise ValueError(
            f"runtime environment {path} with working_dir; expected none, since the package and the config files are "
            "sent; leave it out, or use ray job submit"
        )
    environment.pop("excludes", None)  # of a checkout, which is not what is sent
    if installed:
        environment = {key: value for key, value in environment.items() if key not in ("pip", "uv", "conda")}
    elif file is None:  # a file of the user's says itself what is installed
        packages = [*environment["pip"]["packages"], *requirements(extras)]
        environment["pip"] = {**environment["pip"], "packages": packages}
    unset = [name for name in names if name not in os.environ]
    if unset:
        raise ValueError(f"variable {', '.join(unset)} is not set; expected a value for --env; export it first")
    variables = {name: os.environ[name] for name in names}
    return {**environment, "env_vars": {**environment.get("env_vars", {}), **variables}}
