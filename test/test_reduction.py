import mujoco
import numpy as np
import pytest

from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.base import TaskError
from diffusion_mpc.tasks.reduction import (
    discard_visuals,
    keep_collisions,
    limit_contacts,
    reduce_contacts,
    simple_friction,
)

CAPSULES = "".join(
    f'<geom name="sole{i}" type="capsule" size="0.02" fromto="-0.06 {y} -0.05 0.16 {y} -0.05"/>'
    for i, y in enumerate(np.linspace(-0.045, 0.045, 7).round(3))
)
"""A foot as humanoids have it: seven capsules side by side."""

BOX = '<geom name="sole0" type="box" pos="0.05 0 -0.05" size="0.11 0.045 0.02"/>'
CORNERS = " ".join(
    f"{x} {y} {z}" for x in (-0.06, 0.16) for y in (-0.045, 0.045) for z in (-0.07, 0)
)
MESH = '<geom name="sole0" type="mesh" mesh="foot"/>'

ROBOT = """
<mujoco>
  <asset>
    <mesh name="foot" vertex="{corners}"/>
    <mesh name="looks" vertex="0 0 0 .1 0 0 0 .1 0 0 0 .1"/>
    <texture name="t" type="2d" builtin="flat" width="8" height="8"/>
    <material name="m" texture="t"/>
  </asset>
  <worldbody>
    <geom name="floor" type="plane" size="0 0 1"/>
    <body name="trunk" pos="0 0 0.57">
      <freejoint/>
      <geom name="trunk" type="box" size="0.1 0.1 0.1" mass="5"/>
      <geom name="shell" type="mesh" mesh="looks" material="m" contype="0" conaffinity="0"
            mass="1"/>
      <body name="shank">
        <joint name="knee" axis="0 1 0" range="-1 1" damping="5"/>
        <geom name="shank" type="capsule" size="0.03" fromto="0 0 -0.1 0 0 -0.4" mass="1"/>
        <body name="foot" pos="0 0 -0.5" euler="{euler}">
          <joint name="ankle" axis="0 1 0" range="-1 1" damping="5"/>
          {sole}
          <site name="foot" pos="0 0 -0.07"/>
        </body>
      </body>
    </body>
  </worldbody>
  <contact>{pairs}</contact>
  <actuator><position name="ankle" joint="ankle" ctrlrange="-1 1" kp="50"/></actuator>
  <sensor>
    <framepos name="middle" objtype="geom" objname="sole0"/>
    <contact name="force" geom1="sole0" data="force" num="1" reduce="netforce"/>
    <framepos name="shell" objtype="geom" objname="trunk"/>
  </sensor>
  <keyframe><key name="stand" qpos="0 0 0.57 1 0 0 0 0 0"/></keyframe>
</mujoco>
"""


def robot(sole=CAPSULES, euler="0 0 0", pairs=""):
    text = ROBOT.format(corners=CORNERS, sole=sole, euler=euler, pairs=pairs)
    return mujoco.MjSpec.from_string(text)


def standing(model):
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    data.qpos[2] -= 1e-4
    mujoco.mj_forward(model, data)
    return data


def contact_points(model, data, body):
    return np.array(
        [
            c.pos
            for c in data.contact
            if body in (model.body(model.geom_bodyid[g]).name for g in (c.geom1, c.geom2))
        ]
    )


@pytest.mark.parametrize("sole", [CAPSULES, BOX, MESH], ids=["capsules", "box", "mesh"])
@pytest.mark.parametrize("points", [1, 2, 4])
def test_a_foot_keeps_its_height_and_extent_on_few_contacts(sole, points):
    full, reduced = robot(sole).compile(), robot(sole)
    limit_contacts(reduced, ["foot"], points, "stand")
    model = reduced.compile()
    before = contact_points(full, standing(full), "foot")
    after = contact_points(model, standing(model), "foot")
    assert len(after) == points
    assert len(before) == 14 or sole != CAPSULES
    np.testing.assert_allclose(after[:, 2], before[:, 2].mean(), atol=1e-4)
    low, high = before[:, :2].min(axis=0), before[:, :2].max(axis=0)
    expected = {
        1: [(low + high) / 2],
        2: [(low[0], (low + high)[1] / 2), (high[0], (low + high)[1] / 2)],
        4: [(x, y) for x in (low[0], high[0]) for y in (low[1], high[1])],
    }[points]
    np.testing.assert_allclose(
        sorted(after[:, :2].tolist()), sorted(map(tuple, expected)), atol=2e-3
    )


