"""Salesforce Domain: every form people paste, and every form nobody may."""

import re
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st
from urllib3.util import parse_url

from salesforce.hosts import (
    LOGIN,
    TEST,
    DomainError,
    SalesforceDomain,
    is_loopback,
    parse_domain,
    parse_https_url,
)
from salesforce.states import Environment

ACME = "acme.my.salesforce.com"
UAT = "acme--uat.sandbox.my.salesforce.com"
SITE = "acme.my.site.com"
MIL = "acme.my.salesforce.mil"
CN = "acme.my.sfcrmproducts.cn"

KEPT = [
    ACME, UAT, MIL, CN, SITE, f"{SITE}/Portal", f"{SITE}/a/b", f"{SITE}/a%2Fb",
    "acme.develop.my.salesforce.com", "acme.scratch.my.salesforce.com",
    "acme.trailblaze.my.salesforce.com", "acme.demo.my.salesforce.com",
    "acme.free.my.salesforce.com", "acme.patch.my.salesforce.com",
    "acme-dev-ed.develop.my.salesforce.com", "login.salesforce.com",
    "test.salesforce.com", "na1.salesforce.com", "eu12.salesforce.com",
    "cs99.salesforce.com", "usa2s.salesforce.com", "acme.my-salesforce.com",
    "id.acme.example", "xn--bcher-kva.example", "3m.my.salesforce.com",
    f"{ACME}:8443", f"{SITE}:8443/portal", "http://localhost",
    "http://localhost:8001", "http://127.0.0.1:8001", "http://127.8.9.10",
    "http://[::1]:8001", "http://acme.localhost:8001", "http://localhost:8001/site",
    "http://localhost:443",
]  # fmt: skip
"""Forms that are stored as they are typed."""

REWRITTEN = [
    ("acme.lightning.force.com", ACME),
    ("acme--uat.sandbox.lightning.force.com", UAT),
    ("acme.develop.lightning.force.com", "acme.develop.my.salesforce.com"),
    ("acme.my.salesforce-setup.com", ACME),
    ("acme.salesforce-setup.com", ACME),
    ("acme--uat.sandbox.my.salesforce-setup.com", UAT),
    ("acme.lightning.crmforce.mil", MIL),
    ("acme.lightning.sfcrmapps.cn", CN),
    ("acme.my.sfcrmapps.cn", CN),
    ("acme.lightning.force.com:8443", f"{ACME}:8443"),
    # what the address bar and the Setup pages hold
    (f"https://{ACME}", ACME),
    (f"https://{ACME}/", ACME),
    (f"HTTPS://{ACME.upper()}/", ACME),
    (f"  https://{ACME}\r\n", ACME),
    (f"//{ACME}", ACME),
    (f"{ACME}.", ACME),
    (f"{ACME}:443", ACME),
    (f"https://{ACME}:443/home/home.jsp", ACME),
    (f"https://{ACME}:", ACME),
    (f"{ACME}:08443", f"{ACME}:8443"),
    (f"{ACME}?un=a@b.example", ACME),
    (f"https://{ACME}/?ec=302&startURL=%2Fhome", ACME),
    (f"https://{ACME}/services/oauth2/authorize?client_id=x", ACME),
    (f"https://{ACME}/secur/frontdoor.jsp?otp=x#top", ACME),
    ("https://acme.lightning.force.com/lightning/page/home", ACME),
    ("https://acme.my.salesforce-setup.com/lightning/setup/A/home?x=1#y", ACME),
    (f"{MIL}/home/home.jsp", MIL),
    (f"{CN}/home/home.jsp", CN),
    # a site's path is part of it, its pages are not
    (f"https://{SITE}/Portal/s/login/?x", f"{SITE}/Portal"),
    (f"{SITE}/Portal/services/oauth2/token", f"{SITE}/Portal"),
    (f"{SITE}/s/", SITE),
    (f"{SITE}//Portal//", f"{SITE}/Portal"),
    (f"{SITE}/a<b", f"{SITE}/a%3Cb"),
    (f"{SITE}/a@b:c", f"{SITE}/a@b:c"),
    # this machine: http goes without saying
    ("localhost", "http://localhost"),
    ("LOCALHOST:8001", "http://localhost:8001"),
    ("localhost:80", "http://localhost"),
    ("localhost?x", "http://localhost"),
    ("127.0.0.1:8001", "http://127.0.0.1:8001"),
    ("[::1]:8001", "http://[::1]:8001"),
    ("http://[::1]:80/", "http://[::1]"),
    ("acme.localhost:8001/site/s/", "http://acme.localhost:8001/site"),
]

