"""Pretended nodes of Ray, processes of this machine, on a machine that may be busy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.cluster_utils import Cluster


def new_cluster(**head: Any) -> Cluster:
    """A cluster of one node, its head, without a dashboard."""
    return patiently(lambda: Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **head}))


def add_node(cluster: Cluster, **node: Any) -> Any:
    """One more node."""
    return patiently(lambda: cluster.add_node(**node))


def patiently(start: Callable[[], Any], attempts: int = 5) -> Any:
    """What starts, tried again where it takes longer than the 30 s that Ray gives a node, whatever else runs."""
    try:
        return start()
    except Exception as error:  # Ray raises no other kind
        if "timed out during startup" not in str(error) or attempts == 1:
            raise
    return patiently(start, attempts - 1)
