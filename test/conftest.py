import os
import sys

import pytest

from diffusion_mpc.ros.bringup import free_domain_id

# Tests must neither reach another ROS system nor be reached by one.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(free_domain_id())


def pytest_collection_modifyitems(items):
    try:
        import diffusion_mpc.msg  # noqa: F401
        import rclpy  # noqa: F401
    except ImportError as error:
        for item in items:
            if "ros" in item.keywords:
                item.add_marker(pytest.mark.skip(reason=f"needs ROS 2 and the built messages: {error}"))


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread():
    import torch

    torch.set_num_threads(1)
    assert "torch" in sys.modules