REFUSED = [
    ("", "Type the host name"),
    (" \t\n", "Type the host name"),
    # credentials
    (f"user@{ACME}", "before the @"),
    (f"user:pw@{ACME}", "before the @"),
    (f"user:1@{ACME}", "before the @"),
    (f"https://user:pw@{ACME}/", "before the @"),
    (f"https://{ACME}@evil.example", "before the @"),
    (f"https://{ACME}:443@evil.example", "before the @"),
    (f"http://localhost:80@{ACME}", "before the @"),
    # characters
    ("acme my.salesforce.com", "a space"),
    (f"{ACME} evil.example", "a space"),
    (f"acme\t{ACME}", "a space"),
    (f"acme\n{ACME}", "a space"),
    (f"acme\u00a0{ACME}", "a space"),
    (f"acme\x00{ACME}", "a control character"),
    (f"acme\x7f{ACME}", "a control character"),
    (f"acme\x85x{ACME}", "a space"),
    (f"acme\ud83d{ACME}", "a control character"),
    (f"{ACME}\\@evil.example", "a backslash"),
    (f"https:\\\\{ACME}", "a backslash"),
    (f"acme.my.s\u0430lesforce.com", "CYRILLIC SMALL LETTER A"),  # noqa: F541
    ("\uff41cme.my.salesforce.com", "FULLWIDTH LATIN SMALL LETTER A"),
    ("acme\uff0emy.salesforce.com", "FULLWIDTH FULL STOP"),
    ("acme\u3002my.salesforce.com", "IDEOGRAPHIC FULL STOP"),
    (f"{ACME}\uff0f@evil.example", "FULLWIDTH SOLIDUS"),
    (f"{ACME}\u2044x", "FRACTION SLASH"),
    ("ac\u00adme.my.salesforce.com", "SOFT HYPHEN"),
    ("ac\u200bme.my.salesforce.com", "ZERO WIDTH SPACE"),
    (f"\ufeff{ACME}", "ZERO WIDTH NO-BREAK SPACE"),
    (f"{ACME}\u202e", "RIGHT-TO-LEFT OVERRIDE"),
    ("acme\u2010uat.my.salesforce.com", "HYPHEN"),
    ("b\u00fccher.example", "LATIN SMALL LETTER U WITH DIAERESIS"),
    ("\U0001f680.example", "ROCKET"),
    ("\ue000.example", "an unnamed character"),
    # schemes
    (f"http://{ACME}", "Use https"),
    ("http://acme.lightning.force.com", "Use https"),
    ("http://localhost.example", "Use https"),
    ("http://127.0.0.1.example", "Use https"),
    (f"ftp://{ACME}", "ftp:// is not a way"),
    ("javascript:alert(1)", "javascript: is not a way"),
    ("force://PlatformCLI::5Aep@acme.my.salesforce.com", "not a way|before the @"),
    # bare addresses, in every spelling that a resolver takes
    ("10.0.0.1", "bare address"),
    ("169.254.169.254", "bare address"),
    ("https://93.184.215.14/", "bare address"),
    ("93.184.215.14.", "bare address"),
    ("2130706433", "bare address"),
    ("127.1", "bare address"),
    ("127.0.0.01", "bare address"),
    ("0177.0.0.1", "bare address"),
    ("017700000001", "bare address"),
    ("0x7f000001", "bare address"),
    ("0x7f.0.0.0x1", "bare address"),
    ("127.0.0.0X1", "bare address"),
    ("1.2.3.0x", "bare address"),
    ("[fe80::1]", "bare address"),
    ("[::]", "bare address"),
    ("[::ffff:10.0.0.1]:80", "bare address"),
    ("[2001:db8::1]", "bare address"),
    ("[::1", "square brackets"),
    ("::1]", "square brackets"),
    ("[]", "square brackets|not a host name"),
    ("http://[::1]evil.example", "square brackets|not a host name"),
    ("http://[::1]evil.example:80", "square brackets|not a host name"),
    ("http://evil.example[::1]", "square brackets|not a host name"),
    ("http://[::1%25lo]", "square brackets|bare address|not a host name"),
    # host names
    ("acme", re.escape("Did you mean acme.my.salesforce.com?")),
    ("https://", "not a host name"),
    (f"///{ACME}", "not a host name"),
    ("acme..com", "not a host name"),
    (".acme.com", "not a host name"),
    ("acme.com..", "not a host name"),
    ("-acme.example", "not a host name"),
    ("acme-.example", "not a host name"),
    ("ac_me.my.salesforce.com", "not a host name"),
    ("*.my.salesforce.com", "not a host name"),
    ("<acme.example>", "not a host name"),
    ("acme%2emy.salesforce.com", "not a host name"),
    ("acme.my.salesforce.com%2f.evil.example", "not a host name"),
    ("acme.my.salesforce.com%00", "not a host name"),
    (f"{'a' * 64}.example", "not a host name"),
    (f"{'a.' * 126}example", "not a host name|longer than"),
    # .localhost opens no door to other junk
    (".localhost", "not a host name"),
    ("..localhost", "not a host name"),
    ("-.localhost", "not a host name"),
    ("http://a_b.localhost", "not a host name"),
    ("http://a;b.localhost", "not a host name"),
    ("http://evil.example%2f.localhost", "not a host name"),
    (f"http://{'a' * 64}.localhost", "not a host name"),
    # ports
    (f"{ACME}:0", "not a port"),
    (f"{ACME}:65536", "not a port"),
    (f"{ACME}:000443", "not a port"),
    (f"{ACME}:80:90", "not a port"),
    (f"https://{ACME}:x", "not a port"),
    (f"https://{ACME}:-1", "not a port"),
    (f"https://{ACME}:+443", "not a port"),
    (f"https://{ACME}:4_4", "not a port"),
    ("http://[::1]:x", "not a port"),
    # paths
    (f"{SITE}/../x", r"\. or \.\."),
    (f"{SITE}/./x", r"\. or \.\."),
    (f"{SITE}/a/%2e%2e/x", r"\. or \.\."),
    (f"{SITE}/%2E", r"\. or \.\."),
    (f"{SITE}/.%2e/x", r"\. or \.\."),
    # length
    (f"{SITE}/{'a' * 240}", "longer than 255"),
    (f"http://localhost/{'a' * 240}", "longer than 255"),
]

