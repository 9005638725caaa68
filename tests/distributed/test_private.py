"""Ray's private names that `seit_ray.distributed.private` needs: each is where it was, and does what it did.

A failure here after an update of Ray says which of them has moved; the reasons for them stand in that module.
"""

import importlib
import inspect
import re
import signal
from dataclasses import fields
from pathlib import Path

import pytest
import ray.train.torch

from seit_ray.distributed import private
from seit_ray.distributed.private import LEAK_GUARD, BeforeResize, RunTrainer

EXECUTION = "ray.train.v2._internal.execution"
NAMES = {
    f"{EXECUTION}.callback": ["ControllerCallback"],
    f"{EXECUTION}.context": ["get_train_context", "TrainContext"],
    f"{EXECUTION}.controller.state": ["ResizingState"],
    f"{EXECUTION}.preemption": ["PreemptionContext"],
}


def of_ray(module, name):
    """A private name of Ray."""
    return getattr(importlib.import_module(f"{EXECUTION}.{module}"), name)


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in NAMES.items() for name in names])
def test_the_name_is_where_it_was(module, name):
    assert hasattr(importlib.import_module(module), name), f"Ray {ray.__version__} has moved {module}.{name}"


@pytest.mark.parametrize("hook", ["after_controller_state_update", "before_controller_execute_resize_decision"])
def test_rays_controller_calls_the_hook_with_what_ours_takes(hook):
    controller = inspect.getsource(importlib.import_module(f"{EXECUTION}.controller.controller"))
    assert f'"{hook}"' in controller
    theirs, ours = (
        inspect.signature(getattr(c, hook)) for c in (of_ray("callback", "ControllerCallback"), BeforeResize)
    )
    assert list(ours.parameters) == list(theirs.parameters)


def test_ours_acts_before_a_group_is_replaced_and_not_before_the_first():
    acts = []
    callback = BeforeResize(lambda: acts.append("saved"))
    resizing = of_ray("controller.state", "ResizingState")(scaling_decision=None)
    callback.before_controller_execute_resize_decision(None)
    assert acts == []
    callback.after_controller_state_update(resizing, None)  # the group runs
    callback.before_controller_execute_resize_decision(None)
    assert acts == ["saved"]
    callback.after_controller_state_update(None, resizing)
    callback.before_controller_execute_resize_decision(None)
    assert acts == ["saved"]


@pytest.mark.parametrize("guards", [False, True])
def test_the_trainer_makes_its_callbacks_where_ours_are_added_and_the_guard_is_left_out(guards):
    ours = BeforeResize(lambda: None)
    trainer = RunTrainer(
        lambda config: None,
        callbacks=[ours],
        guards=guards,
        scaling_config=ray.train.ScalingConfig(num_workers=1),
        run_config=ray.train.RunConfig(name="never run", storage_path="/tmp"),
    )
    theirs = ray.train.torch.TorchTrainer._create_default_callbacks(trainer)
    names = [type(callback).__name__ for callback in theirs]
    assert names.count(LEAK_GUARD) == 1
    found = trainer._create_default_callbacks()
    assert ours in found
    left_out = [] if guards else [LEAK_GUARD]
    assert [type(c).__name__ for c in found] == [n for n in names if n not in left_out] + ["BeforeResize"]
    assert "self._create_default_callbacks()" in inspect.getsource(ray.train.torch.TorchTrainer.fit)


def test_the_trainer_leaves_ctrl_c_to_the_program():
    trainer, before = object.__new__(RunTrainer), signal.getsignal(signal.SIGINT)
    try:
        trainer._register_sigint_handler(None)
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, before)
    assert "self._register_sigint_handler(controller)" in inspect.getsource(ray.train.torch.TorchTrainer.__mro__[1])


def test_a_worker_knows_the_notice_of_its_node():
    context = {field.name: field.type for field in fields(of_ray("context", "TrainContext"))}
    assert "preemption_context" in context
    fate = of_ray("preemption", "PreemptionContext")()
    assert fate.preemption_info is None  # no notice
    notice = {field.name for field in fields(importlib.import_module("ray.train").PreemptionInfo)}
    assert "deadline_ms" in notice  # what `train_job.outlast` waits for


def test_private_names_of_ray_stand_in_that_module_alone():
    package = Path(private.__file__).parents[1]
    imports = re.compile(r"^\s*(from|import) +ray\.[\w.]*\b_\w+", re.MULTILINE)
    found = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if imports.search(path.read_text())}
    assert found == {"distributed/private.py"}
