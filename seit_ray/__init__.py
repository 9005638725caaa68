"""Train vision models from stored tokens: images -> tokenizers -> shards -> batches -> models -> evaluation.

The packages follow the data's way. Only `seit_ray.distributed` and `seit_ray.verbs` import
ray, only `seit_ray.config` and `seit_ray.verbs` pydantic.
"""

import os

# Before torch loads its OpenMP: its threads are to sleep while they wait for each other, not to spin. Where others
# share the cores, a thread that spins keeps the very one from running that it waits for (docs/figures.md, "Threads").
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
