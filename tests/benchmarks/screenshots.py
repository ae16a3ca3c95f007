"""Pictures of the dashboard for the documentation: empty, and after ten nights of made-up traffic.

    python -m tests.benchmarks.screenshots --out docs/screenshots

Needs Chromium (Debian: apt-get install chromium).
"""

from __future__ import annotations

import argparse
import asyncio
import io
import tempfile
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec
from PIL import Image

from feedback.dashboard.commands import Commands
from scorer import daemon, hosting
from scorer.config import Config
from tests.browser.chromium import DESK, PHONE, Browser, browsing
from tests.conftest import served
from tests.feedback.dashboard import nights

_COLOURS = 64  # of a picture: a page has few, and files stay small


class Shot(NamedTuple):
    """One picture: its name, what it is of, and how it is seen."""

    name: str
    path: str
    size: tuple[int, int] = DESK
    dark: bool = False
    whole: bool = True  # or the top of the page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/screenshots"))
    parser.add_argument("--nights", type=int, default=10)
    parser.add_argument("--requests", type=int, default=1000, help="a day")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        config = msgspec.structs.replace(nights.SETTINGS, data_dir=Path(folder))
        take(config, [Shot("empty", "/")], chosen.out)
        asyncio.run(fill(config, chosen.nights, chosen.requests))
        take(config, story(config), chosen.out)


def story(config: Config) -> list[Shot]:
    (explored,) = asyncio.run(explorations(config))
    return [
        Shot("overview", "/"),
        Shot("overview-dark", "/", dark=True),
        Shot("overview-phone", "/", PHONE),
        Shot("decisions", "/decisions?rated=down", whole=False),
        Shot("decision", f"/decisions/{explored}"),
        Shot("versions", "/versions"),
    ]


async def fill(config: Config, count: int, requests: int) -> None:
    store = hosting.open_store(config)
    await nights.replay(store, config, count, requests)
    await store.close()


async def explorations(config: Config) -> list[str]:
    """A rated decision that explored."""
    store = hosting.open_store(config)
    async for page in store.rated(vectors=False):
        found = [one.decision_id for one in page if one.decision and one.decision.explored]
        if found:
            break
    await store.close()
    return found[:1]


def take(config: Config, shots: list[Shot], out: Path) -> None:
    app = daemon.build(config, commands=Commands(["routerd"], Path("config.yaml")))
    with served(app) as url:
        httpx.get(url, timeout=120)  # which finds the figures once
        asyncio.run(pictures(url, shots, out))


async def pictures(url: str, shots: list[Shot], out: Path) -> None:
    async with browsing() as browser:
        for shot in shots:
            written = out / f"{shot.name}.png"
            written.write_bytes(smaller(await picture(browser, url, shot)))
            print(f"{written}  {written.stat().st_size / 1000:.0f} kB")


async def picture(browser: Browser, url: str, shot: Shot) -> bytes:
    async with browser.tab(shot.size, shot.dark) as tab:
        await tab.open(url + shot.path)
        return await tab.picture(shot.whole)


def smaller(png: bytes) -> bytes:
    """The same with a palette."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(_COLOURS, Image.Quantize.MAXCOVERAGE).save(
        buffer, "PNG", optimize=True
    )
    return buffer.getvalue()


if __name__ == "__main__":
    main()
