"""The module that is trained: what a forward gives, how the codebook learns, what the discriminator learns from."""

import pytest
import torch
from torch.nn import functional as F

from seit_ray.augment.random import StepRandom
from seit_ray.batches.batch import Batch
from seit_ray.objectives.autoencoder import AutoencoderObjective
from seit_ray.tokenizers.reconstruction import psnr
from seit_ray.tokenizers.vit_vqgan.discriminator import PatchDiscriminator, judge_frozen
from seit_ray.tokenizers.vit_vqgan.training import VqganTrainingModel
from tests.tokenizers.vit_vqgan.tiny import random_images, smooth_images, tiny_network, tiny_tokenizer, tiny_training


@pytest.mark.parametrize("training", [True, False])
def test_a_forward_is_that_of_the_network(training):
    model, images = tiny_training().train(training), random_images(3, 8)
    seen = model(images)
    vectors = model.network.encode(images.float() / 255)
    rows, loss, codes = model.network.quantizer(vectors)
    assert torch.equal(seen.originals, images.float() / 255)
    assert torch.equal(seen.codes, codes)
    assert torch.equal(seen.quantizer_loss, loss)
    assert torch.equal(seen.reconstruction, model.network.decode(rows))
    shares = torch.bincount(codes.flatten(), minlength=16) / codes.numel()
    assert seen.code_usage.item() == pytest.approx((shares > 0).float().mean().item())
    assert seen.perplexity.item() == pytest.approx(torch.special.entr(shares).sum().exp().item(), rel=1e-5)
    assert seen.judged is seen.real is seen.fake is None
    assert torch.equal(model.to_tokenizer().encode(images), codes)


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_only_training_changes_buffers(update):
    model = tiny_training(update).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(random_images(2, 8), torch.zeros(2, 16))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    codes = model.train()(random_images(2, 8)).codes
    assert torch.equal(model.code_uses, torch.bincount(codes.flatten(), minlength=16))


def test_ema_moves_the_rows_that_were_taken():
    model, images = tiny_training("ema"), random_images(3, 8)
    sums, rows = model.code_sums.clone(), model.weight.detach().clone()
    seen = model(images)
    directions = F.normalize(model.network.encode(images.float() / 255).detach(), dim=-1)
    for code in range(16):
        if (seen.codes == code).any():
            sums[code] = 0.99 * sums[code] + 0.01 * directions[seen.codes == code].sum(0)
            rows[code] = sums[code] / sums[code].norm()
    assert 1 < seen.code_usage.item() * 16 < 16
    torch.testing.assert_close(model.code_sums, sums)
    torch.testing.assert_close(model.weight.detach(), rows)