def test_the_sole_is_found_in_the_keyframe_whatever_way_the_foots_axes_point():
    # The same sole, with axes of the foot that are turned against the world's.
    sole = '<geom name="sole0" type="box" pos="0.05 0 0.05" size="0.02 0.045 0.11"/>'
    reduced = robot(sole, euler="0 90 0")
    with pytest.raises(TaskError, match="no keyframe 'stan'; did you mean 'stand'"):
        limit_contacts(reduced, ["foot"], 2, "stan")
    limit_contacts(reduced, ["foot"], 2, "stand")
    model = reduced.compile()
    full = robot(sole, euler="0 90 0").compile()
    before = contact_points(full, standing(full), "foot")
    after = contact_points(model, standing(model), "foot")
    assert len(after) == 2
    np.testing.assert_allclose(np.ptp(after[:, :2], axis=0).max(), np.ptp(before[:, :2], 0).max())


def test_a_reduced_foot_can_be_reduced_further():
    spec = robot()
    limit_contacts(spec, ["foot"], 4, "stand")
    limit_contacts(spec, ["foot"], 2, "stand")
    model = spec.compile()
    full = robot().compile()
    before = contact_points(full, standing(full), "foot")
    after = contact_points(model, standing(model), "foot")
    np.testing.assert_allclose(np.sort(after[:, 0]), [before[:, 0].min(), before[:, 0].max()])


def test_a_sole_that_is_a_point_gets_one_contact_whatever_is_allowed():
    # As on quadrupeds: a ball at the end of a shank that collides, too.
    shank = '<geom type="cylinder" size="0.01 0.02" pos="0 0 -0.02"/>'
    ball = '<geom name="sole0" size="0.02" pos="0 0 -0.05"/>'
    for points in (1, 2, 4):
        spec = robot(shank + ball)
        limit_contacts(spec, ["foot"], points, "stand")
        model = spec.compile()
        assert len(contact_points(model, standing(model), "foot")) == 1


def test_a_foot_with_few_contacts_stays_as_it_is():
    ball = '<geom name="sole0" size="0.03" pos="0 0 -0.04"/>'
    reduced = robot(ball)
    limit_contacts(reduced, ["foot"], 1)
    assert [g.name for g in reduced.body("foot").geoms] == ["sole0"]
    assert reduced.geom("sole0").contype == 1


@pytest.mark.parametrize("points", [1, 2, 4])
@pytest.mark.parametrize("sole", [CAPSULES, MESH], ids=["capsules", "mesh"])
def test_every_body_keeps_its_inertia_and_the_model_its_joints_actuators_and_sensors(sole, points):
    full, reduced = robot(sole).compile(), robot(sole)
    reduce_contacts(reduced, ["foot"], points, "stand")
    model = reduced.compile()
    for field in ("body_mass", "body_inertia", "body_ipos", "body_iquat"):
        np.testing.assert_allclose(getattr(model, field), getattr(full, field), atol=1e-9, rtol=0)
    for field in ("nq", "nv", "nu", "nsensordata", "nkey", "nbody", "nsite"):
        assert getattr(model, field) == getattr(full, field)
    # The mesh of a geom that a sensor measures stays.
    assert (model.nmesh, model.ntex, model.nmat) == (int(sole == MESH), 0, 0)
    before, after = standing(full), standing(model)
    kept = [model.sensor(name).adr[0] for name in ("middle", "shell")]
    for adr in kept:
        np.testing.assert_allclose(
            after.sensordata[adr : adr + 3], before.sensordata[adr : adr + 3], atol=1e-9
        )
    # A contact sensor measures the foot, of which one capsule carried a part before.
    adr, force, total = model.sensor("force").adr[0], np.zeros(6), np.zeros(3)
    for i, contact in enumerate(after.contact):
        mujoco.mj_contactForce(model, after, i, force)
        total += contact.frame.reshape(3, 3).T @ force[:3]
    assert total[2] > 1.0
    np.testing.assert_allclose(abs(after.sensordata[adr : adr + 3]), abs(total), atol=1e-6)


