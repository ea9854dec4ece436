"""A headless Chromium, driven over its DevTools protocol: opens a page, listens to its console, moves the mouse."""

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)


def chromium() -> str | None:
    """Return the path of an installed Chromium."""
    return next(
        (path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None
    )


class Page:
    """One open page. faults: what its console and its scripts complained of. asked: addresses that it fetched."""

    def __init__(self, socket):
        self.socket, self.number, self.faults, self.asked = socket, 0, [], []

    def call(self, method: str, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            self._note(message)
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]

    def _note(self, message):
        what, rest = message.get("method"), message.get("params", {})
        if what == "Runtime.exceptionThrown":
            self.faults.append(str(rest["exceptionDetails"]))
        elif what == "Runtime.consoleAPICalled" and rest["type"] in ("error", "warning", "assert"):
            self.faults.append(str(rest["args"]))
        elif what == "Log.entryAdded" and rest["entry"]["level"] == "error":
            self.faults.append(str(rest["entry"]))
        elif what == "Network.requestWillBeSent":
            self.asked.append(rest["request"]["url"])

    def open(self, path: Path, width: int = 1280, height: int = 900):
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call("Page.navigate", url=path.absolute().as_uri())
        self.wait(
            "document.readyState === 'complete' && !!document.querySelector('.js-plotly-plot .main-svg')"
        )

    def evaluate(self, script: str):
        result = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, script: str, seconds: float = 30.0):
        end = time.monotonic() + seconds
        while not self.evaluate(script):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)

    def mouse(self, kind: str, x: float, y: float, **more):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def box(self, selector: str):
        """Scroll to an element; return its left, top, width, height in the window."""
        return self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'});"
            "const r = e.getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; })()"
        )

    def shot(self, path: Path, *, whole: bool = False):
        found = self.call(
            "Page.captureScreenshot",
            format="png",
            captureBeyondViewport=whole,
            **(
                {
                    "clip": {
                        "x": 0,
                        "y": 0,
                        "scale": 1,
                        **self.evaluate(
                            "({width: document.documentElement.scrollWidth, height: document.documentElement.scrollHeight})"
                        ),
                    }
                }
                if whole
                else {}
            ),
        )
        path.write_bytes(base64.b64decode(found["data"]))

    def dark(self, on: bool = True):
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if on else "light"}],
        )


@contextlib.contextmanager
def browser(folder: Path):
    """Start a browser with a fresh profile in a folder; yield a function that opens a page of a file."""
    import websocket

    program = chromium()
    profile = folder / "profile"
    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port = _port(profile / "DevToolsActivePort")
        sockets = []

        def show(path: Path, **size) -> Page:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT"
            )
            with urllib.request.urlopen(request) as answer:
                address = json.loads(answer.read())["webSocketDebuggerUrl"]
            sockets.append(websocket.create_connection(address, timeout=60))
            page = Page(sockets[-1])
            page.open(path, **size)
            return page

        yield show
        for socket in sockets:
            socket.close()
    finally:
        process.terminate()
        process.wait(timeout=20)


def _port(file: Path) -> int:
    end = time.monotonic() + 40
    while time.monotonic() < end:
        with contextlib.suppress(OSError, IndexError, ValueError):
            return int(file.read_text(encoding="utf-8").splitlines()[0])
        time.sleep(0.05)
    raise TimeoutError("the browser did not start")
