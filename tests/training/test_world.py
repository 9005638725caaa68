"""Processes that train together."""

import torch

from seit_ray.training import world
from seit_ray.training.world import World


def test_buffers_are_not_sent_round_in_every_step(monkeypatch):
    """They are equal on all ranks: a collective a step, and megabytes of a codebook, for nothing."""
    seen = {}
    monkeypatch.setattr(world, "DistributedDataParallel", lambda model, **settings: seen.update(settings) or model)
    model = torch.nn.Linear(2, 2)
    assert World(0, 1, torch.device("cpu")).distributed(model) is model
    assert seen == {}
    World(0, 2, torch.device("cpu")).distributed(model)
    assert seen["broadcast_buffers"] is False
    assert seen["bucket_cap_mb"] == world.BUCKET_MIB > 25