def test_named_pairs_of_a_foot_go_over_to_its_new_shape_with_their_friction():
    loose = CAPSULES.replace("<geom", '<geom contype="0" conaffinity="0"')
    pairs = "".join(
        f'<pair geom1="floor" geom2="sole{i}" friction="0.4 0.4 0.1 0.1 0.1"/>' for i in range(7)
    )
    reduced = robot(loose, pairs=pairs + '<pair geom1="trunk" geom2="sole1"/>')
    reduce_contacts(reduced, ["foot"], 2, "stand")
    model = reduced.compile()
    data = standing(model)
    assert len(contact_points(model, data, "foot")) == 2
    assert data.contact[0].friction[0] == 0.4
    assert model.npair == 1


def test_only_the_bodies_that_are_chosen_touch_the_world_and_nothing_touches_the_robot_itself():
    spec = robot(pairs='<pair geom1="trunk" geom2="shank"/><pair geom1="floor" geom2="trunk"/>')
    keep_collisions(spec, ["fo*"])
    model = spec.compile()
    assert model.npair == 0
    data = mujoco.MjData(model)
    # Lying on the ground, folded up: trunk, shank and foot are in the floor and in each other.
    data.qpos[:] = [0, 0, 0.02, 1, 0, 0, 0, 1.0, 1.0]
    mujoco.mj_forward(model, data)
    touching = {model.geom(g).name for c in data.contact for g in (c.geom1, c.geom2)}
    assert touching == {"floor"} | {f"sole{i}" for i in range(7)}


def test_visuals_go_and_what_a_rangefinder_may_see_stays():
    spec = robot()
    discard_visuals(spec)
    assert spec.geom("shell") is None
    assert not spec.meshes
    seeing = robot()
    seeing.body("trunk").add_site(name="eye")
    seeing.add_sensor(
        name="range",
        type=mujoco.mjtSensor.mjSENS_RANGEFINDER,
        objtype=mujoco.mjtObj.mjOBJ_SITE,
        objname="eye",
    )
    discard_visuals(seeing)
    assert seeing.geom("shell") is not None


def test_simple_friction_leaves_four_rows_a_contact_and_none_of_dry_joints():
    spec = mujoco.MjSpec.from_string(
        """
        <mujoco>
          <option cone="elliptic" impratio="10"/>
          <worldbody>
            <geom type="plane" size="0 0 1"/>
            <body pos="0 0 0.099">
              <freejoint/>
              <geom size="0.1" condim="6"/>
              <body><joint name="dry" frictionloss="0.1"/><geom size="0.01" contype="0"
                conaffinity="0"/></body>
            </body>
          </worldbody>
        </mujoco>
        """
    )

    def rows(model):
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        return data.nefc

    assert rows(spec.compile()) == 6 + 1
    simple_friction(spec)
    model = spec.compile()
    assert rows(model) == 4
    assert model.opt.impratio == 1.0


def test_wrong_names_are_answered_with_the_nearest():
    with pytest.raises(TaskError, match="no body is called 'foott'; did you mean 'foot'"):
        reduce_contacts(robot(), ["foott"])
    with pytest.raises(TaskError, match="3 contacts; choose 1, 2 or 4"):
        reduce_contacts(robot(), ["foot"], 3)
    bare = robot('<geom name="sole0" size="0.1" contype="0" conaffinity="0"/>')
    with pytest.raises(TaskError, match="'foot' has no geom that collides"):
        limit_contacts(bare, ["foot"], 1)
    wheel = mujoco.MjSpec.from_string(
        "<mujoco><worldbody><body name='wheel'><joint/><geom type='cylinder' size='.1 .02'/></body>"
        "</worldbody></mujoco>"
    )
    with pytest.raises(TaskError, match="'wheel' turns without end"):
        limit_contacts(wheel, ["wheel"], 1)


def test_a_task_plans_with_what_simplify_makes_of_its_model():
    class Reduced(find_task("humanoid_walk")):
        name = "reduced"

        def simplify(self, spec):
            reduce_contacts(spec, ["left_foot", "right_foot"], 2, self.keyframe)

    task = Reduced()
    planning = task.planning_model(timestep=0.02)
    data = task.initial_data(planning)
    assert data.ncon == 4
    assert task.initial_data(task.model).ncon > data.ncon
    assert planning.ngeom < task.model.ngeom
