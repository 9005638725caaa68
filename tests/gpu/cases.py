"""What has to hold on a device, as plain functions of it: no pytest is needed where a GPU is rented for minutes.

Each takes a device and raises an AssertionError; on a CPU they run in the same way, against the CPU.
"""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Callable, Iterator
from functools import partialmethod
from typing import Any

import numpy as np
import torch
from torch import nn

from seit_ray.augment.chain import Augment
from seit_ray.augment.random import StepRandom
from seit_ray.augment.synonyms import nearest_codes
from seit_ray.batches.store import TokenStore
from seit_ray.models.build import build_model
from seit_ray.models.variants import Size
from seit_ray.objectives import Batch, MTMObjective, SupervisedObjective
from seit_ray.storage import Folder
from seit_ray.tokenizers.device_search import search_roughly
from seit_ray.tokenizers.search import nearest
from seit_ray.training.loop import Trainer
from seit_ray.training.metrics import read_metrics
from seit_ray.training.optimizer import build_optimizer, gradient_norm, set_lr, take_step
from seit_ray.training.requests import Requests, Stopped
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.world import World

GRID, CODES, CLASSES, ROWS, BATCH = (8, 8), 64, 5, 128, 32
SIZE = Size(32, 3, 2, decoder_width=16, decoder_depth=2, decoder_num_heads=2)
MASKED: dict[str, Any] = {"grid": GRID, "num_codes": CODES, "size": SIZE, "token_dim": 8, "stem_kernel": 2}
CLOSE = {"rtol": 1e-3, "atol": 1e-5}  # sums of float32 in another order


