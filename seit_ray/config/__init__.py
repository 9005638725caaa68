"""What a user can set: one pydantic model a verb, read from YAML and key=value overrides; unknown keys are refused.

Below the pipelines nothing sees these classes: a verb passes plain keyword arguments on (`model_dump`).
"""

from seit_ray.config.augment import Augment, Masking
from seit_ray.config.continual import StudyContinual
from seit_ray.config.costs import GivenRates, PlanCost
from seit_ray.config.deciding import deciding, deciding_keys, defaults
from seit_ray.config.exchange import ExportTokens, ImportTokens, ImportWeights, RecodeTokens, TokenFiles
from seit_ray.config.keys import fields, holds_secret, type_name
from seit_ray.config.loading import load, write
from seit_ray.config.loop import FinetuneLoop, FinetuneOptimizer, Loop, Optimizer
from seit_ray.config.methods import Ccvit, Dtm, PretrainPixels
from seit_ray.config.quickstart import FinetunePart, PretrainPart, Quickstart, RunAll
from seit_ray.config.sections import Cluster, Section, Source, Storage, Tokenize
from seit_ray.config.storage_curve import Pictures, StudyStorageCurve, Tokens
from seit_ray.config.study import Study, Trials
from seit_ray.config.sweep import Search, Sweep, SweepPretrain
from seit_ray.config.tokenadapt import TrainTokenAdapt
from seit_ray.config.tokenizers import Centroid, VitVqgan, VqganLoop, VqganOptimizer
from seit_ray.config.training import Classifier, Model, Pixels, Probe, Segment, Workers, WorkersHere
from seit_ray.config.trainings import Finetune, Pretrain, Training
from seit_ray.config.transfer import StudyPretraining, StudyTokenizer, StudyTraining, StudyTransfer
from seit_ray.config.verbs import Evaluate, FitTokenizer, InspectTokens, Predict, TokenizeImages, Verb

__all__ = [
    "Augment",
    "Ccvit",
    "Centroid",
    "Classifier",
    "Cluster",
    "Dtm",
    "Evaluate",
    "ExportTokens",
    "Finetune",
    "FinetuneLoop",
    "FinetuneOptimizer",
    "FinetunePart",
    "FitTokenizer",
    "GivenRates",
    "ImportTokens",
    "ImportWeights",
    "InspectTokens",
    "Loop",
    "Masking",
    "Model",
    "Optimizer",
    "Pictures",
    "Pixels",
    "PlanCost",
    "Predict",
    "Pretrain",
    "PretrainPart",
    "PretrainPixels",
    "Probe",
    "Quickstart",
    "RecodeTokens",
    "RunAll",
    "Search",
    "Section",
    "Segment",
    "Source",
    "Storage",
    "Study",
    "StudyContinual",
    "StudyPretraining",
    "StudyStorageCurve",
    "StudyTokenizer",
    "StudyTraining",
    "StudyTransfer",
    "Sweep",
    "SweepPretrain",
    "TokenFiles",
    "Tokenize",
    "TokenizeImages",
    "Tokens",
    "TrainTokenAdapt",
    "Training",
    "Trials",
    "Verb",
    "VitVqgan",
    "VqganLoop",
    "VqganOptimizer",
    "Workers",
    "WorkersHere",
    "deciding",
    "deciding_keys",
    "defaults",
    "fields",
    "holds_secret",
    "load",
    "type_name",
    "write",
]
