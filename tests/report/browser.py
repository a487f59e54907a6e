"A page in a real browser, driven over its debugging protocol: what is drawn, clicked and said."

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from tornado.websocket import websocket_connect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SAID = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


class Browser:
    "Hold one tab; `said` is everything that its console heard."

    async def __aenter__(self):
        self.folder, self.said, self.count = tempfile.mkdtemp(), [], 0
        line = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        line += [f"--user-data-dir={self.folder}", "--remote-debugging-port=0", "about:blank"]
        self.process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        told = Path(self.folder) / "DevToolsActivePort"
        while not (told.exists() and len(told.read_text().split()) > 1):
            assert self.process.poll() is None, "the browser did not start"
            await asyncio.sleep(0.1)
        address, tabs = f"http://127.0.0.1:{told.read_text().split()[0]}/json", []
        while not tabs:
            with urllib.request.urlopen(address) as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
        self.socket = await websocket_connect(tabs[0]["webSocketDebuggerUrl"], max_message_size=2**28)
        for domain in ("Page", "Runtime", "Log"):
            await self.do(f"{domain}.enable")
        return self

    async def __aexit__(self, *error):
        self.socket.close()
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def do(self, method: str, **given) -> dict:
        self.count += 1
        await self.socket.write_message(json.dumps({"id": self.count, "method": method, "params": given}))
        while True:
            told = json.loads(await asyncio.wait_for(self.socket.read_message(), 60))
            if told.get("method") in SAID:
                self.said.append(json.dumps(told["params"])[:500])
            if told.get("id") == self.count:
                assert "error" not in told, told
                return told["result"]

    async def ask(self, expression: str):
        "Return the value of an expression; the page's own policy does not count for it."
        told = await self.do("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, str(told)[:500]
        return told["result"].get("value")

    async def show(self, page: Path, width=1200, height=900, dark=False, touch=False, scripts=True) -> None:
        "Open a page, and wait until its charts are drawn, or until it says that it has none."
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        await self.do("Emulation.setDeviceMetricsOverride", **size)
        await self.do("Emulation.setTouchEmulationEnabled", enabled=touch)
        await self.do("Emulation.setEmulatedMedia", media="", features=[scheme])
        await self.do("Emulation.setScriptExecutionDisabled", value=not scripts)
        await self.do("Page.navigate", url=page.resolve().as_uri())
        for _ in range(300):
            if await self.ask("document.readyState === 'complete' && location.protocol === 'file:'"):
                drawing = "document.querySelector('script[data-library]') && !document.documentElement.dataset.charts"
                if not scripts or not await self.ask(drawing):
                    return
            await asyncio.sleep(0.1)
        raise AssertionError("the charts were not drawn")

    async def drag(self, start: tuple[float, float], to: tuple[float, float]) -> None:
        "Press, move and let go."
        mouse = lambda kind, at, pressed: self.do(
            "Input.dispatchMouseEvent",
            type=kind,
            x=at[0],
            y=at[1],
            button="left" if pressed else "none",
            buttons=int(pressed),
            clickCount=int(pressed),
        )
        await mouse("mouseMoved", start, False)
        await mouse("mousePressed", start, True)
        for step in range(1, 11):
            at = tuple(a + (b - a) * step / 10 for a, b in zip(start, to, strict=True))
            await mouse("mouseMoved", at, True)
        await mouse("mouseReleased", to, True)

    async def picture(self) -> bytes:
        return base64.b64decode((await self.do("Page.captureScreenshot"))["data"])
