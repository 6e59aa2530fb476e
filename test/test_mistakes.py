"""Mistakes in a task: each is one line with term or attribute, file and line."""

import subprocess
import sys
import time

import pytest
import torch
from test_session import SIZES, Recorder, measure

from diffusion_mpc.config import PlannerNodeConfig, load_parameters
from diffusion_mpc.runtime.health import Level
from diffusion_mpc.runtime.lockstep import TRIES, LockstepSession
from diffusion_mpc.tasks import available_tasks, find_task
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
        FAILS + "unknown sensor 'tip'; there are: none ({file}, line 16)",
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
    for kind in available_tasks().values():
        task = kind()
        began = time.process_time()
        require_sound(task, task.model, torch.float32, "cpu")
        assert time.process_time() - began < 0.5, kind


LATER = ("return x.ctrl", "return x.qpos[..., 7] if reference.times[0] > 2.0 else x.ctrl")


def test_what_raises_only_in_flight_is_told_and_a_run_in_lockstep_is_given_up(tmp_path):
    file = task_file(tmp_path, *LATER)
    running = session(file)
    running.start()
    try:
        for number in range(20 * TRIES):
            if running.given_up:
                break
            measure(running, 3.0 + number)
            time.sleep(0.2)
    finally:
        running.stop()
    line = (
        "cost term 'effort' fails: IndexError: index 7 is out of bounds for dimension 1 with "
        f"size 2 ({file}, line 16)"
    )
    assert running.given_up == f"no plan in {TRIES} tries: {line}"
    assert running.task_failure == line
    said = running._output.texts
    assert f"{line}; next try in 0.1 s" in said
    assert any(text.startswith("Traceback") and "return x.qpos[..., 7]" in text for text in said)


FAILED_LATER = """weights = {}

    def failed(self, x):
        \"Off the rail.\"
        return x.qpos[..., 7 if x.qpos[0, 0, 0] > 5.0 else 0] > 9.0
"""


def test_a_failure_that_cannot_be_judged_in_flight_is_told_and_control_goes_on(tmp_path):
    file = task_file(tmp_path, "weights = {}", FAILED_LATER)
    running = session(file)
    running.start()
    try:
        measure(running, 3.0, position=6.0)
        running._output.wait(lambda: running._output.commands, "a command")
    finally:
        level, text, _ = running.report()
        running.stop()
    assert level == Level.WARN
    assert text.startswith("failed fails: IndexError: index 7 is out of bounds")
    assert f"({file}, line " in text


def test_a_module_beside_the_task_can_be_imported_and_its_line_is_told(tmp_path):
    (tmp_path / "beside_the_task.py").write_text("def force(x):\n    return x.control\n")
    file = task_file(tmp_path, "return x.ctrl", "return beside_the_task.force(x)")
    file.write_text("import beside_the_task\n" + file.read_text())
    with pytest.raises(TaskError, match=r"cost term 'effort' fails: .*beside_the_task\.py, line 2"):
        session(file)


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "begins"),
    [
        (("return x.ctrl", "return 1.0"), "planner: cost term 'effort' returns float; "),
        (LATER, f"planner: no plan in {TRIES} tries: cost term 'effort' fails: IndexError: "),
    ],
)
def test_a_run_of_a_mistaken_task_ends_with_one_line(tmp_path, change, begins):
    file = task_file(tmp_path, *change)
    command = [sys.executable, "-m", "diffusion_mpc.cli", "sim", str(file), "--lockstep"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {begins}")
    assert f"({file}, line 1" in done.stderr
    assert done.stderr.count("\n") == 1
