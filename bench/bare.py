"""What Orgdesk is measured against: requests-oauthlib, and nothing around it."""

import os

from requests_oauthlib import OAuth2Session

from practice_org import CLIENT_ID, CONSUMER_SECRET
from tests.servers import PracticeOrg

# The practice org speaks http, which the library refuses without it.
os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"


def refresh(session: OAuth2Session, org: PracticeOrg, refresh_token: str) -> None:
    """Refresh an access token as a script does, and trust the answer."""
    token = session.refresh_token(
        f"{org.address}/services/oauth2/token",
        refresh_token=refresh_token,
        client_id=CLIENT_ID,
        client_secret=CONSUMER_SECRET,
    )
    assert token["access_token"]


def new_session() -> OAuth2Session:
    return OAuth2Session(CLIENT_ID)
