"""What is taken for what, against counting by hand."""

import numpy as np
import torch

from seit_ray.evaluation.confusion import confusion_counts, most_taken_for


class First(torch.nn.Module):
    """The first token is the class."""

    def forward(self, tokens):
        assert not self.training
        return torch.nn.functional.one_hot(tokens[:, 0], 4).float()


def test_rows_are_true_classes_and_columns_what_was_said():
    labels = torch.tensor([0, 0, 0, 1, 1, 3, 3])
    said = torch.tensor([0, 2, 2, 1, 0, 3, 3])
    for batch_size in (1, 3, 512):
        counts = confusion_counts(First(), said[:, None], labels, 4, batch_size)
        assert counts.tolist() == [[1, 0, 2, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 2]]
    assert most_taken_for(counts) == [(2, 2), (0, 1), None, None]
    assert counts.trace() == 4  # it is not changed by what looks at it


def test_of_equals_the_first_is_named():
    assert most_taken_for(np.array([[5, 1, 1], [0, 3, 0], [0, 2, 0]])) == [(1, 1), None, (1, 2)]
