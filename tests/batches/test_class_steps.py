"""The order of classes, and which come together."""

import numpy as np
import pytest

from seit_ray.batches.class_steps import FIELD_SEED, class_order, class_steps, places_of


def test_the_seed_of_the_field_gives_its_order():
    order = class_order(100, FIELD_SEED)
    assert order[:10].tolist() == [68, 56, 78, 8, 23, 84, 90, 65, 74, 76]  # of CIFAR-100, as papers print it
    assert sorted(order.tolist()) == list(range(100))
    assert class_order(100, FIELD_SEED + 1).tolist() != order.tolist()


@pytest.mark.parametrize(
    ("num_classes", "num_steps", "sizes"), [(10, 5, [2] * 5), (12, 6, [2] * 6), (10, 3, [4, 3, 3]), (2, 2, [1, 1])]
)
def test_steps_share_the_classes_out(num_classes, num_steps, sizes):
    steps = class_steps(num_classes, num_steps)
    assert [len(step) for step in steps] == sizes
    assert [place for step in steps for place in step] == list(range(num_classes))


@pytest.mark.parametrize("num_steps", [1, 11])
def test_steps_without_a_class_are_refused(num_steps):
    with pytest.raises(ValueError, match=f"num_steps {num_steps} of 10 classes; expected 2 to 10"):
        class_steps(10, num_steps)


def test_a_place_is_where_the_order_has_the_class():
    order = class_order(7, 0)
    assert order[places_of(order)].tolist() == list(range(7))
    assert places_of(np.array([2, 0, 1])).tolist() == [1, 2, 0]
