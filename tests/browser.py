"""A Chromium without a window, spoken to in its own DevTools protocol: opens pages, reads them, takes pictures."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SIZE = (1280, 800)


def program() -> str:
    """The browser of this machine; the test fails where there is none, since it was asked for."""
    found = next((place for place in map(shutil.which, NAMES) if place), None)
    if found is None:
        pytest.fail(f"no browser: none of {', '.join(NAMES)} is on the PATH (on Debian: apt-get install chromium)")
    return found


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.calls = 0

    async def call(self, method: str, **given: Any) -> dict[str, Any]:
        """Call a method of the protocol; events that come meanwhile are dropped."""
        self.calls += 1
        await self.socket.send_json({"id": self.calls, "method": method, "params": given})
        while True:
            answer = await self.socket.receive_json(timeout=60)
            if answer.get("id") == self.calls:
                assert "error" not in answer, answer
                return dict(answer["result"])

    async def text(self) -> str:
        """What the page shows."""
        found = await self.call("Runtime.evaluate", expression="document.body ? document.body.innerText : ''")
        return str(found["result"]["value"])

    async def open(self, url: str, until: str, seconds: float = 60) -> str:
        """Open a page and wait until it shows a text; returns all that it shows then."""
        await self.call("Page.navigate", url="about:blank")
        await self.call("Page.navigate", url=url)
        deadline = time.monotonic() + seconds
        while until not in (shown := await self.text()):
            assert time.monotonic() < deadline, f"{url} does not show {until!r} but:\n{shown}"
            await asyncio.sleep(0.3)
        return shown

    async def picture(self, file: Path) -> None:
        """Write what the page looks like as a PNG."""
        found = await self.call("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(found["data"]))


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Page]:
    """A browser whose profile lies in `folder`; it ends with the block."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0"]
    place = [f"--user-data-dir={folder}", f"--window-size={SIZE[0]},{SIZE[1]}", "about:blank"]
    nowhere = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(program(), *options, *place, stdout=nowhere, stderr=nowhere)
    try:
        port = await _port(folder / "DevToolsActivePort")
        async with aiohttp.ClientSession() as client:
            async with client.get(f"http://127.0.0.1:{port}/json/list") as answer:
                tabs = json.loads(await answer.text())
            address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
            async with client.ws_connect(address, max_msg_size=0) as socket:
                yield Page(socket)
    finally:
        process.terminate()
        await process.wait()


async def _port(file: Path, seconds: float = 60) -> int:
    """The port that the browser has chosen; it writes it into a file once it listens."""
    deadline = time.monotonic() + seconds
    while not (file.exists() and file.read_text().strip()):
        assert time.monotonic() < deadline, "the browser does not start"
        await asyncio.sleep(0.1)
    return int(file.read_text().split()[0])