def test_ema_leaves_the_codebook_to_itself():
    model = tiny_training("ema")
    model(random_images(2, 8)).quantizer_loss.backward()
    assert model.weight.grad is None
    assert model.network.pre_quant.weight.grad.abs().sum() > 0
    assert tiny_training("gradient").weight.requires_grad


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_unused_codes_are_moved_onto_vectors_of_the_batch(update):
    model, images = tiny_training(update), random_images(2, 8)
    model.code_uses.copy_(torch.arange(16) % 2)  # the even codes were not used
    odd = model.weight[1::2].detach().clone()
    vectors = F.normalize(model.network.encode(images.float() / 255).detach(), dim=-1).flatten(0, 1)
    noise = torch.rand(2, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.revive_codes(model.network.encode(images.float() / 255), noise)
    torch.testing.assert_close(model.weight[::2].detach(), vectors[noise.flatten().argsort()[:8]])
    assert torch.equal(model.weight[1::2], odd)
    assert model.code_uses.count_nonzero() == 0
    if update == "ema":
        assert torch.equal(model.code_sums[::2], model.weight[::2])


def test_revived_codes_are_used_at_once_and_learn():
    model, images = tiny_training(), random_images(4, 8)
    with torch.no_grad():
        model.weight[3:] = -model.weight[0]  # nothing looks there
    model(images)
    noise = torch.rand(4, 16, generator=torch.Generator().manual_seed(0))
    seen = model(images, noise)
    assert seen.code_usage > model.eval()(images[:0].new_empty(1, 3, 8, 8).fill_(0)).code_usage
    seen.quantizer_loss.backward()  # the codebook was moved before it entered the graph
    # a code that was moved onto the only vector that takes it is there already
    assert model.weight.grad[seen.codes.unique()].abs().sum(1).gt(0).double().mean() > 0.8


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_it_learns(update):
    model = tiny_training(update, codebook_size=24)
    images = smooth_images(64, 8, seed=5)
    objective = AutoencoderObjective(revive_steps=10)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    start = psnr(images, model.to_tokenizer().decode(model.to_tokenizer().encode(images)))
    for step in range(120):
        rows = torch.arange(16) * 4 + step % 4
        loss, metrics = objective.loss(model, Batch(images[rows]), StepRandom(0, step, slice(0, 16), 16))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    tokenizer = model.eval().to_tokenizer()
    assert psnr(images, tokenizer.decode(tokenizer.encode(images))) > start + 4
    assert metrics["code_usage"] > 0.5
    assert len(tokenizer.encode(images).unique()) > 12


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_the_codebook_begins_at_clusters_of_the_vectors(update):
    model, images = VqganTrainingModel(tiny_network(), codebook_update=update), random_images(20, 8)
    vectors = F.normalize(model.network.encode(images.float() / 255).detach(), dim=-1).flatten(0, 1)

    def fit():
        return (vectors @ F.normalize(model.weight.detach(), dim=1).T).amax(1).mean().item()

    drawn = fit()
    model.init_codebook(images, seed=1, batch_rows=7)
    assert fit() > drawn
    assert torch.allclose(model.weight.norm(dim=1), torch.ones(16))
    other = VqganTrainingModel(tiny_network(), codebook_update=update)
    other.init_codebook(images, seed=1)
    torch.testing.assert_close(other.weight, model.weight)
    assert model(images).code_usage == 1
    with pytest.raises(ValueError, match="32 patches to fit 33 centroids"):
        VqganTrainingModel(tiny_network(codebook_size=33)).init_codebook(images[:2])


def test_the_tokenizer_is_a_copy():
    model, images = tiny_training(), random_images(2, 8)
    tokenizer = model.to_tokenizer(resize="crop")
    tokens = tokenizer.encode(images)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    assert tokenizer.resize == "crop"
    assert torch.equal(tokenizer.encode(images), tokens)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_the_network_of_a_tokenizer_can_be_trained_on(update):
    model = VqganTrainingModel(tiny_tokenizer().network, codebook_update=update)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == ({"network.quantizer.embedding.weight"} if update == "ema" else set())


def test_discriminator_and_autoencoder_learn_from_their_own_terms():
    model = tiny_training(discriminator=PatchDiscriminator(4, 2))
    seen = model(random_images(2, 8))
    assert seen.judged.shape == seen.real.shape == seen.fake.shape == (2, 1, 2, 2)
    assert torch.equal(seen.judged, seen.fake)
    names = dict(model.named_parameters())

    def touched(term):
        found = torch.autograd.grad(term, list(names.values()), allow_unused=True, retain_graph=True)
        return {n.split(".")[0] for n, g in zip(names, found, strict=True) if g is not None and g.count_nonzero()}

    assert touched(seen.judged.mean()) == {"network"}
    assert touched(seen.real.mean() + seen.fake.mean()) == {"discriminator"}


def test_frozen_judgement_has_the_gradient_of_the_images():
    discriminator = PatchDiscriminator(4, 1)
    images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    grads = [
        torch.autograd.grad(judge(images).mean(), images)[0]
        for judge in (discriminator, lambda x: judge_frozen(discriminator, x))
    ]
    assert torch.equal(*grads)


def test_no_row_sees_another_in_the_discriminator():
    discriminator = PatchDiscriminator(4, 3)
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(discriminator(images)[1:2], discriminator(images[1:2]))


def test_impossible_settings_are_errors():
    with pytest.raises(ValueError, match="codebook_update 'mean'; expected one of gradient, ema"):
        VqganTrainingModel(tiny_network(), codebook_update="mean")
    with pytest.raises(ValueError, match=r"codebook_decay 1\.0; expected 0 <= codebook_decay < 1"):
        VqganTrainingModel(tiny_network(), codebook_decay=1.0)
    with pytest.raises(ValueError, match="images of 8 pixels for a discriminator of stride 16"):
        VqganTrainingModel(tiny_network(), discriminator=PatchDiscriminator(4, 4))
    with pytest.raises(ValueError, match="discriminator of width 4 and 0 layers"):
        PatchDiscriminator(4, 0)
    with pytest.raises(ValueError, match=r"expected uint8 \[B,3,8,8\]"):
        tiny_training()(random_images(2, 16))
