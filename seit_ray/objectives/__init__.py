"""What is learnt. One contract, a dict of objectives, and no training loop.

An objective is an object made from plain keyword arguments with one method:

    loss(model, batch, step_rng) -> (loss, metrics)

- `batch` is this rank's rows of the global batch (`Batch`), `step_rng` the step's random numbers for just
  those rows (`StepRandom`). An objective draws from nothing else, so any number of workers computes the same
  loss. (Dropout inside a model draws from torch's own generator.)
- `loss` is a float32 scalar, the mean over this rank's rows, each with the same weight. While all ranks have
  equally many rows, the mean that DistributedDataParallel takes of the gradients is that of the global batch.
  With uneven ranks it is not: scaling the loss by rows * world_size / global_batch_size before backward, as
  the loop does, is exact in both cases.
- `metrics` are detached scalars on the device, means over the same rows, to be averaged in the same way.
- Nothing in a loss waits for the device.
"""

from seit_ray.objectives.autoencoder import AutoencoderObjective
from seit_ray.objectives.ccvit import CentroidObjective
from seit_ray.objectives.contract import Batch, Objective
from seit_ray.objectives.dtm import MorphedMTMObjective, MorphingObjective
from seit_ray.objectives.mtm import MTMObjective
from seit_ray.objectives.segmentation import SegmentObjective
from seit_ray.objectives.supervised import SupervisedObjective
from seit_ray.objectives.tokenadapt import TokenAdaptObjective

__all__ = [
    "OBJECTIVES",
    "AutoencoderObjective",
    "Batch",
    "CentroidObjective",
    "MTMObjective",
    "MorphedMTMObjective",
    "MorphingObjective",
    "Objective",
    "SegmentObjective",
    "SupervisedObjective",
    "TokenAdaptObjective",
]

OBJECTIVES = {
    "autoencoder": AutoencoderObjective,
    "ccvit": CentroidObjective,
    "dtm": MorphingObjective,
    "dtm_tokens": MorphedMTMObjective,
    "mtm": MTMObjective,
    "segmentation": SegmentObjective,
    "supervised": SupervisedObjective,
    "tokenadapt": TokenAdaptObjective,
}
