"""Rollouts are C MuJoCo's trajectories, one by one."""

import mujoco
import numpy as np
import pytest
import torch
from rollouts import roll_out

from diffusion_mpc.rollout.backend import substeps
from diffusion_mpc.rollout.cpu import CpuBackend
from diffusion_mpc.tasks import find_task
from diffusion_mpc.types import State

SAMPLES, HORIZON = 6, 10


@pytest.fixture(params=["ant", "cartpole"])
def task(request):
    return find_task(request.param)()


def backend_and_controls(task, timestep=0.01):
    backend = CpuBackend(
        [task.compile(timestep=timestep, integrator="implicitfast", iterations=10)], threads=2
    )
    low, high = task.ctrl_limits
    generator = np.random.default_rng(0)
    controls = generator.uniform(low, high, (SAMPLES, HORIZON, len(low))) * 0.5
    data = task.initial_data(backend.model)
    return backend, State(3.0, data.qpos.copy(), data.qvel.copy()), torch.from_numpy(controls)


def test_rollouts_are_those_of_mj_step_to_the_last_bit(task):
    backend, state, controls = backend_and_controls(task)
    batch = roll_out(backend, state, controls, control_dt=0.02)
    for sample in range(SAMPLES):
        data = mujoco.MjData(backend.model)
        data.qpos[:], data.qvel[:] = state.qpos, state.qvel
        for t in range(HORIZON):
            data.ctrl[:] = controls[sample, t]
            mujoco.mj_step(backend.model, data, 2)
            np.testing.assert_array_equal(batch.qpos[sample, t], data.qpos)
            np.testing.assert_array_equal(batch.qvel[sample, t], data.qvel)
            np.testing.assert_array_equal(batch.sensordata[sample, t], data.sensordata)


def test_a_rollout_does_not_depend_on_the_one_before(task):
    backend, state, controls = backend_and_controls(task)
    first = roll_out(backend, state, controls, 0.02).qpos.clone()
    roll_out(backend, State(0.0, state.qpos + 0.1, state.qvel + 1.0), -controls, 0.02)
    assert torch.equal(roll_out(backend, state, controls, 0.02).qpos, first)


def test_a_diverging_sample_is_invalid_and_the_others_are_untouched():
    task = find_task("ant")()
    backend, state, controls = backend_and_controls(task)
    clean = roll_out(backend, state, controls, 0.02).qpos.clone()
    controls[2, 3] = torch.nan
    batch = roll_out(backend, state, controls, 0.02)
    assert batch.invalid.tolist() == [False, False, True, False, False, False]
    assert torch.equal(batch.qpos[3:], clean[3:])


def test_a_simulation_that_diverged_is_as_good_as_new_in_the_next_rollout(task):
    backend, state, controls = backend_and_controls(task)
    clean = roll_out(backend, state, controls, 0.02).qpos.clone()
    broken = controls.clone()
    broken[2, 3] = torch.nan
    roll_out(backend, state, broken, 0.02)
    batch = roll_out(backend, state, controls, 0.02)
    assert batch.invalid is None
    assert torch.equal(batch.qpos, clean)


STATEFUL = """
<mujoco>
  <option timestep="0.01" integrator="implicitfast"/>
  <worldbody>
    <body name="hand" mocap="true" pos="0.5 0 0"/>
    <body name="cart">
      <joint name="slide" type="slide" axis="1 0 0"/>
      <geom size="0.1" mass="1"/>
      <body pos="0 0 -0.3"><joint name="hinge" axis="0 1 0"/><geom size="0.05" mass="0.5"/></body>
    </body>
  </worldbody>
  <equality><weld name="held" body1="cart" body2="hand" active="false"/></equality>
  <actuator>
    <motor joint="slide" ctrlrange="-1 1" delay="0.03" nsample="5"/>
    <general joint="hinge" ctrlrange="-1 1" dyntype="filter" dynprm="0.1"/>
  </actuator>
  <sensor><framepos objtype="xbody" objname="hand"/></sensor>
</mujoco>
"""


def test_activations_delayed_actuators_and_mocap_bodies_are_simulated_as_mj_step_does():
    model = mujoco.MjModel.from_xml_string(STATEFUL)
    held = model.na + model.nq + model.nv + 1
    assert mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS) > held, (
        "there is more in this state than a State holds"
    )
    backend = CpuBackend([model], threads=2)
    controls = torch.from_numpy(np.random.default_rng(0).uniform(-1.0, 1.0, (SAMPLES, HORIZON, 2)))
    state = State(7.0, np.array([0.1, -0.2]), np.array([0.3, 0.4]), np.array([0.5]))
    for _ in range(2):
        batch = roll_out(backend, state, controls, 0.02)
        for sample in range(SAMPLES):
            data = mujoco.MjData(model)
            data.qpos[:], data.qvel[:], data.act[:] = state.qpos, state.qvel, state.act
            for t in range(HORIZON):
                data.ctrl[:] = controls[sample, t]
                mujoco.mj_step(model, data, 2)
                np.testing.assert_array_equal(batch.qpos[sample, t], data.qpos)
                np.testing.assert_array_equal(batch.sensordata[sample, t], data.sensordata)


def test_sensors_are_found_by_name():
    task = find_task("ant")()
    backend, state, controls = backend_and_controls(task)
    batch = roll_out(backend, state, controls, 0.02)
    up = batch.sensor("base_up")
    assert up.shape == (SAMPLES, HORIZON, 3)
    torch.testing.assert_close(up.norm(dim=-1), torch.ones(SAMPLES, HORIZON, dtype=torch.float64))


def test_substeps_must_fit():
    assert substeps(0.02, 0.005) == 4
    with pytest.raises(ValueError, match="not a multiple"):
        substeps(0.02, 0.003)
