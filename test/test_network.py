"""Planner and robot on two hosts, with a bad network between them."""

import time

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.network, pytest.mark.slow]

COMMAND_TIMEOUT = 0.2
DELAY = 0.02
WALL = time.time() - time.monotonic()


@pytest.fixture
def apart(tmp_path, monkeypatch):
    """Planner on one host, simulated robot and its witness on another; the link between them."""
    from network import Host, Link
    from pilot import Witness

    from diffusion_mpc.node_processes import Process, Running

    try:
        hosts = [Host(f"10.98.76.{i}") for i in (1, 2)]
    except OSError as error:
        pytest.skip(
            f"needs network namespaces and TAP devices ({error}); as a user: unshare -rn ./dmpc "
            "test network"
        )
    # What follows must use the network: not the memory that the two hosts share, being one machine.
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    monkeypatch.setenv("ROS_DOMAIN_ID", "1")
    together = {"task": "cartpole", "wait_for_subscribers": 1}
    link = Link(hosts, delay=DELAY, jitter=0.005, loss=0.05)
    link.start()
    made = [host.close for host in hosts] + [link.stop]
    try:
        for host, name, settings in zip(
            hosts,
            ("planner", "sim"),
            (
                {"backend.threads": 1, "state_timeout": 0.2, "prediction.command_delay": DELAY},
                {"rate": 200.0},
            ),
            strict=True,
        ):
            folder = tmp_path / name
            folder.mkdir()
            with host:
                made.append(Running([Process(name, {**together, **settings})], folder).stop)
        with hosts[1]:
            witness = Witness()
        made.append(witness.close)
        yield link, witness
    finally:
        for close in reversed(made):
            close()


def balances(witness):
    """The pole has stood upright for a second."""
    last = witness.states[-200:]
    return len(last) == 200 and np.mean([np.cos(state.position[1]) for state in last]) > 0.95


@pytest.mark.faults(
    "network: 20 ms, jitter 5 ms, 5 % lost; then down",
    "it controls; stops by command_timeout; control returns",
)
def test_control_over_a_bad_network_and_when_it_goes_down(apart, time_to_safe):
    from pilot import motor_off

    link, witness = apart
    witness.spin_until(
        lambda: balances(witness), "the pole to be swung up over the network", timeout=100.0
    )
    assert link.lost > 0.03 * link.carried

    link.up = False
    witness.spin(0.05)  # what is under way arrives
    witness.states.clear()
    witness.spin(4.0 * COMMAND_TIMEOUT)
    off = motor_off(witness.states)
    assert off is not None
    time_to_safe(
        off - WALL - witness.commands[-1][0] - COMMAND_TIMEOUT,
        "command_timeout after the last command that arrived",
    )

    witness.spin_until(
        lambda: np.cos(witness.states[-1].position[1]) < 0.0, "the pole to fall", timeout=30.0
    )
    witness.states.clear()
    link.up = True
    witness.spin_until(lambda: balances(witness), "control to return", timeout=100.0)