PIECES = [
    "https://", "http://", "//", "/", ":", "443", "80", "8443", ".", "..", "%2e",
    "%", "@", "[::1]", "[", "]", "localhost", ".localhost", "127.0.0.1", "acme",
    ".my.salesforce.com", ".lightning.force.com", ".my.site.com", "0x7f", "\\", "?",
    "#", " ", "services", "s", "xn--a", "-", "_", "\u0430", "\uff0e", "\u200b", "\x00",
    ";", "&", "é", "HTTPS:", "a" * 60,
]  # fmt: skip
TYPED = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=8).map("".join))


@pytest.mark.parametrize("typed", KEPT)
def test_a_domain_in_its_stored_form_stays_as_it_is(typed: str) -> None:
    domain = parse_domain(typed)
    assert str(domain) == typed
    assert parse_domain(f" {domain.origin.upper()}{domain.path}/ ") == domain


@pytest.mark.parametrize(("typed", "stored"), REWRITTEN)
def test_what_people_paste_becomes_the_stored_form(typed: str, stored: str) -> None:
    assert str(parse_domain(typed)) == stored
    assert parse_domain(stored) == parse_domain(typed)


@pytest.mark.parametrize(("typed", "said"), REFUSED)
def test_junk_is_refused_with_a_sentence_that_says_why(typed: str, said: str) -> None:
    with pytest.raises(DomainError, match=said) as refusal:
        parse_domain(typed)
    assert re.fullmatch(r".+[.?]", str(refusal.value), re.DOTALL)


