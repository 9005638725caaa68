"""The autoencoder objective: its terms, when codes are revived, and training runs of it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seit_ray.augment.random import StepRandom
from seit_ray.batches.batch import Batch
from seit_ray.objectives import autoencoder
from seit_ray.objectives.autoencoder import AutoencoderObjective, perceptual_distance
from seit_ray.storage import Folder
from seit_ray.tokenizers.vit_vqgan.discriminator import PatchDiscriminator
from seit_ray.training.checkpoints import load_checkpoint
from tests.tiny_trainers import comparable, losses
from tests.tokenizers.vit_vqgan.tiny import random_images, tiny_training
from tests.tokenizers.vit_vqgan.workers import image_trainer


class Features(nn.Module):
    """Two feature maps of an image."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 7, 2, 2)

    def forward(self, images):
        first = self.first(images)
        return first, self.second(first.relu())


def random_at(step, rows=2, batch=2):
    return StepRandom(0, step, slice(0, rows), batch)


def test_loss_is_the_weighted_sum_of_its_terms():
    model, images, features = tiny_training(discriminator=PatchDiscriminator(4, 2)), random_images(2, 8), Features()
    weights = {"reconstruction": 2.0, "quantizer": 0.5, "perceptual": 0.3, "adversarial": 0.7}
    objective = AutoencoderObjective(perceptual=features, **{f"{k}_weight": v for k, v in weights.items()})
    loss, metrics = objective.loss(model, Batch(images), random_at(0))
    seen = model.eval()(images)
    distance = perceptual_distance(features, seen.reconstruction, seen.originals)
    expected = {
        "reconstruction": (seen.reconstruction - images / 255).square().mean(),
        "quantizer": seen.quantizer_loss,
        "perceptual": distance,
        "adversarial": -seen.fake.mean(),
        "discriminator": (F.relu(1 - seen.real).mean() + F.relu(1 + seen.fake).mean()) / 2,
    }
    for name, term in expected.items():
        torch.testing.assert_close(metrics[f"{name}_loss"], term.detach())
    assert set(metrics) == {f"{name}_loss" for name in expected} | {"code_usage", "code_perplexity"}
    assert not any(value.requires_grad or value.ndim for value in metrics.values())
    total = sum(weights.get(name, 1.0) * term for name, term in expected.items())
    torch.testing.assert_close(loss.detach(), total.detach())


def test_without_extras_there_are_two_terms():
    loss, metrics = AutoencoderObjective().loss(tiny_training(), Batch(random_images(2, 8)), random_at(0))
    torch.testing.assert_close(loss.detach(), metrics["reconstruction_loss"] + metrics["quantizer_loss"])
    assert set(metrics) == {"reconstruction_loss", "quantizer_loss", "code_usage", "code_perplexity"}


def test_the_adversarial_term_begins_at_its_step():
    model = tiny_training(discriminator=PatchDiscriminator(4, 2))
    objective = AutoencoderObjective(adversarial_weight=1e3, adversarial_start_step=5)

    def gradients(step):
        model.zero_grad()
        loss, _ = objective.loss(model, Batch(random_images(2, 8)), random_at(step))
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())  # as DistributedDataParallel demands
        return [model.network.post_quant.weight.grad.norm(), model.discriminator.layers[0].weight.grad.norm()]

    before, after = gradients(4), gradients(5)
    assert after[0] > 10 * before[0]
    torch.testing.assert_close(before[1], after[1])


def test_perceptual_distance_is_of_directions_and_zero_for_equal_images():
    features = Features()
    a, b = (random_images(2, 8, seed=s).float() / 255 for s in (0, 1))
    assert perceptual_distance(features, a, a) == 0
    maps = [[F.normalize(m, dim=1) for m in features(x)] for x in (a, b)]
    expected = sum(((x - y) ** 2).sum(1).mean() for x, y in zip(*maps, strict=True)) / 2
    torch.testing.assert_close(perceptual_distance(features, a, b), expected)
    single = perceptual_distance(features.first, a, b)
    torch.testing.assert_close(single, ((maps[0][0] - maps[1][0]) ** 2).sum(1).mean())


def test_the_perceptual_network_is_frozen_and_passes_gradient_on():
    features, model = Features(), tiny_training()
    objective = AutoencoderObjective(perceptual=features, reconstruction_weight=0, quantizer_weight=0)
    objective.loss(model, Batch(random_images(2, 8)), random_at(0))[0].backward()
    assert not features.training
    assert all(parameter.grad is None for parameter in features.parameters())
    assert model.network.post_quant.weight.grad.norm() > 0


def test_codes_are_revived_once_every_few_steps():
    model, objective = tiny_training(), AutoencoderObjective(revive_steps=3)
    noises = [[objective.revival_noise(model, random_at(step)) for _ in range(2)] for step in range(7)]
    given = [[noise is not None for noise in parts] for parts in noises]
    assert given == [[step in (3, 6), False] for step in range(7)]  # the first micro-batch alone
    assert noises[3][0].shape == (2, 16)
    assert not torch.equal(noises[3][0], noises[6][0])
    assert objective.revival_noise(model.eval(), random_at(9)) is None
    never = AutoencoderObjective(revive_steps=0)
    assert all(never.revival_noise(model.train(), random_at(step)) is None for step in range(7))


def test_an_uneven_batch_over_several_workers_is_an_error(monkeypatch):
    monkeypatch.setattr(autoencoder, "num_ranks", lambda: 2)
    model, objective = tiny_training(), AutoencoderObjective()
    with pytest.raises(ValueError, match="global_batch_size 5 for 2 workers; expected a multiple"):
        objective.loss(model, Batch(random_images(3, 8)), random_at(0, rows=3, batch=5))
    assert objective.loss(model.eval(), Batch(random_images(3, 8)), random_at(0, rows=3, batch=5))[0] > 0


@pytest.mark.parametrize(
    "name", ["reconstruction_weight", "perceptual_weight", "adversarial_start_step", "revive_steps"]
)
@pytest.mark.parametrize("number", [-1, float("nan"), float("inf")])
def test_impossible_numbers_are_errors(name, number):
    with pytest.raises(ValueError, match=rf"{name} {number}; expected 0 or more"):
        AutoencoderObjective(**{name: number})


def test_a_network_without_feature_maps_is_an_error():
    with pytest.raises(ValueError, match="perceptual network Flatten gives no feature maps"):
        perceptual_distance(nn.Flatten(), torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_a_continued_run_equals_one_that_was_not_stopped(tmp_path, update):
    whole, parts = Folder(tmp_path / "whole"), Folder(tmp_path / "parts")
    image_trainer(whole, update).train()
    stopped = image_trainer(parts, update)
    stopped.steps = 6
    stopped.train()
    continued = image_trainer(parts, update)
    assert continued.resume() == 6
    continued.train()
    assert comparable(parts) == comparable(whole)
    first, second = (load_checkpoint(run)[0] for run in (whole, parts))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert losses(whole)[-1] < losses(whole)[0]


def test_accumulation_gives_the_same_losses(tmp_path):
    found = []
    for accum_steps in (1, 3):
        run = Folder(tmp_path / str(accum_steps))
        image_trainer(run, "gradient", loop={"accum_steps": accum_steps}, revive_steps=0).train()
        names = ("train_reconstruction_loss", "train_quantizer_loss", "train_discriminator_loss")
        found.append([record[name] for record in comparable(run) for name in names])
    assert found[1] == pytest.approx(found[0], abs=1e-4)
