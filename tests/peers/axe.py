"""Deque's axe in a page: what of it somebody could not use by keyboard, by screen reader, or with little contrast."""

from __future__ import annotations

from pathlib import Path

from tests.peers.browser import Browser
from tests.peers.npm import installed

#: WCAG 2.2 to AA, and what axe holds for good practice.
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(browser: Browser, *, only_contrast: bool = False) -> list[str]:
    """Return what axe finds in the page that is shown: rule and element; on request, of its colours alone."""
    if not browser.run("Boolean(window.axe)"):
        folder = installed(Path(__file__).parent / "axe")
        browser.run((folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8") + "; 0")
    rules = ["color-contrast"] if only_contrast else _RULES
    found = browser.run(
        f"axe.run(document, {{runOnly: {rules}}}).then((said) => said.violations.flatMap("
        "(one) => one.nodes.map((node) => `${one.id}: ${node.target.join(' ')} ${node.failureSummary}`)))"
    )
    return list(found)