@pytest.mark.parametrize(
    "typed",
    ["https://localhost", "https://localhost:80", "https://127.0.0.1:8443",
     "https://[::1]:8443", "https://acme.localhost/site"])  # fmt: skip
def test_https_typed_for_this_machine_is_not_lost_in_storing(typed: str) -> None:
    domain = parse_domain(typed)
    assert domain.scheme == "https"
    assert parse_domain(str(domain)) == domain


@pytest.mark.parametrize("typed", ["localhost.", "127.0.0.1.", "acme.localhost.:80"])
def test_a_final_dot_makes_this_machine_no_other(typed: str) -> None:
    assert parse_domain(typed) == parse_domain(typed.replace(".:", ":").rstrip("."))


@pytest.mark.parametrize("typed", [f"{ACME}:", f"{ACME}:/x", "localhost:"])
def test_an_empty_port_is_none(typed: str) -> None:
    assert parse_domain(typed).port is None


@pytest.mark.parametrize("typed", [f"https:{ACME}", f"https:/{ACME}"])
def test_a_scheme_without_its_slashes_is_refused(typed: str) -> None:
    with pytest.raises(DomainError, match="use https://"):
        parse_domain(typed)


@given(typed=TYPED)
@example(typed="https://localhost")
@example(typed="http://[::1]x")
@example(typed="http://a%2f.localhost")
def test_any_text_is_a_domain_or_refused_and_parsing_again_changes_nothing(
    typed: str,
) -> None:
    try:
        domain = parse_domain(typed)
    except DomainError:
        return
    assert isinstance(domain, SalesforceDomain)
    assert parse_domain(str(domain)) == domain
    assert str(domain).isascii()
    assert len(str(domain)) <= 255
    assert domain.scheme == "https" or domain.is_loopback


@given(typed=TYPED)
@example(typed="http://a%2f.localhost")
@example(typed="..localhost")
@example(typed="acme.my.site.com/%2e%2e")
def test_the_host_shown_is_the_host_that_is_asked(typed: str) -> None:
    try:
        domain = parse_domain(typed)
    except DomainError:
        return
    url = domain.endpoint("token")
    sent = requests.Request("POST", url).prepare().url
    for parts in (urlsplit(url), urlsplit(sent)):
        assert parts.hostname == domain.host.strip("[]")
        assert parts.port == domain.port
        assert parts.username is None
    asked = parse_url(sent)
    assert (asked.host, asked.port) == (domain.host, domain.port)
    assert str(asked.path).endswith(f"{domain.path}/services/oauth2/token") or (
        "%" in domain.path  # which requests spells anew
    )


def test_the_endpoints_stand_below_host_and_path() -> None:
    domain = parse_domain("http://localhost:8001/site")
    assert (
        domain.endpoint("token") == "http://localhost:8001/site/services/oauth2/token"
    )
    assert domain.issuer == "http://localhost:8001/site"
    assert domain.origin == "http://localhost:8001"
    assert parse_domain(ACME).endpoint("authorize") == (
        f"https://{ACME}/services/oauth2/authorize"
    )


@pytest.mark.parametrize(
    ("host", "local"),
    [("localhost", True), ("a.localhost", True), ("127.0.0.1", True),
     ("127.255.255.254", True), ("::1", True), ("[::1]", True), ("0.0.0.0", False),
     ("notlocalhost", False), ("localhost.example", False), ("10.0.0.1", False),
     ("", False), ("127.1", False), ("::", False)])  # fmt: skip
