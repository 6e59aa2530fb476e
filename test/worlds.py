"""Small models with parts beyond joints and motors, each with a task file, for tests."""

TASK = '''"""{kind}"""

from pathlib import Path

from diffusion_mpc.tasks.base import Task, cost


class World(Task):
    """Move what there is to move."""

    name = "world"
    model_path = Path(__file__).with_name("world.xml")
    base = {base!r}
    keyframe = {keyframe!r}
    defaults = {{
        "planner.num_samples": 8,
        "planner.horizon_steps": 6,
        "planner.num_knots": 3,
        "backend.threads": 1,
        {defaults}
    }}

    @cost(weight=1.0)
    def there(self, x, reference):
        """Distance of the first position from 0.3."""
        return x.qpos[..., 0] - 0.3

    @cost(weight=0.001)
    def effort(self, x, reference):
        """Controls."""
        return self.normalise(x.ctrl)

    def trial_state(self, model, data, random):
        """Begin at the keyframe, to the last digit."""
'''

BODY = """<body name='upper' pos='0 0 1'><joint name='shoulder' axis='0 1 0' damping='.2'/>
<geom type='capsule' fromto='0 0 0 .3 0 0' size='.03' mass='.5'/>
<site name='tip' pos='.3 0 0'/><site name='side' pos='.1 0 .06'/></body>
<site name='anchor' pos='-.2 0 1.1'/>"""

CUBE = """<body name='{name}' pos='.6 0 .05'><freejoint/>
<geom type='box' size='.05 .05 .05' mass='.2'/></body><geom type='plane' size='2 2 .1'/>"""

MOTOR = "<motor name='m' joint='shoulder' gear='2' ctrlrange='-1 1'/>"


def world(actuators=MOTOR, bodies=BODY, more="", option=""):
    """MJCF of an arm of one joint, or of other bodies."""
    return f"""<mujoco><option {option}/><worldbody>{bodies}</worldbody>
<actuator>{actuators}</actuator>{more}</mujoco>"""


TENDON = """<tendon><spatial name='cord' width='.005'><site site='anchor'/><site site='side'/>
</spatial></tendon>"""
RANGE = "lengthrange='.2 .5'"

WORLDS = {
    "filter": world(
        "<general name='m' joint='shoulder' dyntype='filter' dynprm='.05' gear='2' "
        "ctrlrange='-1 1'/>"
    ),
    "filterexact": world(
        "<general name='m' joint='shoulder' dyntype='filterexact' dynprm='.05' gear='2' "
        "ctrlrange='-1 1'/>"
    ),
    "filtered servo": world(
        "<position name='m' joint='shoulder' kp='20' timeconst='.05' ctrlrange='-1 1'/>"
    ),
    "integrator": world(
        "<general name='m' joint='shoulder' dyntype='integrator' actlimited='true' "
        "actrange='-1 1' ctrlrange='-5 5'/>"
    ),
    "intvelocity": world(
        "<intvelocity name='m' joint='shoulder' kp='20' ctrlrange='-2 2' actrange='-1 1'/>"
    ),
    "dcmotor": world(
        "<dcmotor name='m' joint='shoulder' motorconst='.5' resistance='1' inductance='.01' "
        "ctrlrange='-2 2'/>"
    ),
    "muscle on a tendon": world(
        f"<muscle name='m' tendon='cord' ctrlrange='0 1' force='20' {RANGE}/>", more=TENDON
    ),
    "site actuator": world("<motor name='m' site='tip' gear='0 0 3 0 0 0' ctrlrange='-1 1'/>"),
    "two actuators on a joint": world(
        "<position name='p' joint='shoulder' kp='20' ctrlrange='-1 1'/>"
        "<velocity name='v' joint='shoulder' kv='1' ctrlrange='-2 2'/>"
    ),
    "delay": world(
        "<motor name='m' joint='shoulder' gear='2' ctrlrange='-1 1' delay='.03' nsample='3'/>"
    ),
    "delayed filter": world(
        "<general name='m' joint='shoulder' dyntype='filter' dynprm='.05' gear='2' "
        "ctrlrange='-1 1' delay='.03' nsample='20'/>"
    ),
    "damper": world(f"{MOTOR}<damper name='d' joint='shoulder' kv='2' ctrlrange='0 1'/>"),
    "second free body": world(bodies=BODY + CUBE.format(name="cube")),
    "rigid flex": world(
        bodies=BODY + "<flexcomp name='plate' rigid='true' type='grid' dim='2' count='3 3 1' "
        "spacing='.1 .1 .1' mass='1'/>"
    ),
    "equality": world(
        bodies=BODY + "<body name='lower' pos='0 .2 1'><joint name='elbow' axis='0 1 0'/>"
        "<geom type='capsule' fromto='0 0 0 .3 0 0' size='.03' mass='.5'/></body>",
        more="<equality><joint joint1='elbow' joint2='shoulder'/></equality>",
    ),
    "mocap": world(
        bodies=BODY + "<body name='goal' mocap='true' pos='1 0 1'><geom size='.02' contype='0' "
        "conaffinity='0'/></body>",
        more="<sensor><framepos name='goal' objtype='body' objname='goal'/></sensor>"
        "<keyframe><key name='home' mpos='0 1 2'/></keyframe>",
    ),
    "drone": world(
        "".join(
            f"<motor name='rotor_{i}' site='{i}' gear='0 0 1 0 0 {spin}' ctrlrange='0 6'/>"
            for i, spin in enumerate((0.1, -0.1, 0.1, -0.1))
        ),
        bodies="<body name='hull' pos='0 0 1'><freejoint/><geom type='box' size='.1 .1 .02' "
        "mass='1'/><site name='0' pos='.1 .1 0'/><site name='1' pos='-.1 .1 0'/>"
        "<site name='2' pos='-.1 -.1 0'/><site name='3' pos='.1 -.1 0'/></body>",
        more="<keyframe><key name='home' ctrl='2.45 2.45 2.45 2.45'/></keyframe>",
    ),
}
"""Models that run, by what is particular to them."""

