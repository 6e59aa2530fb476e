"""The planner node as a managed node: what it leaves behind, what its exit code says."""

import gc
import signal
import time
import weakref

import pytest

from diffusion_mpc.config import PlannerNodeConfig, load_parameters
from diffusion_mpc.runtime.controller_swap import ControllerSwap
from diffusion_mpc.runtime.loops import quiet_garbage_collector, release_garbage
from diffusion_mpc.tasks import find_task

SIZES = {"task": "cartpole", "planner.num_samples": 8, "planner.horizon_steps": 10}


@pytest.fixture
def quiet():
    """The garbage collector as while a robot is controlled, and as before in the end."""
    yield quiet_garbage_collector
    release_garbage()


def test_a_controller_that_is_replaced_is_gone_though_the_garbage_collector_has_frozen_it(quiet):
    _, values = load_parameters(PlannerNodeConfig, {**SIZES, "backend.threads": 1})
    swap = ControllerSwap(find_task("cartpole")(), values, lambda: None, print)
    quiet()
    for samples in (16, 8, 12):
        before = swap.controller
        parts = [before, before.backend, before.planner, before.objective.spline]
        gone = [weakref.ref(part) for part in parts]
        del before, parts
        swap.prepare({**values, "planner.num_samples": samples})()
        end = time.monotonic() + 20.0
        while any(part() is not None for part in gone):
            assert time.monotonic() < end, "the controller before is still there"
            time.sleep(0.01)
        assert swap.controller.config.planner.num_samples == samples
    assert not gc.isenabled()


def change(robot, *transitions):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    for name in transitions:
        asked = Transition(id=getattr(Transition, f"TRANSITION_{name}"))
        assert robot.call("planner/change_state", ChangeState.Request(transition=asked)).success


CYCLE = ("DEACTIVATE", "CLEANUP", "CONFIGURE", "ACTIVATE")


@pytest.mark.ros
@pytest.mark.slow
def test_cycles_of_life_and_changes_of_structure_leave_nothing_behind(controlled):
    running, robot = controlled
    for _ in range(5):
        change(robot, *CYCLE)
    before = running.resident("planner")
    for _ in range(8):
        change(robot, *CYCLE)
    for samples in (16, 8, 16, 8):
        assert robot.set_parameters(planner__num_samples=samples) == (True, "")
        robot.spin_until(lambda n=samples: robot.stats[-1].num_samples == n, "the new planner")
    # A controller of this size takes 1 MiB and its threads; all of torch and MuJoCo was there.
    assert running.resident("planner") - before < 10 * 2**20


@pytest.mark.ros
def test_a_finalised_node_is_silent_and_a_clean_one_can_be_configured_again(controlled):
    _, robot = controlled
    change(robot, "DEACTIVATE", "CLEANUP", "CONFIGURE", "ACTIVATE")
    robot.regains_control()
    change(robot, "ACTIVE_SHUTDOWN")
    assert robot.commands[-1][1].safe
    assert robot.call("planner/get_state").current_state.label == "finalized"
    topics = dict(robot.node.get_topic_names_and_types())
    robot.spin_until(lambda: not robot.node.count_publishers("joint_command"), "no publisher")
    assert "/planner/stats" not in topics or not robot.node.count_publishers("planner/stats")
    robot.diagnostics.clear()
    robot.spin(1.5)
    assert not robot.diagnostics


@pytest.mark.ros
def test_the_exit_code_is_that_of_the_last_configuring(start_planner):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    running, robot = start_planner(wait=False, autostart=False)
    assert robot.set_parameters(planner__num_knots=2) == (True, "")
    configure = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    assert not robot.call("planner/change_state", configure).success
    assert robot.set_parameters(planner__num_knots=3) == (True, "")
    assert robot.call("planner/change_state", configure).success
    running.send("planner", signal.SIGINT)
    robot.spin_until(running.ended, "the end")
    assert running.ended() == {"planner": 0}