def test_loopback_is_told_by_the_spelling(host: str, local: bool) -> None:
    assert is_loopback(host) is local


@pytest.mark.parametrize(
    "url",
    ["https://acme.my.salesforce.com", "https://acme.example:8443/a/b?c=d",
     "HTTPS://ACME.example/", "https://10.0.0.1/x", "https://intranet/callback",
     "https://[2001:db8::1]:8443/", "http://localhost:8000/callback",
     "http://127.0.0.1/", "http://[::1]:8000/callback",
     "https://login.salesforce.com/id/00D/005"])  # fmt: skip
def test_an_address_from_elsewhere_is_returned_as_it_is(url: str) -> None:
    assert parse_https_url(url) == url


@pytest.mark.parametrize(
    ("url", "said"),
    [("", "Type the host name"), ("acme.example", "not an address like"),
     ("//acme.example", "not an address like"), ("https:", "not an address like"),
     ("https:///x", "not an address like"), ("javascript://x/%0a", "not an address"),
     ("http://acme.example", "Use https"), ("http://10.0.0.1", "Use https"),
     ("https://u@acme.example", "before the @"), ("https://a.example/#x", "from # on"),
     ("https://a.example#", "from # on"), ("https://a .example", "a space"),
     (" https://a.example", "a space"), ("https://a.example\r\n", "a space"),
     ("https://a.example/\x00", "control character"),
     ("https://a.example\\b", "backslash"), ("https://\u0430.example", "CYRILLIC"),
     ("https://a%2fb.example", "not a host name"), ("https://:443", "not a host name"),
     ("https://a..example", "not a host name"), ("https://[::1", "square brackets"),
     ("https://a.example:0", "not a port"), ("https://a.example:x", "not a port"),
     ("https://[::1]evil.example", "square brackets|not a host name"),
     ("https://evil.example[::1]", "square brackets|not a host name"),
     ("https://[x:y]/", "square brackets|not a host name")])  # fmt: skip
def test_an_address_from_elsewhere_is_refused(url: str, said: str) -> None:
    with pytest.raises(DomainError, match=said):
        parse_https_url(url)


@given(text=TYPED)
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        assert parse_https_url(text) == text
    except DomainError:
        return
    assert urlsplit(text).hostname


@pytest.mark.parametrize(
    ("typed", "serves"),
    [
        ("acme.my.salesforce.com", True),
        ("acme--uat.sandbox.my.salesforce.com", True),
        ("acme.my.salesforce.mil", True),
        ("acme.cloudforce.com", True),
        ("acme.lightning.force.com", True),
        ("http://127.0.0.1:8001", True),
        ("sso.example.com", True),
        ("my.salesforce.com.example.com", True),
        ("login.salesforce.com", False),
        ("test.salesforce.com", False),
        ("na1.salesforce.com", False),
        ("cs5.salesforce.com", False),
        ("acme.my.site.com/partners", False),
        ("acme.force.com", False),
    ],
)
def test_client_credentials_take_a_my_domain(typed: str, *, serves: bool) -> None:
    assert parse_domain(typed).serves_client_credentials is serves


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("acme--uat.sandbox.my.salesforce.com", "uat"),
        ("acme--uat.sandbox.lightning.force.com", "uat"),
        ("acme-eu--uat2.my.salesforce.com", "uat2"),
        ("acme--uat.cs5.my.salesforce.com", "uat"),
        ("acme--uat.sandbox.my.site.com/partners", "uat"),
        ("acme.my.salesforce.com", None),
        ("acme-dev-ed.develop.my.salesforce.com", None),
        ("test.salesforce.com", None),
        ("acme--uat.sandbox.my.example.com", None),
    ],
)
def test_a_sandbox_has_a_name(typed: str, name: str | None) -> None:
    assert parse_domain(typed).sandbox == name


