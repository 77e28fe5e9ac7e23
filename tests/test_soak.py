"""The soak, for as long as the tests can wait; `make soak` goes on for a minute."""

from pathlib import Path

from tests.servers import free_port, practice_org
from tests.soak import soak

SECONDS = 8
SEED = 3


def test_what_is_written_down_adds_up_with_what_the_org_did(tmp_path: Path) -> None:
    port = free_port()
    with practice_org(f"http://127.0.0.1:{port}/callback") as org:
        done = soak(tmp_path, org, port, SECONDS, SEED)
    print(done.summary)
    assert done.findings == []
    assert len(done.shown) > 2
