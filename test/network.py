"""Two hosts with a bad network between them.

Network namespaces, joined by a relay of Ethernet frames that delays and loses them.

The kernel's own means for this (`tc netem`) is a module that many virtual machines and containers
lack; TAP devices they have.
"""

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
LIBC = ctypes.CDLL(None, use_errno=True)


def _check(result):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Host:
    """A network namespace with one interface; whatever is made in `with host:` lives there.

    Raises PermissionError or FileNotFoundError where the machine does not permit it.
    """

    def __init__(self, address):
        self._outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _check(LIBC.unshare(CLONE_NEWNET))
        self._inside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            self.interface = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(self.interface, TUNSETIFF, struct.pack("16sH", b"lan", IFF_TAP | IFF_NO_PI))
            for command in (
                "link set lo up",
                f"addr add {address}/24 dev lan",
                "link set lan up",
                "route add default dev lan",
            ):
                subprocess.run(["ip", *command.split()], check=True)
        finally:
            self.__exit__()

    def __enter__(self):
        _check(LIBC.setns(self._inside, CLONE_NEWNET))
        return self

    def __exit__(self, *_):
        _check(LIBC.setns(self._outside, CLONE_NEWNET))

    def close(self):
        for descriptor in (self.interface, self._inside, self._outside):
            os.close(descriptor)


class Link(threading.Thread):
    """A cable between two hosts.

    Times in s; frames may overtake one another, as on a real network.
    """

    def __init__(self, hosts, delay, jitter, loss, seed=0):
        super().__init__(daemon=True)
        self._to = {a.interface: b.interface for a, b in (hosts, hosts[::-1])}
        self._delay, self._jitter, self._loss = delay, jitter, loss
        self._random = random.Random(seed)
        self._stopping = threading.Event()
        self.up = True
        self.carried = self.lost = 0

    def run(self):
        under_way = []
        while not self._stopping.is_set():
            wait = max(under_way[0][0] - time.monotonic(), 0.0) if under_way else 0.1
            for interface in select.select(list(self._to), [], [], min(wait, 0.1))[0]:
                frame = os.read(interface, 65536)
                if not self.up or self._random.random() < self._loss:
                    self.lost += 1
                    continue
                due = (
                    time.monotonic()
                    + self._delay
                    + self._random.uniform(-self._jitter, self._jitter)
                )
                self.carried += 1
                heapq.heappush(under_way, (due, self.carried, self._to[interface], frame))
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, target, frame = heapq.heappop(under_way)
                os.write(target, frame)

    def stop(self):
        self._stopping.set()
        self.join()
