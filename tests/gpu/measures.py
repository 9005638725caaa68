"""What is measured on a device: each measure takes a device and a form, and gives its figures by name.

A figure is {mean, spread (standard deviation), n, unit}. The form says how large everything is: that of a GPU is that
of the papers, the small one runs on two cores in a minute or two and shows that the measures work, no more.
"""

from __future__ import annotations

import functools
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from seit_ray.augment.chain import Augment
from seit_ray.augment.random import StepRandom
from seit_ray.augment.synonyms import nearest_codes
from seit_ray.batches.store import TokenStore
from seit_ray.models.build import build_model
from seit_ray.models.variants import build_size
from seit_ray.objectives import Batch, MTMObjective, SupervisedObjective
from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.tokenizers.fit_numbers import build_vqgan_size
from seit_ray.tokenizers.kmeans import fit_kmeans
from seit_ray.tokenizers.uploads import parts_on
from seit_ray.tokenizers.vit_vqgan.network import VitVqgan
from seit_ray.tokenizers.vit_vqgan.tokenizer import VitVqganTokenizer
from seit_ray.training.loop import Trainer
from seit_ray.training.metrics import read_metrics
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.throughput import FlopCounter, peak_flops
from seit_ray.training.world import World
from tests.benchmarks.train_rate import MEAN_RATIO, PlainMTM, plain

Figures = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Form:
    """Sizes of all measures."""

    size: str = "base"
    grid: int = 28
    codes: int = 391
    classes: int = 1000
    batch: int = 2048
    window_steps: int = 15
    windows: int = 5
    plain_batch: int = 512
    plain_steps: int = 10
    images: int = 2048
    encode_batch: int = 256
    rounds: int = 3
    vqgans: tuple[str, ...] = ("small", "base")
    vqgan_pixels: int = 256
    points: int = 9_800_000
    width: int = 768
    centroids: int = 8192
    augmented: int = 4096
    jpegs: int = 512


SMALL = Form(
    size="nano",
    grid=8,
    classes=10,
    batch=32,
    window_steps=2,
    windows=3,
    plain_batch=32,
    plain_steps=2,
    images=8,
    encode_batch=4,
    rounds=2,
    vqgans=("nano",),
    vqgan_pixels=32,
    points=20_000,
    width=48,
    centroids=64,
    augmented=64,
    jpegs=16,
)


def figure(values: Sequence[float], unit: str) -> dict[str, Any]:
    """Mean and spread of some values of one thing."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.mean(values), "spread": spread, "n": len(values), "unit": unit}


def settle(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """How long a call takes until the device is done."""
    settle(device)
    began = time.perf_counter()
    work()
    settle(device)
    return time.perf_counter() - began


def rates(work: Callable[[], Any], amount: int, form: Form, device: torch.device, unit: str) -> dict[str, Any]:
    """Amount a second of calls, after a first one."""
    work()
    return figure([amount / seconds(work, device) for _ in range(form.rounds)], unit)


def training(kind: str, device: torch.device, form: Form) -> Figures:
    """The whole loop beside a plain eager implementation: samples/s, shares of the peak, the micro-batch found."""
    settings, ours, plainly = case_of(kind, form)
    torch.manual_seed(0)
    peak = peak_flops(device, "bf16" if device.type == "cuda" else "fp32") or float("nan")
    flops = useful_flops(kind, settings, ours, form, device)
    records, micro_batch = loop_records(kind, settings, ours, form, device)
    loop = [record["samples_per_s"] for record in records]
    other, rows = plain_rates(kind, settings, plainly, form, device)
    compiled = figure(loop, "samples/s")
    return {
        "samples_per_s": compiled,
        "mfu": figure([rate * flops / peak for rate in loop], "share"),
        "data_wait_share": figure([record["data_wait_share"] for record in records], "share"),
        "memory_gib": figure([record["memory_gib"] for record in records], "GiB"),
        "micro_batch": figure([micro_batch], "rows"),
        "plain_samples_per_s": figure(other, "samples/s"),
        "plain_mfu": figure([rate * flops / peak for rate in other], "share"),
        "plain_batch": figure([rows], "rows"),
        "times_plain": figure([compiled["mean"] / statistics.mean(other)], "times"),
        "gflop_a_sample": figure([flops / 1e9], "GFLOP"),
    }


def case_of(kind: str, form: Form) -> tuple[dict[str, Any], Any, Any]:
    """Settings of the model, its objective, and that of the plain implementation."""
    shared = {"size": build_size(form.size), "grid": (form.grid, form.grid), "num_codes": form.codes}
    shared |= {"token_dim": 32, "stem_kernel": 2, "dropout": 0.1}
    if kind == "mtm":
        fixed = MTMObjective(mask_ratio_mu=MEAN_RATIO, mask_ratio_std=0.0)
        return {**shared, "mask_ratio_min": 0.4}, fixed, PlainMTM()
    more = {"num_classes": form.classes, "drop_path": 0.1}
    return {**shared, **more}, SupervisedObjective(), SupervisedObjective()


def tokens_of(rows: int, form: Form) -> TokenStore:
    """Random tokens and labels."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(form.codes, size=(rows, form.grid**2)).astype(np.uint16)
    return TokenStore(tokens, generator.integers(form.classes, size=rows))


