"""What a user can set: one pydantic model a verb, read from YAML and key=value overrides; unknown keys are refused.

Below the pipelines nothing sees these classes: a verb passes plain keyword arguments on (`model_dump`).
"""

from seit_ray.config.keys import fields, holds_secret, type_name
from seit_ray.config.loading import load
from seit_ray.config.sections import (
    Augment,
    Centroid,
    Classifier,
    Cluster,
    FinetuneLoop,
    FinetuneOptimizer,
    Loop,
    Masking,
    Model,
    Optimizer,
    Section,
    Source,
    Storage,
    TokenizeSettings,
    Workers,
)
from seit_ray.config.verbs import (
    Evaluate,
    Finetune,
    FinetunePart,
    FitTokenizer,
    InspectTokens,
    Pretrain,
    PretrainPart,
    Quickstart,
    TokenizeImages,
    Training,
    Verb,
)

__all__ = [
    "Augment",
    "Centroid",
    "Classifier",
    "Cluster",
    "Evaluate",
    "Finetune",
    "FinetuneLoop",
    "FinetuneOptimizer",
    "FinetunePart",
    "FitTokenizer",
    "InspectTokens",
    "Loop",
    "Masking",
    "Model",
    "Optimizer",
    "Pretrain",
    "PretrainPart",
    "Quickstart",
    "Section",
    "Source",
    "Storage",
    "TokenizeImages",
    "TokenizeSettings",
    "Training",
    "Verb",
    "Workers",
    "fields",
    "holds_secret",
    "load",
    "type_name",
]
