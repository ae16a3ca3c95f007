"""The dashboard in a real browser: quiet, without scripts, in both schemes, on a phone, and by keyboard alone."""

from __future__ import annotations

import re
from html import unescape

import httpx
import pytest

from tests.browser.chromium import DESK, PHONE, Browser, Tab
from tests.feedback.dashboard.visiting import TOKEN

PAGES = ("/", "/decisions", "/decisions/newest", "/runs", "/versions", "/confirm/activate")
TAB, ENTER, SPACE = ("Tab", 9), ("Enter", 13, "\r"), (" ", 32, " ")

# Of every text its contrast with what is behind it (WCAG 2, relative luminance); those that are too faint.
CONTRAST = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const part = c => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
  const behind = node => { for (; node; node = node.parentElement) {
    const colour = rgb(getComputedStyle(node).backgroundColor); if (colour[3] === 255) return colour; } };
  const faint = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim());
    if (!own || !node.getClientRects().length) continue;
    const style = getComputedStyle(node), svg = node instanceof SVGElement;
    const ratio = [light(rgb(svg ? style.fill : style.color)), light(behind(node))].sort((a, b) => b - a);
    const contrast = (ratio[0] + .05) / (ratio[1] + .05);
    if (contrast < 4.5) faint.push([node.textContent.trim().slice(0, 30), contrast]);
  }
  return faint;
})()"""
CONTROLS = "a[href], button, input:not([type=hidden]), select, summary, [tabindex='0']"
REACHABLE = f'[...document.querySelectorAll("{CONTROLS}")]'
FOCUSED = f"{REACHABLE}.indexOf(document.activeElement)"


def address(url: str, path: str) -> str:
    """With a version to confirm where one is needed, or a decision's id."""
    if path == "/decisions/newest":
        newest: str = re.findall(r'href="(/decisions/[^"]*)"', httpx.get(f"{url}/decisions", timeout=60).text)[0]
        return url + newest
    if path != "/confirm/activate":
        return url + path
    links = re.findall(f'href="({path}[^"]*)"', httpx.get(f"{url}/versions", timeout=60).text)
    return url + unescape(links[0])


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
async def test_every_page_is_quiet_legible_and_as_wide_as_the_screen(
    browser: Browser, url: str, size: tuple[int, int], dark: bool
) -> None:
    async with browser.tab(size, dark) as tab:
        for path in PAGES:
            await tab.open(address(url, path))
            assert await tab.run("document.documentElement.scrollWidth") <= size[0], path
            assert await tab.run(CONTRAST) == [], path
        assert tab.complaints == []
        assert all(asked.startswith(url) for asked in tab.asked)
        paper = await tab.run("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, paper.strip("rgb()").split(","))) < 200) == dark


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
async def test_empty_state_is_quiet_and_as_wide_as_the_screen(
    browser: Browser, empty_url: str, size: tuple[int, int]
) -> None:
    async with browser.tab(size) as tab:
        await tab.open(empty_url)
        assert await tab.run("document.querySelector('h1').textContent") == "Nothing was routed yet"
        assert await tab.run("document.documentElement.scrollWidth") <= size[0]
        assert tab.complaints == []


async def test_details_filter_and_explanation_work_without_a_script(browser: Browser, url: str) -> None:
    async with browser.tab(script=False) as tab:
        await tab.open(url)
        assert await tab.run("document.querySelectorAll('svg.chart').length") == 2
        table = "document.querySelector('#curve').checkVisibility()"
        assert not await tab.run(table)
        await tab.run("document.querySelector('summary').focus()")
        await tab.press(*ENTER)
        assert await tab.run(table)
        await tab.open(f"{url}/decisions")
        await tab.run("document.querySelector('select[name=model]').value = 'gpt-4o'")
        await tab.run("document.querySelector('.filter button').focus()")
        await tab.during(tab.press(*ENTER))
        models = "[...new Set([...document.querySelectorAll('td.name')].map(cell => cell.textContent))]"
        assert await tab.run(models) == ["gpt-4o"]
        await tab.run("document.querySelector('tbody a').focus()")
        await tab.during(tab.press(*ENTER))
        assert await tab.run("document.querySelector('h1').firstChild.data.trim()") == "gpt-4o"


@pytest.mark.parametrize("path", PAGES)
async def test_every_control_is_reached_by_the_tab_key_in_order_and_is_seen(
    browser: Browser, url: str, path: str
) -> None:
    async with browser.tab() as tab:
        await tab.open(address(url, path))
        shown = [place for place in range(await tab.run(f"{REACHABLE}.length")) if await visible(tab, place)]
        reached = []
        for _ in shown:
            await tab.press(*TAB)
            reached.append(await tab.run(FOCUSED))
            outline = "getComputedStyle(document.activeElement).outlineStyle"
            assert await tab.run(outline) != "none", reached[-1]
        assert reached == shown


async def visible(tab: Tab, place: int) -> bool:
    """What closed details hold is not, and need not be reached."""
    seen: bool = await tab.run(f"{REACHABLE}[{place}].checkVisibility()")
    return seen


async def test_login_and_a_button_by_keyboard_alone(browser: Browser, guarded_url: str) -> None:
    async with browser.tab() as tab:
        await tab.open(f"{guarded_url}/runs")
        assert await tab.run("document.activeElement.id") == "token"
        await tab.call("Input.insertText", text=TOKEN)
        await tab.during(tab.press(*ENTER))
        assert await tab.run("location.pathname") == "/runs"
        await tab.run("document.querySelector('a.button').focus()")
        await tab.during(tab.press(*ENTER))
        assert await tab.run("document.querySelector('h1').textContent") == "Retrain now?"
        await tab.run("document.querySelector('button.primary').focus()")
        await tab.during(tab.press(*SPACE))
        assert await tab.run("location.pathname") == "/runs"
        assert "said retrain --config config.yaml" in await tab.run("document.body.textContent")
        assert await tab.run("document.cookie") == ""
        assert tab.complaints == []
