"""Take the README's screenshot from the running app: `make screenshots`."""

import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.browser import chromium
from tests.servers import ADMIN, ROOT, link_in, process

ADDRESS = "http://localhost:8000"
SIZE = {"width": 1100, "height": 860}


def main() -> None:
    env = {"ORGDESK_INSTANCE": tempfile.mkdtemp()}
    said = Path(env["ORGDESK_INSTANCE"]) / "stdout"
    with (
        said.open("w") as stdout,
        process("run.py", ports=(8000, 8001), env=env, stdout=stdout),
        sync_playwright() as playwright,
    ):
        while "Ctrl-C" not in said.read_text():
            time.sleep(0.05)
        browser = playwright.chromium.launch(
            executable_path=chromium.find(), args=["--no-sandbox"]
        )
        page = browser.new_page(base_url=ADDRESS, viewport=SIZE)
        come_in(page, link_in(said.read_text()))
        connect(page)
        page.screenshot(path=ROOT / "docs" / "record.png")
        browser.close()


def come_in(page: Page, link: str) -> None:
    page.goto(link)
    page.get_by_label("E-mail address").fill(ADMIN["email"])
    page.get_by_label("Password").fill(ADMIN["password"])
    page.get_by_role("button", name="Make the first admin").click()
    page.get_by_text("You are signed in").wait_for()


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