@pytest.mark.parametrize(
    ("typed", "audiences"),
    [
        ("acme.my.salesforce.com", ["https://acme.my.salesforce.com", LOGIN]),
        ("login.salesforce.com", [LOGIN]),
        ("na1.salesforce.com", ["https://na1.salesforce.com", LOGIN]),
        ("test.salesforce.com", [TEST]),
        ("cs5.salesforce.com", ["https://cs5.salesforce.com", TEST]),
        ("a--b.sandbox.my.salesforce.com",
         ["https://a--b.sandbox.my.salesforce.com", TEST]),
        ("a--b.my.salesforce.com", ["https://a--b.my.salesforce.com", TEST]),
        ("a.scratch.my.salesforce.com", ["https://a.scratch.my.salesforce.com", TEST]),
        ("acme.my.site.com/x", ["https://acme.my.site.com/x", LOGIN]),
        ("http://127.0.0.1:8001", ["http://127.0.0.1:8001", LOGIN, TEST]),
        ("test.example.com", ["https://test.example.com", LOGIN, TEST]),
    ],
)  # fmt: skip
def test_the_audiences_of_an_org(typed: str, audiences: list[str]) -> None:
    assert list(parse_domain(typed).audiences) == audiences


@pytest.mark.parametrize(
    ("typed", "environment"),
    [
        ("login.salesforce.com", "production"),
        ("acme.my.salesforce.com", "production"),
        ("acme.my.salesforce.mil", "production"),
        ("acme.my.sfcrmproducts.cn", "production"),
        ("acme.lightning.force.com", "production"),
        ("acme.cloudforce.com", "production"),
        ("na1.salesforce.com", "production"),
        ("test.my.salesforce.com", "production"),  # a company of that name
        ("cs5.my.salesforce.com", "production"),
        ("develop.my.salesforce.com", "production"),
        ("acme.unheard.my.salesforce.com", "production"),
        ("test.salesforce.com", "sandbox"),
        ("test.salesforce.mil", "sandbox"),
        ("cs5.salesforce.com", "sandbox"),
        ("acme--uat.sandbox.my.salesforce.com", "sandbox"),
        ("acme--uat.sandbox.lightning.force.com", "sandbox"),
        ("acme--uat.my.salesforce.com", "sandbox"),
        ("acme--uat.cs5.my.salesforce.com", "sandbox"),
        ("acme--uat.sandbox.my.site.com/partners", "sandbox"),
        ("uat-acme.cs5.force.com", "sandbox"),
        ("acme.scratch.my.salesforce.com", "scratch"),
        ("acme--pkg.scratch.my.salesforce.com", "scratch"),
        ("acme-dev-ed.develop.my.salesforce.com", "developer"),
        ("acme.trailblaze.my.salesforce.com", "developer"),
        ("acme.demo.my.salesforce.com", "developer"),
        ("acme.free.my.salesforce.com", "developer"),
        ("acme.patch.my.salesforce.com", "developer"),
        ("acme-dev-ed.develop.my.site.com", "developer"),
        ("acme.my.site.com/partners", "site"),
        ("acme.force.com", "site"),
        ("acme.secure.force.com/x", "site"),
        ("http://127.0.0.1:8001", "local"),
        ("localhost", "local"),
        ("acme--uat.sandbox.my.localhost", "local"),
        ("sso.example.com", "custom"),
        ("test.example.com", "custom"),
        ("acme--uat.sandbox.my.example.com", "custom"),
        ("acme.my.salesforce.com.example.com", "custom"),
    ],
)
def test_a_host_tells_what_kind_of_org_it_leads_to(
    typed: str, environment: str
) -> None:
    assert parse_domain(typed).environment == Environment(environment)


@given(typed=TYPED)
def test_every_domain_is_of_some_kind(typed: str) -> None:
    with suppress(DomainError):
        domain = parse_domain(typed)
        assert (domain.environment is Environment.LOCAL) is domain.is_loopback
