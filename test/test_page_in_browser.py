"""The live page in a real browser, headless Chromium driven by selenium, where both are there."""

import shutil
import signal
import time

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(900)]

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium from PyPI")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not (CHROMIUM and DRIVER):
    pytest.skip("needs Chromium and its driver", allow_module_level=True)

PLANNER = {
    "task": "ant",
    "lockstep": True,
    "planner.num_samples": 8,
    "planner.iterations": 2,
    "planner.horizon_steps": 10,
    "backend.threads": 1,
    "wait_for_subscribers": 1,
}


@pytest.fixture
def chromium(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--enable-unsafe-swiftshader",
        "--window-size=1000,700",
        f"--user-data-dir={tmp_path / 'chromium'}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Tab:
    """A tab of the browser, as somebody uses it."""

    def __init__(self, driver, robot):
        self.driver, self.robot = driver, robot

    def until(self, condition, what):
        found = []

        def holds():
            found[:] = [condition()]
            return found[0]

        self.robot.spin_until(holds, what, timeout=90.0)
        return found[0]

    def texts(self, text):
        path = f"//*[contains(normalize-space(.), '{text}') and not(.//*[contains(., '{text}')])]"
        return self.driver.find_elements("xpath", path)

    def see(self, text):
        return self.until(lambda: self.texts(text), f"'{text}' on the page")

    def click(self, text):
        self.see(text)
        self.driver.find_element("xpath", f"//*[normalize-space(text())='{text}']").click()

    def field(self, label):
        path = f"//label[normalize-space()='{label}']/following::input[not(@type='hidden')][1]"
        return self.until(lambda: self.driver.find_elements("xpath", path), label)[0]

    def write(self, label, text):
        field = self.field(label)
        field.send_keys("\ue009a\ue000")  # all of it
        field.send_keys(text + "\ue007")


def test_people_drive_tune_and_reload_and_see_a_planner_die_and_return(
    chromium, tmp_path, monkeypatch
):
    from geometry_msgs.msg import Twist
    from pilot import Witness
    from rcl_interfaces.srv import GetParameters
    from robot import DEEP
    from std_msgs.msg import String

    from diffusion_mpc.bringup.description import free_domain_id
    from diffusion_mpc.node_processes import Process, Running
    from diffusion_mpc.ros.messages.run import LATCHED

    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    planner = Process("planner", PLANNER)
    robot = Witness()
    told, velocities = [], []
    robot.node.create_subscription(String, "viewer/address", told.append, LATCHED)
    robot.node.create_subscription(Twist, "cmd_vel", velocities.append, DEEP)
    sim = Process("sim", {"task": "ant", "lockstep": True})
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()

    def weight():
        request = GetParameters.Request(names=["cost.upright"])
        answer = robot.ask(GetParameters, "planner/get_parameters", request)
        return answer.values[0].double_value

    try:
        with Running([Process("viewer", {"port": 8300}), planner, sim], folders[0]) as running:
            tab = Tab(chromium, robot)
            robot.spin_until(lambda: told and robot.stats, "address and plans")
            chromium.get(told[-1].data)
            tab.see("following the plan")

            tab.click("▲")
            robot.spin_until(lambda: velocities and velocities[-1].linear.x > 0.2, "a velocity")
            asked = velocities[-1].linear.x
            robot.spin_until(
                lambda: robot.stats[-1].command.linear.x == pytest.approx(asked), "plans for it"
            )

            tab.click("tune")
            tab.write("upright", "55")
            robot.spin_until(lambda: weight() == 55.0, "the new weight")
            tab.see("upright ●")
            assert robot.set_parameters(cost__upright=44.0) == (True, "")
            tab.until(lambda: tab.field("upright ●").get_attribute("value") == "44", "44")

            chromium.refresh()
            tab.see("following the plan")
            velocities.clear()
            robot.spin_until(lambda: velocities, "the velocity after a reload")

            running.send("planner", signal.SIGKILL)
            tab.see("silent for")
            time.sleep(1.0)
            with Running([planner], folders[1]):
                tab.see("following the plan")
                tab.click("tune")
                tab.field("upright")
            severe = [line for line in chromium.get_log("browser") if line["level"] == "SEVERE"]
            assert not severe
    finally:
        robot.close()
