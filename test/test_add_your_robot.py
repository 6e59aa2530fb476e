"""docs/add-your-robot.md, followed to the letter."""

import json
import re
import shlex
from pathlib import Path

import pytest

from diffusion_mpc.cli import main

pytest.importorskip("rclpy")

PAGE = (Path(__file__).parents[1] / "docs" / "add-your-robot.md").read_text()


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def saved_names():
    return re.findall(r"Save this as `([\w.]+)`", PAGE)


def saved_texts():
    """The block after each "Save this as"."""
    return [
        re.search(r"^```(?:xml|python)\n(.*?)^```$", rest, flags=re.MULTILINE | re.DOTALL)[1]
        for rest in re.split(r"Save this as `[\w.]+`", PAGE)[1:]
    ]


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The figures of all runs, in a folder that holds nothing but what the page says."""
    folder = tmp_path_factory.mktemp("robot")
    for name, text in zip(saved_names(), saved_texts(), strict=True):
        (folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in blocks("bash"):
            command, *arguments = shlex.split(block)
            assert command == "diffusion-mpc"
            assert main(arguments) == 0
    return folder, {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def test_the_task_of_a_robot_with_legs_is_short():
    (task,) = [t for n, t in zip(saved_names(), saved_texts(), strict=True) if n == "dog.py"]
    assert len(task.splitlines()) <= 30


def test_the_dog_trots_and_does_not_fall(followed):
    figures = followed[1]["dog"]
    assert figures["task"] == "dog"
    assert figures["falls"] == 0
    assert figures["mean_speed"] == pytest.approx(0.6, abs=0.15)


def test_the_robot_on_wheels_drives_and_does_not_fall(followed):
    figures = followed[1]["balancer"]
    assert figures["task"] == "balancer"
    assert figures["falls"] == 0
    assert figures["mean_speed"] == pytest.approx(0.5, abs=0.1)


def test_the_run_is_recorded(followed):
    for name in ("bag", "report.html", "plot.png"):
        assert (followed[0] / "run" / name).exists(), name


def test_a_weight_of_the_new_task_is_a_parameter_like_any_other(followed):
    assert followed[1]["turning"]["falls"] == 0
