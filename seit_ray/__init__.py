"""Train vision models from stored tokens: images -> tokenizers -> shards -> batches -> models -> evaluation.

The packages follow the data's way. Only `seit_ray.distributed` and `seit_ray.verbs` import
ray, only `seit_ray.config` and `seit_ray.verbs` pydantic.
"""

__version__ = "0.1.0"
