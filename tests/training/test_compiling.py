"""What is compiled of a model, and when: its blocks, once for all of them, and not for an evaluation."""

from functools import partialmethod

import pytest
import torch
from torch import nn

from seit_ray.models.blocks import DropPath
from seit_ray.models.build import build_model
from seit_ray.objectives import MTMObjective
from seit_ray.training import compiling, first_step, world
from seit_ray.training.compiling import blocks_of, compiles_on, uncompiled
from seit_ray.training.settings import LoopSettings
from seit_ray.training.world import World
from tests.gpu.cases import has_dynamic_shapes
from tests.tiny_trainers import SIZE, evaluation, losses, tiny_classifier, tiny_masked, tiny_trainer

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own, which it hides itself
GPU, CPU = torch.device("cuda", 0), torch.device("cpu")


@pytest.fixture
def graphs(monkeypatch):
    """Graphs that are compiled, to run as they are."""
    found = []

    def backend(graph, inputs):
        found.append(graph)
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=backend))
    yield found
    torch.compiler.reset()


def test_a_gpu_compiles_where_it_can_and_a_cpu_when_asked(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: object())
    assert [compiles_on(GPU, asked) for asked in (None, True, False)] == [True, True, False]
    assert [compiles_on(CPU, asked) for asked in (None, True, False)] == [False, True, False]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    assert not compiles_on(GPU, None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: None)
    assert not compiles_on(GPU, None)
    assert LoopSettings(epochs=1, global_batch_size=2, trackers=()).compile is None


def test_blocks_are_the_members_of_the_lists():
    model = tiny_masked()
    assert blocks_of(model) == [*model.blocks, *model.decoder_blocks]
    adapt = build_model("tokenadapt", grid=(4, 4), out_grid=(4, 4), num_codes=9, dim=4, width=16, num_heads=2)
    assert [type(block).__name__ for block in blocks_of(adapt)] == ["Layer", "Layer"]  # not what they are lists of
    plain = nn.Sequential(nn.Linear(2, 2))
    assert blocks_of(plain) == [plain]


def test_one_graph_serves_all_blocks_masks_and_rates_of_drop_path(run, graphs):
    """Of masked modelling one of the encoder and one of the decoder, whatever is masked; nothing for evaluation."""
    trainer = tiny_trainer(
        run, tiny_masked(dropout=0.1), objective=MTMObjective(), loop={"compile": True, "log_every_steps": 1}
    )
    trainer.train()
    assert len(set(losses(run))) == trainer.steps > 3
    assert len(graphs) == 2


@pytest.mark.filterwarnings("ignore:Grad strides do not match")  # of a convolution of 1x1 pixels
def test_blocks_are_whole_and_of_fixed_sizes_where_gradients_are_averaged(run, graphs, monkeypatch, tmp_path):
    """Whatever the size of the buckets, and though the decoder's blocks are narrower and see more tokens."""
    monkeypatch.setattr(world, "BUCKET_MIB", 0.001)
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/meeting", world_size=1, rank=0)
    try:
        trainer = tiny_trainer(run, tiny_masked(), objective=MTMObjective())
        model = World(0, 2, CPU).distributed(trainer.model)
        compiling.compile_blocks(trainer.model)
        for step in range(2):
            trainer.step(model, step, trainer.host_parts(step))
    finally:
        torch.distributed.destroy_process_group()
    assert len(graphs) == 2
    assert not any(has_dynamic_shapes(graph) for graph in graphs)


def test_a_classifier_is_compiled_once_for_blocks_that_drop_and_once_for_those_that_do_not(run, graphs):
    model = build_model(
        "classifier",
        size=SIZE.__class__(32, 5, 2, 16, 1, 2),
        grid=(4, 4),
        num_codes=16,
        num_classes=4,
        stem_kernel=2,
        drop_path=0.4,
    )
    trainer = tiny_trainer(run, model, loop={"compile": True, "eval_every_epochs": 1}, evaluate=evaluation)
    metrics = trainer.train()
    assert "val_top1" in metrics
    assert len(graphs) == 2  # of five blocks with five rates; evaluation, with a last batch of its own size, had none


def test_an_evaluation_runs_what_is_not_compiled(graphs):
    model = tiny_classifier()
    compiling.compile_blocks(model)
    with uncompiled(True):
        model(torch.zeros(2, 16, dtype=torch.int64))
    assert not graphs
    with uncompiled(False):
        model(torch.zeros(2, 16, dtype=torch.int64))
    assert len(graphs) == 1


def test_compiled_drop_path_drops_as_many_and_keeps_the_mean(graphs):
    module = DropPath(0.25).train()
    module.compile()
    torch.manual_seed(0)
    out = module(torch.ones(4000, 3, 2))
    assert len(graphs) == 1
    assert out.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (out[:, :1, :1] == out).all()  # whole samples
    assert (out == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(module.eval()(torch.ones(2, 2)), torch.ones(2, 2))


def test_a_machine_that_cannot_compile_trains_all_the_same(run, monkeypatch):
    """By default; the message is of the compiler."""

    def backend(graph, inputs):
        raise RuntimeError("no C compiler was found")

    torch.compiler.reset()
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=backend))
    trainer = tiny_trainer(run)
    parts = trainer.host_parts(0)
    compiling.compile_blocks(trainer.model)
    try:
        said = first_step.why_not_compiled(adding(trainer), trainer, parts)
        assert "no C compiler was found" in said
        assert all(p.grad is None for p in trainer.model.parameters())
        trainer.step(trainer.model, 0, parts)  # nothing is compiled any more
    finally:
        torch.compiler.set_stance("default")
        torch.compiler.reset()


def adding(trainer):
    """Gradients of micro-batches of the first step."""
    return lambda parts: trainer.gradients(trainer.model, 0, parts)


@pytest.mark.parametrize("before", [False, True])
def test_before_a_first_step_of_a_gpu_nothing_is_left(run, graphs, before):
    """What is tried there: a pair is counted, the largest micro-batch found, and the model compiled.

    Also of a model that a training before has compiled.
    """
    trainer = tiny_trainer(run, tiny_masked(), objective=MTMObjective(), loop={"compile": True})
    if before:
        compiling.compile_blocks(trainer.model)
    state = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    speed = first_step.Throughput(trainer.world, "fp32")
    first_step.try_out(trainer, trainer.model, 0, trainer.host_parts(0), speed)
    assert speed.flops_per_sample > 0
    assert all(p.grad is None for p in trainer.model.parameters())
    assert not trainer.window.sums
    assert not trainer.optimizer.state
    assert all(torch.equal(value, state[name]) for name, value in trainer.model.state_dict().items())
    assert not graphs  # all that was tried was not compiled; the step is
    trainer.step(trainer.model, 0, trainer.host_parts(0))
    assert graphs


def test_operations_of_a_pair_are_those_of_a_sample_of_the_step(run):
    trainer = tiny_trainer(run, tiny_masked(), objective=MTMObjective())
    parts, speeds = trainer.host_parts(0), [first_step.Throughput(trainer.world, "fp32") for _ in range(2)]
    first_step.try_out(trainer, trainer.model, 0, parts, speeds[0])
    first_step.take_first_step(trainer, trainer.model, 0, parts, speeds[1])
    assert speeds[0].flops_per_sample == pytest.approx(speeds[1].flops_per_sample, rel=1e-6)
