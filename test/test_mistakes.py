"""Mistakes in a task: each is one line with term or attribute, file and line."""

import time

import pytest
from test_session import SIZES, Recorder

from diffusion_mpc.config import PlannerNodeConfig, load_parameters
from diffusion_mpc.runtime.lockstep import LockstepSession
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.base import TaskError
from diffusion_mpc.tasks.code_check import require_sound

TASK = """import numpy as np
import torch
from pathlib import Path
from diffusion_mpc.models import __file__ as models
from diffusion_mpc.tasks.base import Task, constraint, cost

class Mistaken(Task):
    \"\"\"Hold the pole up.\"\"\"
    name = "mistaken"
    model_path = Path(models).parent / "cartpole" / "cartpole.xml"
    weights = {}

    @cost(weight=1.0)
    def effort(self, x, reference):
        "Force."
        return x.ctrl
"""

TERM = "cost term 'effort' "
RETURNS = TERM + "returns "
FAILS = TERM + "fails: "

MISTAKES = {
    "wrong shape": (
        "return x.ctrl",
        "return x.qpos[0]",
        RETURNS + "shape (7, 2); it has to be (samples, horizon) or (samples, horizon, k), "
        "here samples = 5 and horizon = 7 ({file}, line 13)",
    ),
    "mean over the horizon": (
        "return x.ctrl",
        "return x.ctrl.mean(1)",
        RETURNS + "shape (5, 1); it has to be (samples, horizon) or (samples, horizon, k), "
        "here samples = 5 and horizon = 7 ({file}, line 13)",
    ),
    "NumPy array": (
        "return x.ctrl",
        "return x.ctrl.numpy()",
        RETURNS + "numpy.ndarray; it has to be a torch tensor (samples, horizon) or "
        "(samples, horizon, k) ({file}, line 13)",
    ),
    "scalar": (
        "return x.ctrl",
        "return 1.0",
        RETURNS + "float; it has to be a torch tensor (samples, horizon) or "
        "(samples, horizon, k) ({file}, line 13)",
    ),
    "None": (
        "return x.ctrl",
        "x.ctrl",
        RETURNS + "None; it has to be a torch tensor (samples, horizon) or "
        "(samples, horizon, k) ({file}, line 13)",
    ),
    "truth values": (
        "return x.ctrl",
        "return x.ctrl > 1.0",
        RETURNS + "torch.bool; it has to be torch.float64 ({file}, line 13)",
    ),
    "unknown sensor": (
        "return x.ctrl",
        "return x.sensor('tip')",
        FAILS + "ValueError: unknown sensor 'tip'; there are: none ({file}, line 16)",
    ),
    "unknown attribute": (
        "return x.ctrl",
        "return x.control",
        FAILS + "AttributeError: 'RolloutBatch' object has no attribute 'control' "
        "({file}, line 16)",
    ),
    "index out of range": (
        "return x.ctrl",
        "return x.qpos[..., 7]",
        FAILS + "IndexError: index 7 is out of bounds for dimension 1 with size 2 "
        "({file}, line 16)",
    ),
    "division by zero": (
        "return x.ctrl",
        "return x.ctrl / (len(x.ctrl) - len(x.qpos)) if 1 // (x.ctrl.ndim - 3) else x.ctrl",
        FAILS + "ZeroDivisionError: integer division or modulo by zero ({file}, line 16)",
    ),
    "NaN at rest": (
        "return x.ctrl",
        "return x.ctrl / x.ctrl.abs()",
        RETURNS + "NaN or infinity at rest, where it has to be finite ({file}, line 13)",
    ),
    "values of a tensor mixed with NumPy": (
        "return x.ctrl",
        "return x.ctrl @ np.ones((3, 3))",
        FAILS + "ValueError: matmul: Input operand 1 has a mismatch",
    ),
    "no mark": (
        "    @cost(weight=1.0)\n",
        "",
        "method 'effort' of task 'mistaken' looks like a cost term and nothing calls it; mark it "
        "with @cost or @constraint, or begin its name with _ ({file}, line 13)",
    ),
    "mark without parentheses": (
        "@cost(weight=1.0)",
        "@cost",
        "task file '{file}' cannot be read: @cost of 'effort' has no parentheses; write "
        "@cost(weight=1.0) ({file}, line 13)",
    ),
    "no docstring": (
        '        "Force."\n',
        "",
        "task file '{file}' cannot be read: cost term 'effort' has no docstring; it becomes the "
        "parameter's description ({file}, line 13)",
    ),
    "default of no parameter": (
        "weights = {}",
        "defaults = {'planner.rat': 50.0}",
        "defaults of task 'Mistaken': unknown parameter 'planner.rat'; did you mean "
        "'planner.rate'? ({file}, line 11)",
    ),
    "default of another type": (
        "weights = {}",
        "defaults = {'planner.rate': 'fast'}",
        "defaults of task 'Mistaken': planner.rate: 'fast' is not of type float ({file}, line 11)",
    ),
    "demo of no parameter": (
        "weights = {}",
        "demo = {'command.vxx': 1.0}",
        "demo of task 'Mistaken': unknown parameter 'command.vxx'; did you mean 'command.vx'? "
        "({file}, line 11)",
    ),
    "weight of no term": (
        "weights = {}",
        "weights = {'efort': 1.0}",
        "weights of task 'Mistaken': unknown cost term 'efort'; did you mean 'effort'? "
        "({file}, line 11)",
    ),
    "unknown keyframe": (
        "weights = {}",
        "keyframe = 'stand'",
        "keyframe of task 'Mistaken': model '{model}' has no keyframe 'stand', which the task "
        "starts from ({file}, line 11)",
    ),
    "unknown base": (
        "weights = {}",
        "base = 'torso'",
        "base of task 'Mistaken': unknown body 'torso'; there are: cart, pole ({file}, line 11)",
    ),
    "unknown reference": (
        "weights = {}",
        "reference = 'cmd_vell'",
        "reference of task 'Mistaken': unknown reference 'cmd_vell'; did you mean 'cmd_vel'? "
        "({file}, line 11)",
    ),
    "sensor of no object": (
        "weights = {}",
        "sensors = {'tip': ('framepos', 'body', 'poel')}",
        "sensors of task 'Mistaken': sensor 'tip': unknown body 'poel'; did you mean 'pole'? "
        "({file}, line 11)",
    ),
    "sensor of no type": (
        "weights = {}",
        "sensors = {'tip': ('framepo', 'body', 'pole')}",
        "sensors of task 'Mistaken': sensor 'tip' has an unknown type: 'framepo' of 'body' "
        "({file}, line 11)",
    ),
    "wrong model path": (
        '"cartpole.xml"',
        '"cart.xml"',
        "model_path of task 'Mistaken': model file '{model}' does not exist; set model.path to an "
        "MJCF or URDF file ({file}, line 10)",
    ),
    "import error": (
        "import torch\n",
        "import touch\n",
        "task file '{file}' cannot be read: ModuleNotFoundError: No module named 'touch' "
        "({file}, line 2)",
    ),
    "syntax error": (
        "def effort(self, x, reference):",
        "def effort(self, x, reference)",
        "task file '{file}' cannot be read: SyntaxError: expected ':' ({file}, line 14)",
    ),
    "constraint of a wrong shape": (
        "        return x.ctrl\n",
        "        return x.ctrl\n\n    @constraint()\n    def place(self, x, reference):\n"
        "        'Place.'\n        return x.qpos[0]\n",
        "constraint 'place' returns shape (7, 2); it has to be (samples, horizon) or "
        "(samples, horizon, k), here samples = 5 and horizon = 7 ({file}, line 18)",
    ),
    "test of a failure that is no truth value": (
        "        return x.ctrl\n",
        "        return x.ctrl\n\n    def failed(self, x):\n        return x.qpos[..., 0]\n",
        "failed of task 'mistaken' returns torch.float64; it has to be torch.bool "
        "({file}, line 18)",
    ),
}


def task_file(folder, old="", new=""):
    assert old in TASK
    file = folder / "mistaken.py"
    file.write_text(TASK.replace(old, new) if old else TASK)
    return file


def session(file):
    values = load_parameters(PlannerNodeConfig, {**SIZES, "task": str(file)})[1]
    return LockstepSession(values, Recorder(), time.monotonic)


@pytest.mark.parametrize(("old", "new", "line"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_task_is_one_line_before_anything_moves(tmp_path, old, new, line):
    file = task_file(tmp_path, old, new)
    with pytest.raises(TaskError) as caught:
        session(file)
    said = str(caught.value)
    model = find_task("cartpole")().path.with_name(
        "cart.xml" if "cart.xml" in new else "cartpole.xml"
    )
    assert said.startswith(line.format(file=file, model=model))
    assert "\n" not in said
    assert f"({file}, line " in said


def test_our_own_tasks_are_sound_and_the_try_is_cheap():
    from diffusion_mpc.tasks import available_tasks

    for kind in available_tasks().values():
        task = kind()
        began = time.process_time()
        require_sound(task, task.model, torch_type(), "cpu")
        assert time.process_time() - began < 0.5, kind


def torch_type():
    import torch

    return torch.float32