def batch_on(device: torch.device, rows: int, form: Form) -> Batch:
    """Some of them on a device."""
    return tokens_of(rows, form).batch(slice(0, rows), device)


def useful_flops(kind: str, settings: dict[str, Any], objective: Any, form: Form, device: torch.device) -> float:
    """Operations of a sample, forward and backward, with nothing computed twice (PaLM, appendix B)."""
    model, batch = build_model(kind, **settings).to(device).train(), batch_on(device, 2, form)
    with FlopCounter() as counted, sdpa_kernel(SDPBackend.MATH):  # the fused backward computes products again
        objective.loss(model, batch, StepRandom(0, 0, slice(0, 2), 2, device))[0].backward()
    return counted.flops / 2


def loop_records(
    kind: str, settings: dict[str, Any], objective: Any, form: Form, device: torch.device
) -> tuple[list[dict[str, Any]], int]:
    """Records of the training loop with its defaults, without the first window, and the micro-batch that it found."""
    with tempfile.TemporaryDirectory() as name:
        trainer = Trainer(
            model=build_model(kind, **settings),
            objective=objective,
            store=tokens_of(form.batch * form.window_steps, form),
            evaluate=lambda net, epoch: {},
            run=Folder(name).join("run"),
            loop=LoopSettings(
                epochs=form.windows + 1,
                global_batch_size=form.batch,
                log_every_steps=form.window_steps,
                eval_every_epochs=10**6,
                checkpoint_every_epochs=10**6,
                trackers=(),
            ),
            optimizer=OptimizerSettings(lr=1e-4, warmup_epochs=0.1),
            identity={"kind": kind},
            world=World(device=device),
        )
        trainer.train()
        return read_metrics(trainer.run)[1:], trainer.micro_batches.limit or form.batch


def plain_rates(
    kind: str, settings: dict[str, Any], objective: Any, form: Form, device: torch.device
) -> tuple[list[float], int]:
    """samples/s of steps as one writes them first, on resident data, at half the batch until it fits; and the batch."""
    rows = form.plain_batch
    while True:
        try:
            model = plain(build_model(kind, **settings)).to(device).train()
            step = plain_step(model, objective, batch_on(device, rows, form))
            for _ in range(2):
                step()
            samples = form.plain_steps * rows
            return [samples / seconds(functools.partial(repeated, step, form), device) for _ in range(3)], rows
        except torch.OutOfMemoryError:
            if rows <= 2:
                raise
        rows //= 2
        torch.cuda.empty_cache()


def repeated(step: Callable[[], None], form: Form) -> None:
    """Some steps."""
    for _ in range(form.plain_steps):
        step()


def plain_step(model: nn.Module, objective: Any, batch: Batch) -> Callable[[], None]:
    """A step with torch's own AdamW, in bf16 on a GPU."""
    optimizer, device, rows = torch.optim.AdamW(model.parameters(), lr=1e-4), batch.inputs.device, len(batch.inputs)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss, _ = objective.loss(model, batch, StepRandom(0, 0, slice(0, rows), rows, device))
        loss.backward()
        optimizer.step()

    return step


