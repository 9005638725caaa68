"""Figures of TokenAdapt: fixed draws, exact however the split is dealt out."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from seit_ray.augment.random import StepRandom
from seit_ray.evaluation.tokenadapt import EVAL_SEED, tokenadapt_metrics
from seit_ray.objectives.tokenadapt import TokenAdaptObjective
from seit_ray.tokenizers.pixels import decode_pixels
from seit_ray.tokenizers.reconstruction import psnr
from seit_ray.training.world import World
from tests.augment.draws import STILL, WILD, tokens_of
from tests.objectives.test_tokenadapt_objective import Lookup, adapt
from tests.pixel_store import PixelStore
from tests.tokenizers.test_pixels import centroids, images

CPU = World(device=torch.device("cpu"))
NAMES = ["loss", "hit_rate", "naive_hit_rate", "reencoded_hit_rate"]
NAMES += ["psnr_db", "naive_psnr_db", "reencoded_psnr_db", "bound_psnr_db"]

KINDS = ("naive_", "reencoded_")


class Part(World):
    """A rank whose peers are not there: sums are its own."""

    def sum(self, values):
        parts.append(values)
        return values


parts = []


class LookupModel(Lookup, nn.Module):
    """The lookup as a module."""

    def __init__(self, tokenizer, out_grid):
        nn.Module.__init__(self)
        Lookup.__init__(self, tokenizer, out_grid)


def store_of(pixels):
    """A store of images without labels."""
    return PixelStore(pixels.numpy(), np.full(len(pixels), -1))


def wild(out_grid=(3, 5)):
    """A tokenizer, its objective and a model."""
    tokenizer = centroids(num_codes=30)
    objective = TokenAdaptObjective(tokenizer=tokenizer, out_grid=out_grid, geometry=WILD)
    return tokenizer, objective, adapt(tokenizer, out_grid)


def test_figures_are_those_of_the_whole_split():
    tokenizer, objective, model = wild()
    pixels = images(11, 12, 12)
    found = tokenadapt_metrics(model, objective, store_of(pixels), CPU, batch_size=4)
    assert list(found) == NAMES
    augmented, decoded, hits, losses = (
        [],
        {name: [] for name in ("", *KINDS, "bound_")},
        {name: [] for name in ("", *KINDS)},
        [],
    )
    for chunk, rows in enumerate((slice(0, 4), slice(4, 8), slice(8, 11))):
        pairs = objective.pairs(pixels[rows], StepRandom(EVAL_SEED, chunk, rows, 11))
        logits = objective.logits(model, pairs).detach()
        augmented.append(pairs.augmented)
        codes = {"": logits.argmax(2), "naive_": objective.naive_codes(pairs), "bound_": pairs.targets}
        codes["reencoded_"] = objective.reencoded_codes(pairs)
        for name, tokens in codes.items():
            decoded[name].append(decode_pixels(tokenizer, tokens, (3, 5)))
        for name in hits:
            hits[name].append(codes[name] == pairs.targets)
        losses.append(nn.functional.cross_entropy(logits.flatten(0, 1), pairs.targets.flatten(), reduction="none"))
    assert found["loss"] == pytest.approx(torch.cat(losses).double().mean().item(), rel=1e-5)
    for name, values in hits.items():
        assert found[f"{name}hit_rate"] == pytest.approx(torch.cat(values).double().mean().item())
    for name, values in decoded.items():
        assert found[f"{name}psnr_db"] == pytest.approx(psnr(torch.cat(values), torch.cat(augmented)))
    assert found["bound_psnr_db"] > found["psnr_db"]


def test_a_right_model_reaches_the_bound():
    tokenizer = centroids(image_size=6, patch_size=1)
    objective = TokenAdaptObjective(tokenizer=tokenizer, out_grid=(6, 6), geometry={**STILL, "flip_prob": 0.5})
    pixels = tokenizer.decode(tokens_of(9, 6, 9))
    found = tokenadapt_metrics(LookupModel(tokenizer, (6, 6)), objective, store_of(pixels), CPU, batch_size=4)
    assert found["hit_rate"] == found["naive_hit_rate"] == 1.0
    assert found["psnr_db"] == found["naive_psnr_db"] == found["bound_psnr_db"] == math.inf
    noisy = tokenadapt_metrics(LookupModel(tokenizer, (6, 6)), objective, store_of(images(9, 6, 6)), CPU, batch_size=4)
    assert noisy["hit_rate"] == 1.0
    assert noisy["psnr_db"] == noisy["bound_psnr_db"] < 30


def test_draws_are_the_same_every_time():
    _, objective, model = wild()
    store = store_of(images(7, 12, 12))
    torch.manual_seed(1)
    first = tokenadapt_metrics(model, objective, store, CPU)
    torch.manual_seed(2)
    assert tokenadapt_metrics(model, objective, store, CPU) == first


def test_ranks_add_up():
    _, objective, model = wild()
    store = store_of(images(11, 12, 12))
    whole = Part(0, 1, CPU.device)
    parts.clear()
    tokenadapt_metrics(model, objective, store, whole, batch_size=2)
    for rank in range(3):
        tokenadapt_metrics(model, objective, store, Part(rank, 3, CPU.device), batch_size=2)
    total, *ranks = parts
    assert len(ranks) == 3
    assert total[1] == 11 * 15
    torch.testing.assert_close(sum(ranks), total, rtol=1e-12, atol=0)
