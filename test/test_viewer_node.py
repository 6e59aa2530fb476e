"""The live page's server over real DDS and a real connection, without a browser's engine."""

import contextlib
import http.client
import signal

import pytest

pytestmark = pytest.mark.ros
pytest.importorskip("viser", reason="needs viser and mjviser")
pytest.importorskip("mjviser", reason="needs viser and mjviser")


def start(name, parameters, folder):
    from diffusion_mpc.node_processes import Process, Running

    folder.mkdir()
    return Running([Process(name, parameters)], folder)


def address_of(robot, viewer):
    """Address that a viewer node tells."""
    from std_msgs.msg import String

    from diffusion_mpc.ros.messages.run import LATCHED

    told = []
    robot.node.create_subscription(String, "viewer/address", told.append, LATCHED)
    robot.spin_until(lambda: told or viewer.ended(), "the page's address")
    assert not viewer.ended(), viewer.log("viewer")
    return told[-1].data


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A planner of an ant, a robot that lies still, and the address of the page."""
    from conftest import CARTPOLE
    from robot import Robot

    from diffusion_mpc.bringup.description import free_domain_id
    from diffusion_mpc.estimation.estimator import Estimator
    from diffusion_mpc.tasks import find_task

    joints = list(Estimator(find_task("ant")().model, "torso").addresses)
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
        robot = Robot(joints=joints, base=True)
        planner = {**CARTPOLE, "task": "ant", "planner.rate": 10.0}
        with (
            start("viewer", {"port": 8400}, folder / "viewer") as viewer,
            start("planner", planner, folder / "planner") as running,
        ):
            address = address_of(robot, viewer)
            robot.start()
            robot.spin_until(lambda: robot.stats, "plans")
            yield running, robot, address
        robot.close()


@pytest.fixture
def browser(page):
    from browser import Browser

    with contextlib.closing(Browser(page[-1])) as opened:
        yield opened


def seen(robot, browser, condition, what):
    def holds():
        browser.take()
        return condition()

    robot.spin_until(holds, what)


def get_parameter(robot, name):
    from rcl_interfaces.srv import GetParameters

    answer = robot.ask(GetParameters, "planner/get_parameters", GetParameters.Request(names=[name]))
    return answer.values[0]


def test_sliders_set_parameters_and_show_what_others_set_and_a_refused_one_goes_back(page, browser):
    _, robot, _ = page
    from diffusion_mpc.config import PlannerNodeConfig, parameters
    from diffusion_mpc.tasks import find_task

    known = parameters(PlannerNodeConfig, find_task("ant"))
    seen(robot, browser, lambda: browser.find("upright"), "the controls")
    weight = browser.find("upright")[0][1]
    assert weight["value"] == known["cost.upright"].default
    assert known["cost.upright"].description in weight["hint"]
    assert (weight["min"], weight["max"]) == (0.0, 4.0 * weight["value"])
    wanted = {
        p.name
        for p in known.values()
        if (p.live or p.rebuilt) and not p.name.startswith("goal.")  # it follows no goal
    }

    def there():
        return {str(w.get("hint")).partition(":")[0] for w in browser.widgets.values()}

    seen(robot, browser, lambda: wanted <= there(), "all parameters that may change")

    browser.move("upright", 5.0)
    robot.spin_until(
        lambda: get_parameter(robot, "cost.upright").double_value == 5.0, "the new weight"
    )
    seen(robot, browser, lambda: browser.find("upright ●"), "the mark of a changed value")

    assert robot.set_parameters(planner__temperature=0.7) == (True, "")
    seen(robot, browser, lambda: browser.find("temperature ●"), "another's change")
    assert browser.value("temperature ●") == 0.7

    browser.move("algorithm", "mppi")
    robot.spin_until(lambda: robot.stats[-1].algorithm == "mppi", "plans of another algorithm")

    browser.move("control dt [s]", 0.013)
    seen(robot, browser, lambda: browser.notices, "the reason of a refusal")
    assert "planner.control_dt" in browser.notices[-1]
    seen(robot, browser, lambda: browser.value("control dt [s]") == 0.02, "the value as it was")


def test_the_pad_drives_until_the_page_is_closed(page, browser):
    from geometry_msgs.msg import Twist
    from robot import DEEP

    _, robot, _ = page
    seen(robot, browser, lambda: browser.find("steer"), "the pad")
    velocities = []
    robot.node.create_subscription(Twist, "cmd_vel", velocities.append, DEEP)
    robot.spin(0.5)
    assert not velocities
    browser.move("forward [m/s]", 0.8)
    robot.spin_until(lambda: len(velocities) > 5, "a velocity again and again")
    assert velocities[-1].linear.x == 0.8
    robot.spin_until(lambda: robot.stats[-1].command.linear.x == 0.8, "plans for it")
    browser.move("steer", "◀")
    robot.spin_until(lambda: velocities[-1].angular.z > 0.0, "a turn to the left")
    browser.close()
    robot.spin_until(
        lambda: velocities[-1].linear.x == velocities[-1].angular.z == 0.0, "a robot that stands"
    )
    velocities.clear()
    robot.spin(0.5)
    assert not velocities


def get(address, path="/", **headers):
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10.0)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    return answer


def test_other_sites_are_refused_and_other_machines_need_the_token():
    from browser import Browser
    from websockets.exceptions import InvalidStatus

    from diffusion_mpc.config import ViewerConfig
    from diffusion_mpc.live.page import Page

    page = Page(ViewerConfig(host="0.0.0.0", port=8500, token="secret"), None)
    assert page.secret_address == f"{page.address}/?token=secret"
    address = page.address.replace("0.0.0.0", "127.0.0.1")
    assert get(address).status == 401
    assert get(address, "/?token=wrong").status == 401
    with pytest.raises(InvalidStatus, match="401"):
        Browser(address)
    answer = get(address, "/?token=secret")
    assert answer.status == 303
    cookie = answer.getheader("Set-Cookie").partition(";")[0]
    assert get(address, Cookie=cookie).status == 200
    assert get(address, Cookie=cookie, Origin="http://elsewhere.org").status == 403
    with pytest.raises(InvalidStatus, match="403"):
        Browser(address, origin="http://elsewhere.org", additional_headers={"Cookie": cookie})
    Browser(address, origin=address, additional_headers={"Cookie": cookie}).close()
    page.close()


def test_a_page_of_this_machine_alone_answers_to_its_own_names_only():
    from diffusion_mpc.live.access import Guard

    guard = Guard("127.0.0.1")
    assert guard.refuse("/", {"Host": "localhost:8080"}) is None
    assert guard.refuse("/", {"Host": "127.0.0.1:1234", "Origin": "http://127.0.0.1:1234"}) is None
    assert guard.refuse("/", {"Host": "rebound.org:8080"}).status_code == 403
    assert guard.refuse("/", {"Host": "localhost:8080", "Origin": "http://rebound.org"}) is not None


def test_an_address_of_another_machine_is_a_mistake_that_is_told():
    from diffusion_mpc.config import ConfigError
    from diffusion_mpc.live.access import Guard

    with pytest.raises(ConfigError, match=r"host: '192\.0\.2\.1' is no address of this machine"):
        Guard("192.0.2.1")


def test_a_planner_that_dies_is_told_and_one_that_returns_is_shown_in_another_tab(
    page, browser, tmp_path
):
    from browser import Browser
    from conftest import CARTPOLE

    running, robot, address = page
    seen(robot, browser, lambda: "plans/s" in browser.texts(), "figures of plans")
    running.send("planner", signal.SIGKILL)
    seen(robot, browser, lambda: "silent for" in browser.texts(), "that the planner is silent")
    parameters = {**CARTPOLE, "task": "ant", "cost.upright": 3.0}
    with start("planner", parameters, tmp_path / "again"):
        robot.stats.clear()
        robot.spin_until(lambda: robot.stats, "plans again")
        other = Browser(address)
        seen(robot, other, lambda: other.find("upright ●"), "its controls")
        seen(robot, other, lambda: other.value("upright ●") == 3.0, "its parameters")
        seen(robot, other, lambda: "silent for" not in other.texts(), "that it is back")
        other.close()


@pytest.fixture
def simulated(tmp_path, monkeypatch):
    """A simulated ant in lockstep and the page; the robot that listens, and a browser."""
    from browser import Browser
    from conftest import CARTPOLE
    from pilot import Witness

    from diffusion_mpc.bringup.description import free_domain_id

    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    robot = Witness(base=True)
    ant = {"task": "ant", "lockstep": True}
    viewer = {"port": 8600, "recordings": str(tmp_path / "runs")}
    with (
        start("viewer", viewer, tmp_path / "viewer") as running,
        start("planner", {**CARTPOLE, **ant, "wait_for_subscribers": 1}, tmp_path / "planner"),
        start("sim", ant, tmp_path / "sim"),
        contextlib.closing(Browser(address_of(robot, running))) as opened,
    ):
        seen(robot, opened, lambda: opened.find("push"), "the buttons of the simulation")
        robot.spin_until(lambda: len(robot.states) > 3, "states")
        yield robot, opened
    robot.close()


def test_the_page_pauses_the_simulation_advances_it_by_a_period_and_lets_it_go_on(simulated):
    robot, browser = simulated
    browser.move("simulation", "pause")

    def stands():
        before = robot.stamp()
        robot.spin(0.5)
        return robot.stamp() == before

    robot.spin_until(stands, "the simulation to stand")
    before = robot.stamp()
    browser.move("simulation", "step")
    robot.spin_until(lambda: robot.stamp() > before, "one period")
    assert stands()
    assert robot.stamp() == pytest.approx(before + 0.02)
    browser.move("simulation", "run")
    robot.spin_until(lambda: robot.stamp() > before + 0.1, "the simulation to go on")


def test_the_page_pushes_the_robot_in_the_direction_of_the_arrow(simulated):
    from nav_msgs.msg import Odometry
    from robot import DEEP

    robot, browser = simulated
    twists = []
    robot.node.create_subscription(Odometry, "odom", twists.append, DEEP)
    robot.spin_until(lambda: twists, "odometry")
    # Four times its weight for 0.2 s would change its velocity by 8 m/s; its feet take most of it.
    slider = browser.find("push [N]")[0][1]
    browser.move("push [N]", slider["max"])
    browser.move("push", "←")
    robot.spin_until(lambda: any(m.twist.twist.linear.y > 1.0 for m in twists), "a push to +y")


def test_the_page_records_a_bag_that_can_be_evaluated_beside_another_recorder(simulated, tmp_path):
    robot, _ = simulated
    with start("recorder", {"directory": str(tmp_path / "other")}, tmp_path / "recorder"):
        robot.spin_until((tmp_path / "other").is_dir, "the other recorder")
        records_a_bag(simulated, tmp_path)


def records_a_bag(simulated, tmp_path):
    from diffusion_mpc.evaluation.report import write_report

    robot, browser = simulated
    browser.move("record", True)
    seen(robot, browser, lambda: "recording to" in browser.texts(), "that it records")
    asked = len(robot.stats)
    seen(robot, browser, lambda: len(robot.stats) > asked + 300, "plans")
    browser.move("end the recording", True)
    seen(robot, browser, lambda: "diffusion-mpc evaluate" in browser.texts(), "where the bag is")
    (bag,) = (tmp_path / "runs").glob("*/bag")
    assert f"diffusion-mpc evaluate {bag}" in browser.texts()
    assert browser.find("record")
    report = write_report(bag, "", tmp_path / "report")
    assert report.summary["task"] == "ant"
    assert report.summary["plans"] > 20
    assert not report.failure


def test_a_checkpoint_is_chosen_from_those_that_ship_for_the_task():
    import time

    from browser import Browser

    from diffusion_mpc.config import PlannerNodeConfig, ViewerConfig, parameters
    from diffusion_mpc.live.page import Described, Page
    from diffusion_mpc.policy.checkpoint import shipped_for
    from diffusion_mpc.tasks import find_task

    class Asked:
        """Actions that are noted."""

        def __init__(self):
            self.values = []

        def set_parameter(self, node, name, value, settled):
            self.values.append((node, name, value))
            settled("")

    assert shipped_for("quadruped", ("policy", "optimality")) == ["shipped:quadruped"]
    assert shipped_for("quadruped", ("value",)) == []
    asked, name = Asked(), "policy.checkpoint"
    page = Page(ViewerConfig(port=8700), asked)
    known = parameters(PlannerNodeConfig, find_task("quadruped"))
    values = {p.name: p.default for p in known.values()}
    page.describe(Described(known, values, offered={name: shipped_for("quadruped", ("policy",))}))
    with contextlib.closing(Browser(page.address)) as opened:

        def until(condition):
            deadline = time.monotonic() + 30.0
            while not condition():
                assert time.monotonic() < deadline
                page.turn(time.monotonic())
                opened.take()

        until(lambda: opened.find(f"choose {name}"))
        opened.move(f"choose {name}", "none")
        until(lambda: asked.values == [("planner", name, "")])
        opened.move(f"choose {name}", "shipped:quadruped")
        until(lambda: asked.values[1:] == [("planner", name, "shipped:quadruped")])
    page.close()
