"""A head that grows, and one that is brought into balance."""

import pytest
import torch

from seit_ray.models.embed import TokenEmbedding
from seit_ray.models.growing import align_head, grow_from
from seit_ray.models.vit import TokenViT
from tests.tiny_trainers import SIZE

TOKENS = torch.arange(32).reshape(2, 16) % 8


def classifier(num_classes, seed=0, width=8):
    torch.manual_seed(seed)
    embedding = TokenEmbedding(8, width)
    return TokenViT(grid=(4, 4), num_classes=num_classes, size=SIZE, embedding=embedding, kernel=2, stride=2).eval()


def test_old_classes_have_the_logits_they_had():
    old, new = classifier(3, seed=1), classifier(5, seed=2)
    drawn = new.head.weight[3:].clone()
    assert grow_from(new, old.state_dict()) == 3
    torch.testing.assert_close(new(TOKENS)[:, :3], old(TOKENS))
    assert torch.equal(new.head.weight[3:], drawn)
    assert drawn.abs().sum() > 0


@pytest.mark.parametrize("num_classes", [3, 2])
def test_a_head_never_shrinks(num_classes):
    old, new = classifier(3), classifier(num_classes, seed=1)
    if num_classes == 3:
        assert grow_from(new, old.state_dict()) == 3
        assert torch.equal(new(TOKENS), old(TOKENS))
    else:
        with pytest.raises(ValueError, match="a head of 3 classes for one of 2"):
            grow_from(new, old.state_dict())


def test_another_model_is_refused():
    with pytest.raises(ValueError, match="weights that differ"):
        grow_from(classifier(5, width=16), classifier(3).state_dict())


def test_new_rows_get_the_mean_length_of_old_ones():
    model = classifier(5)
    with torch.no_grad():
        model.head.weight.mul_(torch.tensor([1.0, 2.0, 3.0, 9.0, 5.0])[:, None])
    before = model.head.weight.detach().clone()
    lengths = before.norm(dim=1)
    factor = align_head(model, 3)
    after = model.head.weight.detach()
    assert torch.equal(after[:3], before[:3])
    assert after[3:].norm(dim=1).mean() == pytest.approx(float(lengths[:3].mean()))
    assert factor == pytest.approx(float(lengths[:3].mean() / lengths[3:].mean()))
    torch.testing.assert_close(after[3:], before[3:] * factor)


@pytest.mark.parametrize("num_old", [0, 5])
def test_there_has_to_be_something_old_and_new(num_old):
    with pytest.raises(ValueError, match=f"{num_old} old classes of 5"):
        align_head(classifier(5), num_old)
