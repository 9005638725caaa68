"""Labels and merges that no objective has."""

import pytest

from seit_ray.augment.target_numbers import check_masked_labels, check_merges, check_soft_labels, stream_step


def test_labels_that_a_loss_has_not():
    check_masked_labels(0.1, "ce")
    check_masked_labels(0.0, "bce")
    for smoothing, loss in ((1.0, "ce"), (0.1, "bce")):
        with pytest.raises(ValueError, match=rf"label_smoothing {smoothing} with loss '{loss}'; expected"):
            check_masked_labels(smoothing, loss)
    check_soft_labels(1.0, "dual")
    with pytest.raises(ValueError, match=r"soft_tau 1.0 with loss two_ce_soft_shared, which has no labels; expected 0"):
        check_soft_labels(1.0, "two_ce_soft_shared")


def test_no_more_merges_than_tokens():
    assert check_merges(2, None, 4, 16) == check_merges(2, 16, 4, 16) == 16
    for numbers in ((2, 17, 4, 16), (0, 3, 4, 16), (2, 3, 0, 16)):
        with pytest.raises(ValueError, match=r"correct dtm.levels, dtm.max_removed or dtm.max_iterations"):
            check_merges(*numbers)


def test_tokens_of_another_grid_tile_the_patches():
    assert (stream_step((4, 4), (2, 2)), stream_step((3, 6), (3, 6))) == (2, 1)
    for grid in ((3, 4), (2, 4), (1, 1)):
        with pytest.raises(ValueError, match="expected the same, or a multiple in both"):
            stream_step(grid, (2, 2))
