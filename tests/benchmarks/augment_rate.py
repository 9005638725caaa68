"""Samples/s of SeiT's whole token augmentation: batched, against python loops over the samples. One thread on CPU.

python tests/benchmarks/augment_rate.py [--batch 128] [--batches 8] [--loop-samples 64] [--grid 32] [--out-grid 28]
    [--codes 391] [--width 32] [--classes 1000] [--device cpu]

The chain: Token-EDA 0.25/0.25, random resized crop, codebook rows, noise on half of the samples, CutMix. Two loops do
the same to one sample at a time, with torch's own operations on whole maps, as a data loader's workers would:
"one-hot" as the papers describe it, K-channel maps that are cropped and then embedded, synonyms token by token;
"embedded" crops D-channel maps and draws the synonyms of a sample at once.
"""

import argparse
import platform
import random
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from seit_ray.augment.chain import Augment
from seit_ray.augment.random import StepRandom
from seit_ray.augment.synonyms import nearest_codes

AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)


def replace_one(tokens: torch.Tensor, synonyms: torch.Tensor, one_hot: bool) -> torch.Tensor:
    """A sample's tokens [h,w], a quarter of them replaced."""
    if one_hot:
        table, flat = synonyms.tolist(), tokens.flatten().tolist()
        flat = [random.choice(table[t]) if random.random() < 0.25 else t for t in flat]
        return torch.tensor(flat, device=tokens.device).view_as(tokens)
    picks = torch.randint(synonyms.shape[1], tokens.shape, device=tokens.device)
    return torch.where(torch.rand(tokens.shape, device=tokens.device) < 0.25, synonyms[tokens, picks], tokens)


def swap_one(tokens: torch.Tensor) -> torch.Tensor:
    """A sample's tokens [h,w] with two squares exchanged."""
    n = min(tokens.shape)
    side = random.randint(1, max(1, n // 4 - 1))
    for _ in range(100):
        y0, x0, y1, x1 = (random.randint(0, n - side) for _ in range(4))
        if (y0 - y1) ** 2 + (x0 - x1) ** 2 > side**2:
            break
    out = tokens.clone()
    out[y0 : y0 + side, x0 : x0 + side] = tokens[y1 : y1 + side, x1 : x1 + side]
    out[y1 : y1 + side, x1 : x1 + side] = tokens[y0 : y0 + side, x0 : x0 + side]
    return out


def crop_box(n: int) -> tuple[int, int, int, int]:
    """Top, left, height, width of a random crop of an n x n grid."""
    for _ in range(10):
        area, ratio = random.uniform(*AREA) * n * n, random.uniform(*ASPECT)
        width, height = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < width <= n and 0 < height <= n:
            return random.randint(0, n - height), random.randint(0, n - width), height, width
    return 0, 0, n, n


def augment_one(tokens: torch.Tensor, codebook: torch.Tensor, synonyms: torch.Tensor, size: int, one_hot: bool):
    """A sample's tokens [h,w] -> map [D,h',w'], all but CutMix."""
    kind = random.random()
    if kind < 0.25:
        tokens = replace_one(tokens, synonyms, one_hot)
    elif kind < 0.5:
        tokens = swap_one(tokens)
    maps = F.one_hot(tokens, len(codebook)).float() if one_hot else codebook[tokens]
    top, left, height, width = crop_box(len(tokens))
    crop = maps.permute(2, 0, 1)[None, :, top : top + height, left : left + width]
    crop = F.interpolate(crop, size=(size, size), mode="bicubic", align_corners=False)[0]
    if one_hot:
        crop = torch.einsum("kd,khw->dhw", codebook, crop)
    if random.random() < 0.5:
        crop = crop + torch.randn(len(crop), 1, 1, device=crop.device) + torch.randn_like(crop)
    return crop


def loop_batch(tokens: torch.Tensor, codebook: torch.Tensor, synonyms: torch.Tensor, size: int, one_hot: bool):
    """A batch of tokens [B,h,w], sample by sample, then CutMix, sample by sample: maps [B,D,h',w']."""
    samples = [augment_one(row, codebook, synonyms, size, one_hot) for row in tokens]
    cut = int(size * (1 - random.random()) ** 0.5)
    y, x = random.randrange(size), random.randrange(size)
    rows, columns = slice(max(0, y - cut // 2), y + (cut + 1) // 2), slice(max(0, x - cut // 2), x + (cut + 1) // 2)
    mixed = []
    for i, sample in enumerate(samples):
        mixed.append(sample.clone())
        mixed[-1][:, rows, columns] = samples[i ^ 1 if i ^ 1 < len(samples) else i][:, rows, columns]
    return torch.stack(mixed)


def rate(run, samples: int, rounds: int, device: torch.device) -> float:
    """Samples/s of the fastest of `rounds`, after one to warm up.

    On the CPU by the processor time of this process, system calls included, so that other work counts little.
    """
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    best = float("inf")
    for i in range(rounds + 1):
        start = clock()
        run(i)
        if device.type == "cuda":
            torch.cuda.synchronize()
        if i:
            best = min(best, clock() - start)
    return samples / best


def machine(device: torch.device) -> str:
    """The processor's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor() or platform.machine()])[0]


def main() -> None:
    """Print the rates and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = {"batch": 128, "batches": 8, "loop-samples": 64, "grid": 32, "out-grid": 28, "codes": 391, "width": 32}
    for name, default in (numbers | {"classes": 1000}).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    o = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = torch.device(o.device)
    codebook = torch.randn(o.codes, o.width, device=device)
    synonyms = nearest_codes(codebook, min(5, o.codes - 1))
    tokens = torch.randint(o.codes, (o.batch, o.grid**2), device=device)
    labels = torch.randint(o.classes, (o.batch,), device=device)
    chain = Augment(
        codebook,
        synonyms=synonyms,
        grid=(o.grid, o.grid),
        out_grid=(o.out_grid, o.out_grid),
        synonym_prob=0.25,
        swap_prob=0.25,
        random_crop=True,
        noise_prob=0.5,
        cutmix_alpha=1.0,
    )
    rows = slice(0, o.batch)
    some = tokens[: o.loop_samples].view(-1, o.grid, o.grid)
    batched = rate(lambda i: chain(tokens, labels, StepRandom(0, i, rows, o.batch, device)), o.batch, o.batches, device)
    print(f"{machine(device)}, 1 thread, Python {platform.python_version()}, torch {torch.__version__}, {o}")
    clock = "wall" if device.type == "cuda" else "processor"
    print(f"batched: {batched:.0f} samples/s, {clock} time")
    for name, one_hot in (("one-hot", True), ("embedded", False)):
        looped = rate(lambda i, h=one_hot: loop_batch(some, codebook, synonyms, o.out_grid, h), len(some), 4, device)
        print(f"loop, {name}: {looped:.0f} samples/s; batched is {batched / looped:.1f} times as fast", flush=True)


if __name__ == "__main__":
    main()
