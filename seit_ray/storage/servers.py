"""What beside its uri says where a folder lies: endpoint and account, given or by variables, without keys to them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from seit_ray.storage.contract import Access
from seit_ray.storage.uris import CLOUDS, storage_of

_SECRET = re.compile(  # of a connection string, and of an address
    r"(AccountKey|SharedAccessSignature)=[^;]*;?|(?<=//)[^/@]*@", re.IGNORECASE
)


def server_of(uri: str, access: Access) -> list[str]:
    """All that is given, and all the variables; nothing of a disk."""
    cloud = CLOUDS.get(storage_of(uri))
    if cloud is None:
        return []
    variables = (*cloud.endpoints, *cloud.accounts, *cloud.profile)
    given = [access["endpoint_url"], access["account"], *map(os.environ.get, variables)]
    return [_SECRET.sub("", value or "") for value in given]


def named_server_of(uri: str, access: Access) -> str:
    """What is named, by options or variables alike; '' for nothing."""
    cloud = CLOUDS[storage_of(uri)]
    named = (
        access["endpoint_url"] or _first_set(cloud.endpoints),
        access["account"] or _first_set(cloud.accounts),
    )
    return " ".join(_SECRET.sub("", value).rstrip("/") for value in named if value)


def _first_set(variables: Sequence[str]) -> str | None:
    return next((value for variable in variables if (value := os.environ.get(variable))), None)
