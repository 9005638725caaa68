"""Cross-entropy in chunks: losses, accuracies and gradients of the plain form."""

import pytest
import torch
from torch.nn import functional as F

from seit_ray.augment.synonyms import nearest_codes
from seit_ray.models.build import build_model
from seit_ray.objectives import Batch, CentroidObjective, MTMObjective, TokenAdaptObjective, code_cross_entropy
from seit_ray.objectives.ccvit_losses import code_loss, soft_labels
from seit_ray.objectives.code_cross_entropy import judge_codes
from tests.objectives.test_ccvit_objective import CODES, GRID, TINY, cases, rng, some_tokens

ROWS, WIDTH = 23, 6


@pytest.fixture(params=[60, 1 << 20], autouse=True)
def chunk(request, monkeypatch):
    """A few rows at a time, and all at once."""
    monkeypatch.setitem(code_cross_entropy.CHUNK_SCORES, "cpu", request.param)
    monkeypatch.setattr(code_cross_entropy, "LEAST_ROWS", 1)


def given(dtype, units=2):
    """Features, weight, bias, with gradients, and targets."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((ROWS, WIDTH), (units * CODES, WIDTH), (units * CODES,))
    parts = [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]
    return parts, torch.randint(CODES, (ROWS, units), generator=generator)


def plain(parts, targets, smoothing, soft):
    features, weight, bias = parts
    scores = F.linear(features, weight, bias).view(-1, CODES)
    accuracy = (scores.argmax(1) == targets.flatten()).float().mean()
    if soft is not None:
        log_p = scores.log_softmax(1)
        loss = -(soft.shares[targets.flatten()] * log_p.gather(1, soft.codes[targets.flatten()])).sum(1).mean()
        return loss, accuracy
    return F.cross_entropy(scores, targets.flatten(), label_smoothing=smoothing), accuracy


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("units", [1, 2])
@pytest.mark.parametrize(("smoothing", "is_soft"), [(0.0, False), (0.2, False), (0.0, True)])
def test_loss_and_gradients_are_those_of_the_plain_form(dtype, units, smoothing, is_soft):
    parts, targets = given(dtype, units)
    codebook = torch.rand(CODES, 12, generator=torch.Generator().manual_seed(1), dtype=dtype)
    soft = soft_labels(codebook, nearest_codes(codebook, 3), 1.0) if is_soft else None
    expected, accuracy = plain(parts, targets, smoothing, soft)
    wanted = torch.autograd.grad(3 * expected, parts)
    found = judge_codes(*parts, targets, smoothing=smoothing, soft=soft)
    exact = {"rtol": 1e-10, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-6}
    assert found.loss.dtype == dtype
    torch.testing.assert_close(found.loss, expected, **exact)
    assert found.accuracy.item() == pytest.approx(accuracy.item())
    for gradient, other in zip(torch.autograd.grad(3 * found.loss, parts), wanted, strict=True):
        torch.testing.assert_close(gradient, other, **exact)


def test_gradients_are_right_by_finite_differences():
    (features, *others), targets = given(torch.float64, units=1)
    parts = [features[:5].detach().requires_grad_(), *others]
    assert torch.autograd.gradcheck(
        lambda *x: judge_codes(*x, targets[:5], smoothing=0.1, counts=False).loss, parts, fast_mode=True
    )


def test_what_learns_not_gets_no_gradient():
    (features, weight, bias), targets = given(torch.float32, units=1)
    with torch.no_grad():
        assert not judge_codes(features, weight, bias, targets).loss.requires_grad
    loss = judge_codes(features, weight.detach(), bias, targets, counts=False).loss
    assert len(torch.autograd.grad(loss, [features, bias])) == 2
    assert judge_codes(features, weight, bias, targets, counts=False).accuracy is None


@pytest.mark.parametrize("block", [torch.no_grad, torch.inference_mode])
def test_an_evaluation_computes_no_gradients(block, monkeypatch):
    parts, targets = given(torch.float32)
    made = []
    monkeypatch.setattr(code_cross_entropy, "add_gradients", lambda *given: made.append(given))
    with block():
        found = judge_codes(*parts, targets)
    assert not made
    assert found.loss.item() == pytest.approx(plain(parts, targets, 0.0, None)[0].item(), rel=1e-5)
    judge_codes(*parts, targets)
    assert made


def test_products_are_in_16_bits_under_autocast_as_the_plain_form_has_them():
    parts, targets = given(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        scores = F.linear(*parts)
        assert scores.dtype == torch.bfloat16
        expected = F.cross_entropy(scores.float().view(-1, CODES), targets.flatten())
        found = judge_codes(*parts, targets)
    assert found.loss.dtype == torch.float32
    torch.testing.assert_close(found.loss, expected)
    gradients, others = (torch.autograd.grad(loss, parts) for loss in (found.loss, expected))
    for gradient, other in zip(gradients, others, strict=True):
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, other, rtol=0.02, atol=2e-4)


class Plainly:
    """Makes an objective's model give scores, whatever it asks for."""

    def __init__(self, objective):
        self.objective = objective

    def loss(self, model, batch, step_rng):
        objective = self.objective
        if isinstance(objective, CentroidObjective):
            objective.judge = lambda codes: None
            return objective.loss(model, batch, step_rng)

        def judged(*arguments, **settings):
            features, weight, bias, targets = arguments
            scores = F.linear(features, weight, bias)
            loss = F.cross_entropy(scores, targets.flatten(), label_smoothing=settings.get("smoothing", 0.0))
            return loss, (scores.argmax(1) == targets.flatten()).float().mean()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("seit_ray.objectives.mtm.judge_codes", judged)
            return objective.loss(model, batch, step_rng)


