"""Take the README's screenshot from the running app: `make screenshots`."""

import tempfile

from playwright.sync_api import Page, sync_playwright

from tests.browser import chromium
from tests.servers import ROOT, process

ADDRESS = "http://localhost:8000"
SIZE = {"width": 1100, "height": 860}


def main() -> None:
    env = {"ORGDESK_INSTANCE": tempfile.mkdtemp()}
    with (
        process("run.py", ports=(8000, 8001), env=env),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=chromium.find(), args=["--no-sandbox"]
        )
        page = browser.new_page(base_url=ADDRESS, viewport=SIZE)
        connect(page)
        page.screenshot(path=ROOT / "docs" / "record.png")
        browser.close()


def connect(page: Page) -> None:
    """Get the practice org's first token, then refresh it in place."""
    page.goto("/")
    page.get_by_role("link", name="Practice Org").click()
    page.get_by_role("button", name="Refresh Access Token").click()
    page.get_by_role("button", name="Log In").click()
    page.get_by_role("button", name="Allow").click()
    page.get_by_text("Logged in").wait_for()
    page.reload()
    page.get_by_role("button", name="Refresh Access Token").click()
    page.get_by_text("refreshed without a login").wait_for()


if __name__ == "__main__":
    main()