def store() -> TokenStore:
    """Rows whose label shows in their tokens."""
    generator = np.random.default_rng(0)
    labels = generator.integers(CLASSES, size=ROWS)
    tokens = (generator.integers(CODES // 2, size=(ROWS, GRID[0] * GRID[1])) + 6 * labels[:, None]) % CODES
    return TokenStore(tokens.astype(np.uint16), labels)


def masked_model(seed: int = 0, **more: Any) -> nn.Module:
    """A seeded masked token model without dropout."""
    torch.manual_seed(seed)
    return build_model("mtm", **{**MASKED, "dropout": 0.0, **more})


def trainer(run: Folder, device: torch.device, *, objective: Any = None, model: Any = None, **loop: Any) -> Trainer:
    """A short training of masked tokens."""
    settings = {"epochs": 2, "global_batch_size": BATCH, "log_every_steps": 1, "trackers": (), "precision": "fp32"}
    settings |= {"tf32": False, "compile": False}
    return Trainer(
        model=model or masked_model(),
        objective=objective or MTMObjective(),
        store=store(),
        evaluate=lambda net, epoch: {},
        run=run,
        loop=LoopSettings(**{**settings, **loop}),
        optimizer=OptimizerSettings(lr=1e-3, warmup_epochs=0.5),
        identity={"kind": "mtm"},
        world=World(device=device),
    )


@contextlib.contextmanager
def new_run() -> Iterator[Folder]:
    """A folder for a run."""
    with tempfile.TemporaryDirectory() as name:
        yield Folder(name).join("run")


def losses_of(device: torch.device, **settings: Any) -> tuple[list[float], Trainer]:
    """The loss of every step of a training from the start, and its trainer."""
    with new_run() as run:
        made = trainer(run, device, **settings)
        made.train()
        return [record["train_loss"] for record in read_metrics(run)], made


def parity_of_a_step(device: torch.device) -> None:
    """Loss and gradients of a step are those of a CPU, and so is all that is drawn for it."""
    model, objective, rows = masked_model(), MTMObjective(label_smoothing=0.1), store().tokens[:BATCH].astype("int64")
    found = []
    for place in (torch.device("cpu"), device):
        net, rng = copy.deepcopy(model).to(place), StepRandom(0, 3, slice(0, BATCH), BATCH, place)
        loss, metrics = objective.loss(net, Batch(torch.from_numpy(rows).to(place)), rng)
        loss.backward()
        found.append((loss, metrics, net, rng.uniform("a use", 4), rng.integers("another", 9, 4)))
    (loss, metrics, net, numbers, wholes), other = found
    torch.testing.assert_close(other[0].cpu(), loss, **CLOSE)
    for name, value in metrics.items():
        torch.testing.assert_close(other[1][name].cpu(), value, rtol=0, atol=0.01)
    for (name, mine), theirs in zip(net.named_parameters(), other[2].parameters(), strict=True):
        torch.testing.assert_close(theirs.grad.cpu(), mine.grad, **CLOSE, msg=name)
    assert torch.equal(other[3].cpu(), numbers)
    assert torch.equal(other[4].cpu(), wholes)


def parity_of_augmentation(device: torch.device) -> None:
    """The chain draws the same and gives the same maps."""
    codebook = torch.randn(CODES, 8, generator=torch.Generator().manual_seed(0))
    tokens, labels = torch.from_numpy(store().tokens[:BATCH].astype("int64")), torch.arange(BATCH) % CLASSES
    found = []
    for place in (torch.device("cpu"), device):
        chain = Augment(
            codebook.to(place),
            synonyms=nearest_codes(codebook, 5).to(place),
            grid=GRID,
            synonym_prob=0.25,
            swap_prob=0.25,
            random_crop=True,
            noise_prob=0.5,
            cutmix_alpha=1.0,
        )
        rng = StepRandom(0, 1, slice(0, BATCH), BATCH, place)
        found.append(chain(tokens.to(place), labels.to(place), rng))
    torch.testing.assert_close(found[1].inputs.cpu(), found[0].inputs, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found[1].weight.cpu(), found[0].weight)


def parity_of_muon(device: torch.device) -> None:
    """Its steps are near those of a CPU, and one whose gradients are not finite changes nothing."""
    start, found = dict(masked_model().named_parameters()), []
    for place in (torch.device("cpu"), device):
        model = masked_model().to(place)
        optimizer = build_optimizer(model, OptimizerSettings(name="muon"))
        set_lr(optimizer, 1e-2)
        for seed in range(3):
            generator = torch.Generator().manual_seed(seed)
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.randn(parameter.shape, generator=generator).to(place)
            lost = torch.tensor(float(seed == 1), device=place)
            if seed == 1:
                model.get_parameter("blocks.0.mlp.fc1.weight").grad[0, 0] = torch.nan  # type: ignore[index]
            take_step(optimizer, gradient_norm(optimizer), lost, clip_grad=1.0)
        found.append({name: parameter.detach().cpu() for name, parameter in model.named_parameters()})
    for name, mine in found[0].items():
        assert torch.isfinite(mine).all(), name
        far = (found[1][name] - mine).norm()
        assert far <= 0.05 * (mine - start[name]).norm(), name


def parity_of_search(device: torch.device) -> None:
    """The nearest centroid is the same one; a rough search takes others that are as near."""
    generator = torch.Generator().manual_seed(0)
    centroids = torch.rand(512, 192, generator=generator)
    points = torch.randint(256, (3000, 192), dtype=torch.uint8, generator=generator)
    expected, distances = nearest(points, centroids)
    ids, found = nearest(points.to(device), centroids.to(device))
    assert torch.equal(ids.cpu(), expected)
    torch.testing.assert_close(found.cpu(), distances, rtol=1e-3, atol=1e-3)
    rough, _ = search_roughly(points.to(device), centroids.to(device), centroids.mean(0).to(device))
    lost = (points.float() / 255 - centroids[rough.cpu()]).square().sum(1) - distances
    assert float(lost.max()) < 0.02 * float(distances.mean())


def resume(device: torch.device) -> None:
    """A stopped run goes on to the losses that it would have had."""
    whole, _ = losses_of(device, ema_decay=0.9, model=masked_model(dropout=0.2))
    with new_run() as run:
        first = trainer(run, device, ema_decay=0.9, model=masked_model(dropout=0.2))
        first.requests = first.agreement.requests = Requests()
        step = first.step

        def stopping(model: nn.Module, number: int, parts: Any) -> None:
            first.requests.stop = number >= 2  # of eight: where flags come late, there are steps left to stop before
            step(model, number, parts)

        first.step = stopping  # type: ignore[method-assign]
        try:
            first.train()
        except Stopped:
            pass
        else:
            raise AssertionError("it did not stop")
        trainer(run, device, ema_decay=0.9, model=masked_model(seed=1, dropout=0.2)).train()
        found = [record["train_loss"] for record in read_metrics(run)]
    assert len(found) == len(whole)
    tolerance = 0.0 if device.type == "cpu" else 2e-3
    assert max(abs(a - b) for a, b in zip(found, whole, strict=True)) <= tolerance, (found, whole)


def half_precision(device: torch.device) -> None:
    """In bf16 the stream between blocks is that too, weights and statistics are not, and losses are near."""
    whole, _ = losses_of(device, epochs=1)
    kinds: dict[str, torch.dtype] = {}
    model = masked_model()
    model.get_submodule("blocks.1").register_forward_hook(lambda m, given, out: kinds.update(stream=out.dtype))
    model.get_submodule("norm").register_forward_hook(lambda m, given, out: kinds.update(norm=out.dtype))
    half, made = losses_of(device, model=model, precision="bf16", epochs=1)
    assert kinds == {"stream": torch.bfloat16, "norm": torch.bfloat16}, kinds
    assert {p.dtype for p in made.model.parameters()} == {torch.float32}
    assert max(abs(a - b) / a for a, b in zip(whole, half, strict=True)) < 0.03, (whole, half)


@contextlib.contextmanager
def compiler_of(device: torch.device) -> Iterator[list[Any]]:
    """On a CPU graphs are taken as they are, for its compiler takes minutes; what is compiled is added to the list."""
    from torch._dynamo.backends.registry import lookup_backend

    found: list[Any] = []
    inner = lookup_backend("eager" if device.type == "cpu" else "inductor")

    def backend(graph: Any, inputs: Any) -> Any:
        found.append(graph)
        return inner(graph, inputs)

    before = nn.Module.compile
    nn.Module.compile = partialmethod(before, backend=backend)  # type: ignore[assignment]
    torch.compiler.reset()
    try:
        yield found
    finally:
        nn.Module.compile = before  # type: ignore[method-assign]
        torch.compiler.reset()


def has_dynamic_shapes(graph: Any) -> bool:
    """Whether sizes are among what a graph takes, or unknown to it."""
    given = [node.meta.get("example_value") for node in graph.graph.nodes if node.op == "placeholder"]
    sizes = [size for value in given for size in (value.shape if isinstance(value, torch.Tensor) else (value,))]
    return any(isinstance(size, torch.SymInt) for size in sizes)


def compilation(device: torch.device) -> None:
    """What is compiled trains alike, blocks once for all of them, of fixed sizes; an evaluation is not compiled."""
    whole, _ = losses_of(device)
    with compiler_of(device) as graphs:
        compiled, made = losses_of(device, compile=True)
        assert made.compiles
        assert len(graphs) == 2, f"{len(graphs)} graphs; expected one of the encoder's blocks and one of the decoder's"
        assert not any(has_dynamic_shapes(graph) for graph in graphs), "sizes are dynamic"
    assert max(abs(a - b) / a for a, b in zip(whole, compiled, strict=True)) < 2e-3, (whole, compiled)


class SmallMemory(SupervisedObjective):
    """Asks for more memory than there is where a micro-batch is too large."""

    def __init__(self, most: int):
        super().__init__()
        self.most = most

    def loss(self, model: nn.Module, batch: Batch, step_rng: StepRandom) -> Any:
        found = super().loss(model, batch, step_rng)
        if len(batch.inputs) > self.most:
            if batch.inputs.is_cuda:
                torch.empty(1 << 50, device=batch.inputs.device)
            raise torch.OutOfMemoryError("too many rows for this test")
        return found


def halving(device: torch.device) -> None:
    """Out of memory is met by smaller micro-batches: found before the first step on a GPU, halved on a CPU."""
    sizes = {"grid": GRID, "num_codes": CODES, "num_classes": CLASSES, "size": SIZE, "stem_kernel": 2, "drop_path": 0.0}

    def model() -> nn.Module:
        torch.manual_seed(0)
        return build_model("classifier", **sizes)

    whole, _ = losses_of(device, model=model(), objective=SupervisedObjective())
    less, made = losses_of(device, model=model(), objective=SmallMemory(9))
    assert made.micro_batches.limit == 8, made.micro_batches.limit
    assert max(abs(a - b) / a for a, b in zip(whole, less, strict=True)) < 2e-3, (whole, less)


CASES: dict[str, Callable[[torch.device], None]] = {
    "parity of a step": parity_of_a_step,
    "parity of augmentation": parity_of_augmentation,
    "parity of muon": parity_of_muon,
    "parity of search": parity_of_search,
    "resume": resume,
    "bf16": half_precision,
    "compile": compilation,
    "out of memory": halving,
}
