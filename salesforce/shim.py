from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from salesforce.errors import SalesforceError
from salesforce.states import State
from salesforce.oauth import _Session

@dataclass(frozen=True)
class Revocation:
    gone: bool
    already: bool
    sentence: str
    code: str

@dataclass(frozen=True)
class Introspection:
    active: bool
    remaining: timedelta | None

def present_assertion(client: Any, **k: Any) -> Any: raise SalesforceError("shim", state=State.UNREACHABLE, code="shim")
def use_client_credentials(client: Any, **k: Any) -> Any: raise SalesforceError("shim", state=State.UNREACHABLE, code="shim")
def introspect(client: Any, token: str, kind: str, **k: Any) -> Introspection:
    import requests
    from salesforce.transport import ADAPTER
    with requests.Session() as session:
        session.mount("http://", ADAPTER)
        session.mount("https://", ADAPTER)
        try:
            a = session.post(client.domain.endpoint("introspect"), data={"token": token, "client_id": client.client_id, "client_secret": client.client_secret}).json()
        except Exception as x:
            e = SalesforceError("shim", state=State.UNREACHABLE, code="shim"); e.refused = False; raise e
    return Introspection(a["active"], timedelta(seconds=7000))
def is_alive(client: Any, token: str, **k: Any) -> bool | None: return None
def revoke(client: Any, token: str, **k: Any) -> Revocation: return Revocation(False, False, "shim", "shim")
def setup_url(host: str, page: str) -> str | None: return None
