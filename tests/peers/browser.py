"""A real headless Chromium, driven through its debugging pipe: no driver package, no port."""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.needs import tool

_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_WITHOUT_WEBGL = ("--disable-gpu",)
#: WebGL in software, for pages that draw images with it.
_WITH_WEBGL = (
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)


#: What the browser says to an expression while one page makes room for another.
_CHANGING_PAGES = ("navigated or closed", "context was destroyed", "Cannot find context")


class Browser:
    """One tab. Commands are those of the Chrome DevTools protocol."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to_browser = to_browser
        self._from_browser = from_browser
        self._numbers = itertools.count(1)
        self._received = b""
        self._session = ""
        #: Messages of the page's console and errors it did not catch.
        self.complaints: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Run one command and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to_browser, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])
            self._note(answer)

    def open(self, url: str, width: int = 1280, height: int = 900, *, dark: bool = False) -> None:
        """Show a page in a window of this size (CSS pixels)."""
        self.show_at(width, height, dark=dark)
        self.run("window.isLeft = true")
        answer = self.send("Page.navigate", url=url)
        # It answers while the old page is still there; a change of the fragment alone (no loader) keeps that.
        is_other_page = "!window.isLeft && " if "loaderId" in answer else ""
        self.wait_for(f"{is_other_page}document.readyState == 'complete'")

    def show_at(self, width: int, height: int = 900, *, dark: bool = False, media: str = "") -> None:
        """Show what is shown in a window of this size (CSS pixels), on a dark screen, or as it would be printed."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def run(self, script: str) -> Any:
        """Evaluate a JavaScript expression in the page and return its value."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description", script))
        return answer["result"].get("value")

    def wait_for(self, script: str, timeout_s: float = 60.0) -> None:
        """Wait until an expression is true."""
        give_up_at = time.monotonic() + timeout_s
        while not self._holds(script):
            if time.monotonic() > give_up_at:
                raise AssertionError(f"never true: {script}\npage shows: {self.text()[:2000]}\n{self.complaints}")
            time.sleep(0.05)

    def _holds(self, script: str) -> bool:
        try:
            return bool(self.run(f"Boolean({script})"))
        except RuntimeError as error:
            if any(words in str(error) for words in _CHANGING_PAGES):
                return False
            raise

    def text(self) -> str:
        """Return what the page shows as text."""
        return str(self.run("document.body.innerText"))

    def click(self, selector: str) -> None:
        """Click an element."""
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def screenshot(self, path: Path, *, whole_page: bool = False) -> None:
        """Save what the page looks like."""
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole_page)["data"]
        path.write_bytes(base64.b64decode(data))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            chunk = os.read(self._from_browser, 1 << 20)
            if not chunk:
                raise RuntimeError("the browser has ended")
            self._received += chunk
        message, _, self._received = self._received.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(message["params"]["exceptionDetails"]))
        if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.complaints.append(message["params"]["entry"]["text"])


@contextmanager
def running_browser(folder: Path, *, webgl: bool = False) -> Iterator[Browser]:
    """Run Chromium with its profile in `folder`; it ends with the context."""
    arguments = (*_ARGUMENTS, *(_WITH_WEBGL if webgl else _WITHOUT_WEBGL))
    program = tool("chromium", "chromium")
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    # Chromium reads commands from descriptor 3 and answers on 4.
    shell = ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "chromium"]
    process = subprocess.Popen(
        [*shell, program, *arguments, f"--user-data-dir={folder / 'profile'}"],
        pass_fds=(theirs_in, theirs_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(ours_out, ours_in)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours_out)
        os.close(ours_in)
