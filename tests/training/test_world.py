"""Processes that train together."""

import inspect

import torch
from torch.nn.parallel import DistributedDataParallel

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
    assert seen[world.NO_BUFFERS] is False
    assert world.NO_BUFFERS in inspect.signature(DistributedDataParallel.__init__).parameters
    assert seen["bucket_cap_mb"] == world.BUCKET_MIB > 25
