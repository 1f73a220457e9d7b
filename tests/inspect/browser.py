"""Chromium without a window, driven over two pipes by its DevTools protocol: commands and events are JSON."""

import base64
import contextlib
import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
COMPLAINTS = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


class Page:
    """An open page.

    Attributes:
      complaints: events of the console, uncaught errors, and what the browser logs (refused requests, violated policy).
      requests: addresses that were asked for, beside data: ones.
    """

    def __init__(self, commands: Any, answers: Any):
        self.commands, self.answers, self.session, self.sent = commands, answers, None, 0
        self.complaints, self.requests, self.received = [], [], b""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a command and gives its result."""
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        self.commands.write(json.dumps(message).encode() + b"\0")
        self.commands.flush()
        while (answer := self.next()).get("id") != self.sent:
            pass
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def next(self) -> dict[str, Any]:
        """The next message, which is noted if it is one to note."""
        while b"\0" not in self.received:
            part = self.answers.read1(2**20)
            assert part, "Chromium has ended"
            self.received += part
        text, _, self.received = self.received.partition(b"\0")
        message = json.loads(text)
        if message.get("method") in COMPLAINTS:
            self.complaints.append(message["params"])
        if message.get("method") == "Network.requestWillBeSent":
            address = message["params"]["request"]["url"]
            self.requests += [address] if not address.startswith("data:") else []
        return message

    def open(self, path: Path, width: int, height: int = 1600) -> None:
        """Opens a file in a window of that size, in CSS pixels, and waits until it is loaded."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=True)
        self.call("Page.navigate", url=path.as_uri())
        while self.next().get("method") != "Page.loadEventFired":
            pass

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; of a promise, what it comes to."""
        wishes = {"returnByValue": True, "awaitPromise": True}
        return self.call("Runtime.evaluate", expression=expression, **wishes)["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """Presses and releases a key."""
        named = {"key": key, "code": key if key != " " else "Space", "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **named)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def shot(self) -> np.ndarray:
        """What the window shows, `[H, W, 3]`."""
        data = base64.b64decode(self.call("Page.captureScreenshot")["data"])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A page of a browser of its own, which ends with the context."""
    (to_read, commands), (answers, to_write) = os.pipe(), os.pipe()
    flags = "--headless --no-sandbox --disable-gpu --hide-scrollbars --remote-debugging-pipe"
    line = f'exec "$0" {flags} "--user-data-dir=$1" 3<&{to_read} 4>&{to_write}'
    process = subprocess.Popen(
        ["bash", "-c", line, CHROMIUM, profile],
        pass_fds=(to_read, to_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(to_write)
    with os.fdopen(commands, "wb") as sending, os.fdopen(answers, "rb") as receiving:
        try:
            yield Page(sending, receiving)
        finally:
            process.terminate()
            process.wait(30)
