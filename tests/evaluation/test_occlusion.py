"""Units removed or shuffled, against a model that is written out."""

import pytest
import torch

from seit_ray.evaluation.cases import Case
from seit_ray.evaluation.occlusion import logits_under, unit_order
from tests.tiny_trainers import tiny_classifier, tiny_store

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def seen():
    """(model, tokens, patches [8,4,D])."""
    model = tiny_classifier().eval()
    with torch.no_grad():
        model.head.weight.normal_(generator=torch.Generator().manual_seed(1))
        tokens = torch.from_numpy(tiny_store(8).tokens.astype("int64"))
        yield model, tokens, model.patch_embed(model.embed(tokens))


def test_with_all_units_it_is_the_model(seen):
    model, tokens, patches = seen
    assert torch.equal(model.logits_of(patches), model(tokens))
    model.pool = "cls"
    assert torch.equal(model.logits_of(patches), model(tokens))
    model.pool = "mean"


def test_removed_units_are_not_there(seen):
    model, _, patches = seen
    order = torch.tensor([[2, 0, 3, 1]]).expand(8, -1)
    found = logits_under(Case("occlusion", 0.5), model, patches, order)
    changed = patches.clone()
    changed[:, [0, 2]] = 9.0
    assert torch.equal(logits_under(Case("occlusion", 0.5), model, changed, order), found)
    x = torch.cat([model.cls_token.expand(8, -1, -1), patches[:, [1, 3]]], dim=1) + model.pos_embed[:, [0, 2, 4]]
    for block in model.blocks:
        x = block(x)
    assert torch.allclose(found, model.head(model.norm(x[:, 1:].mean(1))), atol=1e-5)


def test_shuffled_units_all_move(seen):
    model, _, patches = seen
    order = torch.tensor([[2, 0, 3, 1]]).expand(8, -1)
    # the place of each of the first three takes what the next one in the order has
    moved = patches[:, [3, 1, 0, 2]]
    assert torch.equal(logits_under(Case("shuffle", 0.75), model, patches, order), model.logits_of(moved))
    whole = patches[:, [3, 2, 0, 1]]
    assert torch.equal(logits_under(Case("shuffle", 1.0), model, patches, order), model.logits_of(whole))


def test_the_order_is_that_of_the_row():
    whole = unit_order(slice(0, 10), 10, 6, CPU)
    assert torch.equal(unit_order(slice(4, 7), 10, 6, CPU), whole[4:7])
    assert (whole.sort(1).values == torch.arange(6)).all()
    assert len({tuple(row) for row in whole.tolist()}) > 5