def tokenising(device: torch.device, form: Form) -> Figures:
    """images/s from pixels on the host to tokens on the host, and of the encoder alone on pixels that are there."""
    side, found = form.vqgan_pixels, {}
    for codes, pixels, patch in ((1024, side, 8), (8192, side // 32 * 28, 16)):
        count = min(codes, 16 * form.centroids)
        codebook = torch.rand(count, 3 * patch**2, generator=torch.Generator().manual_seed(0))
        centroids = CentroidTokenizer(codebook, image_size=max(pixels // patch, 1) * patch, patch_size=patch)
        found |= encoding(f"centroid K {codes}", centroids.to(device), device, form)
    for size in form.vqgans:
        torch.manual_seed(0)
        network = VitVqgan(
            image_size=side, patch_size=8, codebook_size=8192, code_width=32, encoder=build_vqgan_size(size)
        )
        found |= encoding(f"ViT-VQGAN {size}", VitVqganTokenizer(network).to(device), device, form)
    return found


def encoding(name: str, tokenizer: Tokenizer, device: torch.device, form: Form) -> Figures:
    """images/s of a tokenizer on the way that the tokenising job goes, and alone."""
    side = tokenizer.image_size
    images = torch.randint(256, (form.images, 3, side, side), dtype=torch.uint8)
    resident = images[: form.encode_batch].to(device)

    def through() -> Tensor:
        parts = parts_on(device, images, form.encode_batch)
        return torch.cat([tokenizer.encode(part).to(torch.int32) for part in parts]).cpu()

    def alone() -> None:
        for _ in range(form.images // form.encode_batch):
            tokenizer.encode(resident)

    whole, encoder = (rates(work, form.images, form, device, "images/s") for work in (through, alone))
    share = figure([whole["mean"] / encoder["mean"]], "share")
    return {f"{name}: images_per_s": whole, f"{name}: encoder_alone": encoder, f"{name}: of_encoder": share}


def decoding(device: torch.device, form: Form) -> Figures:
    """images/s of decoding JPEG files of 500x375 to 256x256 on all CPUs of the machine, and on one."""
    del device  # CPUs decode
    files, ways = [jpeg(number) for number in range(form.jpegs)], decoders()
    cpus = os.cpu_count() or 1
    found: Figures = {"cpus": figure([cpus], "rows")}
    for name, decode in ways.items():
        with ThreadPoolExecutor(cpus) as pool:
            work = lambda pool=pool, decode=decode: list(pool.map(decode, files))  # noqa: E731
            found[f"{name}: images_per_s"] = rates(work, len(files), form, torch.device("cpu"), "images/s")
        few = files[: max(1, len(files) // cpus)]
        alone = lambda few=few, decode=decode: [decode(data) for data in few]  # noqa: E731
        found[f"{name}: one_cpu"] = rates(alone, len(few), form, torch.device("cpu"), "images/s")
    return found


def jpeg(number: int) -> bytes:
    """A file with as much detail as a photograph has, roughly: smooth noise of several sizes."""
    from PIL import Image

    generator, mixed = np.random.default_rng(number), np.zeros((375, 500, 3), np.float32)
    for cells in (4, 16, 64, 250):
        coarse = generator.integers(256, size=(cells, cells, 3)).astype(np.uint8)
        mixed += np.asarray(Image.fromarray(coarse).resize((500, 375)), np.float32) / 4
    buffer = io.BytesIO()
    Image.fromarray(mixed.astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def decoders() -> dict[str, Callable[[bytes], Any]]:
    """Ways to decode that this machine has: those of the project, which need simplejpeg, and Pillow alone."""
    from PIL import Image

    def pillow(data: bytes) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize((256, 256)))

    ways: dict[str, Callable[[bytes], Any]] = {"pillow": pillow}
    try:
        import simplejpeg  # noqa: F401
    except ImportError:
        return ways
    from seit_ray.images.decode import decode_image

    for mode in ("exact", "fast"):
        ways[mode] = lambda data, mode=mode: decode_image(data, image_size=256, resize="squash", mode=mode)
    return ways


def fitting(device: torch.device, form: Form) -> Figures:
    """Seconds of 20 iterations of k-means, with its start, of points that lie on the device."""
    generator = torch.Generator(device).manual_seed(0)
    middles = torch.randint(40, 216, (form.centroids, form.width), generator=generator, device=device)
    points = torch.empty(form.points, form.width, dtype=torch.uint8, device=device)
    for part in points.split(1 << 18):
        own = torch.randint(form.centroids, (len(part),), generator=generator, device=device)
        noise = torch.randint(-40, 40, part.shape, generator=generator, device=device, dtype=torch.int16)
        part.copy_(middles[own] + noise)
    took = seconds(lambda: fit_kmeans(points, form.centroids, iterations=20, seed=0, tolerance=0.0), device)
    return {"fit_s": figure([took], "s")}


def augmenting(device: torch.device, form: Form) -> Figures:
    """samples/s of SeiT's whole token augmentation."""
    codebook, grid, rows = torch.randn(form.codes, 32, device=device), (form.grid + 4,) * 2, form.augmented
    chain = Augment(
        codebook,
        synonyms=nearest_codes(codebook, 5),
        grid=grid,
        out_grid=(form.grid, form.grid),
        synonym_prob=0.25,
        swap_prob=0.25,
        random_crop=True,
        noise_prob=0.5,
        cutmix_alpha=1.0,
    )
    tokens = torch.randint(form.codes, (rows, grid[0] * grid[1]), device=device)
    labels = torch.randint(form.classes, (rows,), device=device)

    def work() -> None:
        chain(tokens, labels, StepRandom(0, 0, slice(0, rows), rows, device))

    return {"samples_per_s": rates(work, rows, form, device, "samples/s")}


# name -> (measure, seconds that it may take on a GPU with its warm-up and compilation)
MEASURES: dict[str, tuple[Callable[[torch.device, Form], Figures], float]] = {
    "MTM": (lambda device, form: training("mtm", device, form), 130),
    "tokenising": (tokenising, 60),
    "ViT": (lambda device, form: training("classifier", device, form), 130),
    "k-means": (fitting, 60),
    "augmentation": (augmenting, 10),
    "JPEG": (decoding, 30),
}
# figure -> (what it should be, whether less is better), on an H200
GOALS = {
    "MTM / mfu": (0.45, False),
    "MTM / times_plain": (2.0, False),
    "tokenising / centroid K 1024: of_encoder": (0.9, False),
    "tokenising / centroid K 8192: of_encoder": (0.9, False),
    "tokenising / ViT-VQGAN small: of_encoder": (0.9, False),
    "tokenising / ViT-VQGAN base: of_encoder": (0.9, False),
    "k-means / fit_s": (15.0, True),
}