def mtm_case():
    model = build_model("mtm", grid=GRID, num_codes=CODES, size=TINY, token_dim=8, stem_kernel=2, dropout=0.0)
    return model, MTMObjective(label_smoothing=0.1), some_tokens()


@pytest.mark.parametrize("name", ["mtm", "tokens", "soft", "images", "average"])
def test_objectives_lose_and_learn_as_by_scores(name):
    """Of masked units and of patches that count alone."""
    model, objective, inputs = mtm_case() if name == "mtm" else cases()[name]
    losses, gradients = [], []
    for way in (objective, Plainly(objective)):
        model.zero_grad()
        loss, metrics = way.loss(model, Batch(inputs), rng())
        loss.backward()
        losses.append({"loss": loss.item(), **{name: value.item() for name, value in metrics.items()}})
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    for parameter, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][parameter], atol=1e-7, rtol=1e-4, msg=parameter)


@pytest.mark.parametrize("name", ["mtm", "tokens", "average"])
def test_accuracy_is_left_out_where_nobody_looks(name):
    model, objective, inputs = mtm_case() if name == "mtm" else cases()[name]
    seen, _ = objective.loss(model, Batch(inputs), rng())
    assert objective.looks
    objective.looks = False
    loss, metrics = objective.loss(model, Batch(inputs), rng())
    assert "masked_accuracy" not in metrics
    assert loss.item() == seen.item()


def test_soft_labels_are_those_of_the_plain_loss():
    parts, targets = given(torch.float32)
    codebook = torch.rand(CODES, 12, generator=torch.Generator().manual_seed(1))
    soft = soft_labels(codebook, nearest_codes(codebook, 3), 0.5)
    scores = F.linear(*parts).view(ROWS, 2, CODES)
    torch.testing.assert_close(judge_codes(*parts, targets, soft=soft).loss, code_loss(scores, targets, soft))


def test_every_objective_of_codes_looks():
    assert all(hasattr(cases()[name][1], "looks") for name in ("tokens", "soft", "images", "average"))
    assert "looks" in TokenAdaptObjective.__init__.__code__.co_names
