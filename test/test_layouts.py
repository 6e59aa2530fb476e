"""The layouts for RViz, PlotJuggler and Foxglove show what the nodes publish."""

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.ros

CONFIG = Path(__file__).parents[1] / "config"


def resolve(path):
    """Raises unless a message path names a topic of ours and a field of its messages."""
    from diffusion_mpc.msg import PlannerStats
    from nav_msgs.msg import Odometry

    topic = next(t for t in ("/planner/stats", "/odom") if path.startswith(t))
    value = {"/planner/stats": PlannerStats, "/odom": Odometry}[topic]()
    for name in re.split(r"[./]", path.removeprefix(topic)[1:]):
        value = getattr(value, name.split("[")[0])


def test_curves_of_plotjuggler_are_fields_of_messages():
    curves = [
        curve.get("name") for curve in ElementTree.parse(CONFIG / "plotjuggler.xml").iter("curve")
    ]
    assert len(curves) > 8
    for curve in curves:
        resolve(curve)
    with pytest.raises(AttributeError):
        resolve("/planner/stats/plan_tine")


def test_panels_of_foxglove_are_laid_out_and_show_fields_of_messages():
    layout = json.loads((CONFIG / "foxglove.json").read_text())

    def leaves(node):
        return [node] if isinstance(node, str) else leaves(node["first"]) + leaves(node["second"])

    assert sorted(leaves(layout["layout"])) == sorted(layout["configById"])
    for panel in layout["configById"].values():
        for path in panel.get("paths", []):
            resolve(path["value"])
    assert "/planner/markers" in layout["configById"]["3D!plan"]["topics"]
    # What `PlotConfig` of foxglove/studio requires, in its last public version.
    required = {
        "paths": list,
        "showLegend": bool,
        "legendDisplay": str,
        "showPlotValuesInLegend": bool,
        "showXAxisLabels": bool,
        "showYAxisLabels": bool,
        "isSynced": bool,
        "xAxisVal": str,
        "sidebarDimension": int,
    }
    for name, panel in layout["configById"].items():
        if name.startswith("Plot!"):
            assert {key: type(panel.get(key)) for key in required} == required


def test_displays_of_rviz_listen_to_what_is_published():
    displays = yaml.safe_load((CONFIG / "planner.rviz").read_text())["Visualization Manager"][
        "Displays"
    ]
    topics = {display["Topic"]["Value"] for display in displays if "Topic" in display}
    assert topics == {"/planner/markers", "/odom"}
