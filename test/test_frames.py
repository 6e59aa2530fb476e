"""ROS and MuJoCo describe the same motion of a floating base."""

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_mpc.estimation.frames import (
    odometry_to_qpos_qvel,
    qpos_qvel_to_odometry,
    twist_to_child,
)
from diffusion_mpc.estimation.twist_frame import TwistFrameCheck
from diffusion_mpc.rotations import rotation_matrix, yaw_to_quaternion

numbers = st.floats(-10.0, 10.0)
vectors = st.tuples(numbers, numbers, numbers).map(np.array)
motions = vectors.filter(lambda v: not 0.02 < np.linalg.norm(v[:2]) < 0.3)
quaternions = (
    st.tuples(*[st.floats(-1.0, 1.0)] * 4)
    .map(np.array)
    .filter(lambda q: np.linalg.norm(q) > 0.1)
    .map(lambda q: q / np.linalg.norm(q))
)


@given(vectors, quaternions, vectors, vectors)
def test_a_twist_in_the_header_frame_is_the_same_motion(position, quaternion_xyzw, linear, angular):
    child = odometry_to_qpos_qvel(position, quaternion_xyzw, linear, angular)
    x, y, z, w = quaternion_xyzw
    to_world = rotation_matrix(np.array([w, x, y, z]))
    twist = twist_to_child(quaternion_xyzw, to_world @ linear, to_world @ angular, "header")
    header = odometry_to_qpos_qvel(position, quaternion_xyzw, *twist)
    np.testing.assert_allclose(np.concatenate(header), np.concatenate(child), atol=1e-9)
    same = twist_to_child(quaternion_xyzw, linear, angular, "child")
    np.testing.assert_array_equal(same, (linear, angular))


@settings(max_examples=30, deadline=None)
@given(st.floats(-np.pi, np.pi), motions, st.sampled_from(["child", "header"]), st.integers(0, 100))
def test_the_frame_of_a_twist_is_told_from_motion(yaw, velocity, frame, seed):
    """A base that turns by 10 rad while it moves, whose position is measured to within 2 mm."""
    random = np.random.default_rng(seed)
    checks = {configured: TwistFrameCheck() for configured in ("child", "header")}
    position, quaternion = np.zeros(3), yaw_to_quaternion(yaw)
    for step in range(500):
        to_world = rotation_matrix(quaternion)
        linear = velocity if frame == "child" else to_world @ velocity
        for configured, check in checks.items():
            measured = position + random.normal(scale=0.002, size=3)
            check.update(0.02 * step, measured, quaternion, linear, configured)
        # To the middle of the step.
        mujoco.mju_quatIntegrate(quaternion, np.array([0.0, 0.0, 1.0]), 0.01)
        position = position + 0.02 * rotation_matrix(quaternion) @ velocity
        mujoco.mju_quatIntegrate(quaternion, np.array([0.0, 0.0, 1.0]), 0.01)
    other = "header" if frame == "child" else "child"
    assert not checks[frame].contradicted
    assert checks[other].contradicted == (np.linalg.norm(velocity[:2]) > 0.3)


@pytest.mark.parametrize("motion", ["stands", "goes ahead", "is moved by hand, its twist zero"])
def test_without_evidence_nothing_is_said_about_the_frame_of_a_twist(motion):
    check, random = TwistFrameCheck(), np.random.default_rng(0)
    ahead = np.array([1.0, 0.0, 0.0])
    left = np.array([np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)])
    for step in range(2000):
        stamp, noise = 0.02 * step, random.normal(scale=0.02, size=3)
        if motion == "stands":
            check.update(stamp, noise, left, noise, "child")
        elif motion == "goes ahead":
            check.update(stamp, stamp * ahead, np.array([1.0, 0.0, 0.0, 0.0]), ahead, "child")
        else:
            check.update(stamp, stamp * ahead, left, np.zeros(3), "child")
        assert not check.contradicted


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
