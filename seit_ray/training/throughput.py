"""How fast a run is: samples/s, the share of time spent waiting for data, memory, and the share of the peak rate.

MFU (model FLOPs utilisation, PaLM appendix B): the floating-point operations of forward and backward, as they are, over
those that the devices could have done in the time.
"""

from __future__ import annotations

import functools
import re
import resource
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from seit_ray.training.world import World

SPEED = ("samples_per_s", "data_wait_share", "memory_gib", "mfu")  # what differs between equal runs

# Dense peak rates in TFLOP/s from the makers' data sheets: bf16, tf32, fp32. The first name found in the device's wins.
PEAKS: dict[str, dict[str, float]] = {
    "B200": {"bf16": 2250, "tf32": 1125, "fp32": 75},
    "H200": {"bf16": 989, "tf32": 494, "fp32": 67},
    "H100 PCIe": {"bf16": 756, "tf32": 378, "fp32": 51},
    "H100 NVL": {"bf16": 835, "tf32": 417, "fp32": 60},
    "H100": {"bf16": 989, "tf32": 494, "fp32": 67},
    "A100": {"bf16": 312, "tf32": 156, "fp32": 19.5},
    "A10G": {"bf16": 70, "tf32": 35, "fp32": 31.2},
    "A10": {"bf16": 125, "tf32": 62.5, "fp32": 31.2},
    "L40S": {"bf16": 362, "tf32": 183, "fp32": 91.6},
    "L40": {"bf16": 181, "tf32": 90.5, "fp32": 90.5},
    "L4": {"bf16": 121, "tf32": 60, "fp32": 30.3},
    "RTX 4090": {"bf16": 165, "tf32": 82.6, "fp32": 82.6},
    "V100": {"fp32": 15.7},
    "T4": {"fp32": 8.1},
}
MATMUL_SIDES = (128, 256, 512, 1024)  # of the square matrices that a CPU is measured with
MATMUL_ROUNDS = 5
MATMUL_S = 0.01  # no larger ones when a product takes so long: some CPUs need seconds for one of 1,024 in bf16


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Floating-point operations a second of one device at a precision (bf16, tf32, fp32); None where not known.

    That of a CPU is measured: the best of a few matrix products with this process's threads.
    """
    if device.type == "cpu":
        return matmul_rate(precision, torch.get_num_threads())
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    rates = next((rates for known, rates in PEAKS.items() if re.search(rf"\b{known}\b", name)), {})
    return rates[precision] * 1e12 if precision in rates else None


@functools.lru_cache(maxsize=4)
def matmul_rate(precision: str, num_threads: int) -> float:
    """FLOP/s of square matrix products on the CPU; `num_threads` says which measurement this is."""
    del num_threads
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    for side in MATMUL_SIDES:
        a = torch.ones(side, side, dtype=dtype)
        best_s = min(seconds_of(functools.partial(torch.mm, a, a)) for _ in range(MATMUL_ROUNDS))
        if best_s > MATMUL_S:
            break
    return 2 * side**3 / best_s


def seconds_of(work: Callable[[], object]) -> float:
    """How long it takes."""
    since = time.perf_counter()
    work()
    return time.perf_counter() - since


class FlopCounter(TorchDispatchMode):
    """A block whose matrix products, convolutions and attention are counted, forward and backward.

    By torch's own table of them. torch's FlopCounterMode, which also counts by module, takes many times a small step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Have an operation done, and add what it takes."""
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.flops += count(*args, **(kwargs or {}), out_val=out)
        return out


class Throughput:
    """The speed of the steps since the last record; `flops_per_sample` is set once it is counted."""

    def __init__(self, world: World, precision: str):
        self.world = world
        self.peak = peak_flops(world.device, precision) if world.is_main else None
        self.flops_per_sample = 0.0
        self.restart(0.0)

    def restart(self, wait_s: float) -> None:
        """Begin a new window; `wait_s` as of now."""
        self.since, self.waited_s = time.perf_counter(), wait_s

    def record(self, samples: int, wait_s: float) -> dict[str, Any]:
        """The figures of SPEED for `samples` of all ranks since the last restart."""
        elapsed = max(time.perf_counter() - self.since, 1e-9)
        rate = samples / elapsed
        figures = {
            "samples_per_s": round(rate, 1),
            "data_wait_share": round(min(1.0, (wait_s - self.waited_s) / elapsed), 4),
            "memory_gib": round(peak_memory(self.world.device) / 2**30, 3),
        }
        if self.peak and self.flops_per_sample:
            figures["mfu"] = round(rate * self.flops_per_sample / (self.peak * self.world.size), 4)
        return figures


def peak_memory(device: torch.device) -> int:
    """Most bytes this process has used: on its GPU, or of the machine's memory where it has none."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