REFUSED = {
    "ball joint": (
        world(
            bodies=BODY + "<body name='ball' pos='0 .5 1'><joint name='hip' type='ball'/>"
            "<geom size='.05'/></body>"
        ),
        "the joint 'hip' of body 'ball' is a ball joint, which joint_states cannot carry; put "
        "three hinges in its place",
    ),
    "flex": (
        world(
            bodies=BODY + "<flexcomp name='cloth' type='grid' dim='2' count='3 3 1' "
            "spacing='.1 .1 .1' mass='1'><edge equality='true'/></flexcomp>"
        ),
        "flex 'cloth' is soft, and no message measures where its vertices are; make it rigid or "
        "take it out of the model",
    ),
    "unnamed joint": (
        world(bodies=BODY + "<body name='lid' pos='0 .5 1'><joint/><geom size='.05'/></body>"),
        "a joint of body 'lid' has no name, so joint_states cannot carry it; give it one: "
        '<joint name="..."/>',
    ),
    "unnamed free body": (
        world(bodies=BODY + CUBE.replace("name='{name}'", "")),
        "the free body 2 of the model has no name, so no topic can measure it; give it a name, or "
        "take its joint away",
    ),
    "free body with a name that is no topic's": (
        world(bodies=BODY + CUBE.format(name="red cube")),
        "free body 'red cube' would be measured by 'objects/red cube', which is no topic of ROS; "
        "give it a name of letters, digits and single _ that begins with no digit",
    ),
    "unnamed actuator on a tendon": (
        world("<motor tendon='cord' ctrlrange='-1 1'/>", more=TENDON),
        "actuator 0 has no name, and does not drive a joint of its own by whose name it could be "
        "commanded; give it a name",
    ),
    "actuator with the name of another's joint": (
        world(f"{MOTOR}<motor name='shoulder' tendon='cord' ctrlrange='-1 1'/>", more=TENDON),
        "commands to 'shoulder' would be ambiguous: it is a joint and an actuator of another; "
        "rename the actuator",
    ),
    "muscle without a range": (
        world(f"<muscle name='m' tendon='cord' {RANGE}/>", more=TENDON),
        "has no ctrlrange; give it one",
    ),
    "actuator of two controls": (
        world("<pid name='m' joint='shoulder' kp='20' ki='5' ctrlrange='-1 1'/>"),
        "actuator 'm' has 2 controls, and commands have one for each actuator; put actuators of "
        "one control in its place",
    ),
    "activation of the user's": (
        world("<general name='m' joint='shoulder' dyntype='user' ctrlrange='-1 1'/>"),
        "actuator 'm' has dyntype user, whose activation cannot be estimated from its commands; "
        "give it one of MuJoCo's own actuator types",
    ),
}
"""Models that do not run, and the line that says why."""

HOME = ("mocap", "drone")
BASE = {"drone": "hull"}


def write_world(folder, kind, xml=None, **defaults):
    """Write model and task; returns the task's file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "world.xml").write_text(xml or WORLDS[kind])
    lines = [f"{name.replace('__', '.')!r}: {value!r}," for name, value in defaults.items()]
    text = TASK.format(
        kind=kind,
        base=BASE.get(kind),
        keyframe="home" if kind in HOME else None,
        defaults="\n        ".join(lines),
    )
    (folder / "world.py").write_text(text)
    return folder / "world.py"
