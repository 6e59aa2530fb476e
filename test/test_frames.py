"""ROS and MuJoCo describe the same motion of a floating base."""

import mujoco
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from diffusion_mpc.estimation.frames import odometry_to_qpos_qvel, qpos_qvel_to_odometry
from diffusion_mpc.rotations import rotation_matrix

numbers = st.floats(-10.0, 10.0)
vectors = st.tuples(numbers, numbers, numbers).map(np.array)
quaternions = (
    st.tuples(*[st.floats(-1.0, 1.0)] * 4)
    .map(np.array)
    .filter(lambda q: np.linalg.norm(q) > 0.1)
    .map(lambda q: q / np.linalg.norm(q))
)

FREE_BODY = "<mujoco><worldbody><body><freejoint/><geom size='.1'/></body></worldbody></mujoco>"


@given(vectors, quaternions, vectors, vectors)
def test_conversion_there_and_back_changes_nothing(position, quaternion_xyzw, linear, angular):
    qpos, qvel = odometry_to_qpos_qvel(position, quaternion_xyzw, linear, angular)
    for before, after in zip(
        (position, quaternion_xyzw, linear, angular), qpos_qvel_to_odometry(qpos, qvel), strict=True
    ):
        np.testing.assert_allclose(after, before, atol=1e-9)


@given(quaternions)
def test_rotation_matrix_is_mujocos(quaternion_wxyz):
    expected = np.zeros(9)
    mujoco.mju_quat2Mat(expected, quaternion_wxyz)
    np.testing.assert_allclose(rotation_matrix(quaternion_wxyz).ravel(), expected, atol=1e-12)


@given(vectors, quaternions, vectors, vectors)
def test_mujoco_moves_a_body_as_its_odometry_says(
    position, quaternion_xyzw, linear_body, angular_body
):
    """One tiny step of a free body.

    It moves along R * linear_body and turns by angular_body about its own axes.
    """
    model = mujoco.MjModel.from_xml_string(FREE_BODY)
    model.opt.gravity[:] = 0.0
    model.opt.timestep = dt = 1e-5
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = odometry_to_qpos_qvel(
        position, quaternion_xyzw, linear_body, angular_body
    )
    before = rotation_matrix(data.qpos[3:7])
    mujoco.mj_step(model, data)
    after = rotation_matrix(data.qpos[3:7])
    np.testing.assert_allclose((data.qpos[:3] - position) / dt, before @ linear_body, atol=1e-3)
    x, y, z = angular_body
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    np.testing.assert_allclose(before.T @ (after - before) / dt, skew, atol=1e-2)
