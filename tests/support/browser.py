"""A headless Chromium that a test drives: pages are opened, looked at and clicked as a person does."""

import json
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from real_servers import stop, wait_for
from websockets.sync.client import ClientConnection, connect

OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
)  # fmt: skip
CENTRE = """(() => {
  const named = [...document.querySelectorAll('button, a, [role=button], [role=menuitem]')]
    .filter(one => (one.innerText.trim() === %(name)s || one.getAttribute('aria-label') === %(name)s)
                   && one.getClientRects().length);
  if (!named.length) return null;
  const box = named.at(-1).getBoundingClientRect();
  return {x: box.x + box.width / 2, y: box.y + box.height / 2};
})()"""


class Page:
    """One page of the browser."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = count(1)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer of the browser to one call of its DevTools protocol."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._connection.recv(timeout=60))
            if answer.get("id") == number:
                return answer["result"]

    def open(self, address: str) -> None:
        """Goes to an address."""
        self.call("Page.navigate", url=address)

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is on the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def await_text(self, text: str) -> None:
        """Waits until the page shows a text."""
        shown = f"document.body && document.body.innerText.includes({json.dumps(text)})"
        wait_for(lambda: self.value(shown), f"{text!r} on the page")

    def click(self, name: str) -> None:
        """Clicks with the mouse on the last button of that name, once it is there."""
        at = wait_for(lambda: self.value(CENTRE % {"name": json.dumps(name)}), f"a button {name!r}")
        self.click_at(**at)

    def click_at(self, x: float, y: float) -> None:
        """Clicks with the mouse at a point of the window."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text: str) -> None:
        """Types into what has the focus."""
        self.call("Input.insertText", text=text)


@contextmanager
def browsing(chromium: str) -> Iterator[Page]:
    """A page of a browser of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        port = Path(folder) / "DevToolsActivePort"
        command = [chromium, *OPTIONS, f"--user-data-dir={folder}", "--window-size=1400,1000", "about:blank"]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(lambda: port.exists() and port.read_text().strip(), "the browser")
            address = f"http://127.0.0.1:{port.read_text().splitlines()[0]}/json"
            with urllib.request.urlopen(address, timeout=30) as answer:
                pages = [one for one in json.load(answer) if one["type"] == "page"]
            with connect(pages[0]["webSocketDebuggerUrl"], max_size=None) as connection:
                yield Page(connection)
        finally:
            stop(process)
