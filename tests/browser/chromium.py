"""Headless Chromium, driven by its own DevTools protocol over aiohttp: no driver, nothing but the system's browser."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import tempfile
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

PHONE, DESK = (375, 812), (1100, 900)
_SECONDS = 30.0


def program() -> str | None:
    """Debian's chromium, or another one by its usual names."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


class Tab:
    """One page. complaints: what was written to its console as an error, and requests that failed."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.complaints: list[str] = []
        self.asked: list[str] = []  # addresses
        self._socket = socket
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self._number = 0
        self._listening = asyncio.create_task(self._listen())

    async def call(self, method: str, **params: object) -> dict[str, Any]:
        """A command of the protocol, and its result."""
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        async with asyncio.timeout(_SECONDS):
            result: dict[str, Any] = await answer
        return result

    async def prepare(self, size: tuple[int, int], dark: bool, script: bool) -> None:
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.call("Emulation.setScriptExecutionDisabled", value=not script)
        await self.resize(*size)

    async def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1}
        await self.call("Emulation.setDeviceMetricsOverride", mobile=width < 600, **size)

    async def open(self, url: str) -> None:
        """Until it has loaded."""
        await self.during(self.call("Page.navigate", url=url))

    async def during(self, work: Any) -> None:
        """Does what loads another page, and waits for that."""
        self._loaded.clear()
        await work
        async with asyncio.timeout(_SECONDS):
            await self._loaded.wait()

    async def run(self, expression: str) -> Any:
        """The value of a script's expression."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def press(self, key: str, code: int, text: str = "") -> None:
        told = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **told)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **told)

    async def picture(self, whole: bool = False) -> bytes:
        """A PNG of what is seen, or of the whole page."""
        if whole:
            height = await self.run("document.documentElement.scrollHeight")
            await self.resize(await self.run("innerWidth"), height)
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])

    async def close(self) -> None:
        await self._socket.close()
        await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self) -> None:
        async for message in self._socket:
            said = message.json()
            if "id" in said:
                answer = self._answers.pop(said["id"])
                if not answer.done():
                    answer.set_result(said.get("result") or {"error": said.get("error")})
            else:
                self._note(said["method"], said["params"])

    def _note(self, method: str, said: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.complaints.append(said["entry"]["text"])
        elif method == "Runtime.exceptionThrown" or (method == "Runtime.consoleAPICalled" and said["type"] == "error"):
            self.complaints.append(str(said))
        elif method == "Network.loadingFailed":
            self.complaints.append(said["errorText"])
        elif method == "Network.requestWillBeSent":
            self.asked.append(said["request"]["url"])


class Browser:
    """A running Chromium."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._url = f"http://127.0.0.1:{port}"

    @contextlib.asynccontextmanager
    async def tab(self, size: tuple[int, int] = DESK, dark: bool = False, script: bool = True) -> AsyncIterator[Tab]:
        """A tab; script: whether pages may run any (evaluating from outside always works)."""
        async with self._session.put(f"{self._url}/json/new?about:blank") as answer:
            where = (await answer.json())["webSocketDebuggerUrl"]
        tab = Tab(await self._session.ws_connect(where, max_msg_size=64 * 2**20))
        try:
            await tab.prepare(size, dark, script)
            yield tab
        finally:
            await tab.close()


@contextlib.asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """Starts one, with a profile of its own, and ends it."""
    found = program()
    assert found is not None, "no chromium: apt-get install chromium"
    with tempfile.TemporaryDirectory(prefix="chromium", ignore_cleanup_errors=True) as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        flags += ["--no-first-run", "--disable-background-networking", "--remote-debugging-port=0"]
        arguments = [*flags, f"--user-data-dir={profile}", "about:blank"]
        process = await asyncio.create_subprocess_exec(found, *arguments, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
        try:
            port = await _port(Path(profile) / "DevToolsActivePort")
            async with aiohttp.ClientSession() as session:
                yield Browser(session, port)
        finally:
            process.terminate()
            await process.wait()


async def _port(file: Path) -> int:
    """Which it has chosen, once it says so."""

    def look() -> int:
        deadline = time.monotonic() + 60
        while not (file.exists() and file.read_text()):
            assert time.monotonic() < deadline, "chromium did not start"
            time.sleep(0.05)
        return int(file.read_text().split()[0])

    return await asyncio.to_thread(look)
