"""A browser for tests, as far as its connection goes: it sees widgets and moves them."""

import queue
import threading
import time

import msgspec
import viser
import zstandard
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

CAMERA = {
    "type": "ViewerCameraMessage",
    "wxyz": (1.0, 0.0, 0.0, 0.0),
    "position": (1.0, 1.0, 1.0),
    "fov": 1.0,
    "near": 0.1,
    "far": 100.0,
    "image_height": 600,
    "image_width": 800,
    "look_at": (0.0, 0.0, 0.0),
    "up_direction": (0.0, 0.0, 1.0),
}


class Browser:
    """Speaks viser's protocol over a real connection; `take` reads what has come."""

    def __init__(self, address, **options):
        self._socket = connect(
            address.replace("http://", "ws://"),
            subprotocols=[f"viser-v{viser.__version__}"],
            max_size=None,
            close_timeout=0.5,
            **options,
        )
        self.widgets, self.notices = {}, []
        self._arrived = queue.SimpleQueue()
        # A connection whose messages wait to be read does not answer the server's pings either.
        threading.Thread(target=self._receive, daemon=True).start()
        self._send(CAMERA)

    def _receive(self):
        try:
            for data in self._socket:
                self._arrived.put(data)
        except ConnectionClosed:
            pass

    def _send(self, message):
        self._socket.send(msgspec.msgpack.encode(message))

    def take(self):
        """Take the messages that have arrived."""
        while not self._arrived.empty():
            data = self._arrived.get()
            length = int.from_bytes(data[8:16], "little")
            content = zstandard.ZstdDecompressor().decompress(data[16 : 16 + length])
            for message in msgspec.msgpack.decode(content, strict=False)["messages"]:
                self._take(message)

    def _take(self, message):
        kind, uuid = message["type"], message.get("uuid")
        if kind == "NotificationShowMessage":
            self.notices.append(message["props"]["body"])
        elif kind == "GuiUpdateMessage" and uuid in self.widgets:
            self.widgets[uuid].update(message["updates"])
        elif kind == "GuiRemoveMessage":
            self.widgets.pop(uuid, None)
        elif kind.startswith("Gui") and "props" in message:
            self.widgets[uuid] = {**message["props"], "value": message.get("value")}

    def find(self, label):
        """Widgets with a label."""
        return [(uuid, w) for uuid, w in self.widgets.items() if w.get("label") == label]

    def value(self, label):
        return self.find(label)[0][1]["value"]

    def move(self, label, value):
        """Set a slider, or press one of a group of buttons."""
        uuid, widget = self.find(label)[0]
        widget["value"] = value
        self._send({"type": "GuiUpdateMessage", "uuid": uuid, "updates": {"value": value}})

    def texts(self):
        return " ".join(str(w.get("content", "")) for w in self.widgets.values())

    def close(self):
        self._socket.close()
        time.sleep(0.05)
