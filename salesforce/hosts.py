"""Hosts: from what people paste to the one form that is stored.

A Salesforce Domain says where an org answers; an `Origin` says what a Remote
Site covers. The host patterns are those of Salesforce's "OAuth Endpoints" and
"My Domain" help pages and of the rewrite table in sfdx-core (`sfdcUrl.ts`).
"""

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from salesforce.states import Environment

LONGEST = 255
"""Characters that the Salesforce Domain column holds."""

LONGEST_HOST = 253
HIGHEST_PORT = 65_535
DEFAULT_PORTS = {"https": 443, "http": 80}
WILDCARD = "*."
FEWEST_LABELS = 2
"""Behind a wildcard: `*.com` would cover half the world."""

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?!\d)(//)?")
EMPTY_PORT = re.compile(r"(localhost|[^:/?#@]*\.[^:/?#@]*):(?=/(?!/)|[?#]|$)", re.I)
LOOPBACK_START = re.compile(
    r"(localhost|[a-z0-9.-]+\.localhost|127\.\d+\.\d+\.\d+|\[[0:]*:0*1\])\.?(?=[:/?#]|$)",
    re.I,
)
BRACKETS = re.compile(r"(.*@)?\[[0-9a-f:.]+\](:[^\[\]]*)?", re.I)

UI_HOSTS = (
    (".lightning.force.com", ".my.salesforce.com"),
    (".my.salesforce-setup.com", ".my.salesforce.com"),
    (".salesforce-setup.com", ".my.salesforce.com"),
    (".lightning.crmforce.mil", ".my.salesforce.mil"),
    (".lightning.sfcrmapps.cn", ".my.sfcrmproducts.cn"),
    (".my.sfcrmapps.cn", ".my.sfcrmproducts.cn"),
)
"""Hosts that show Salesforce's pages but answer no API, and their API hosts."""

PAGE_HOSTS = (
    (".my.salesforce.com", ".lightning.force.com"),
    (".my.salesforce.mil", ".lightning.crmforce.mil"),
    (".my.sfcrmproducts.cn", ".lightning.sfcrmapps.cn"),
)
"""My Domain hosts, and the hosts of the same org that show its Setup (`sfdcUrl.ts`,
toLightningDomain). An org whose Setup has a host of its own leads on to it."""
SETUP_PAGE = re.compile(r"/lightning/setup/[A-Za-z]+/home")

PATHLESS_HOSTS = (
    ".salesforce.com",
    ".salesforce.mil",
    ".sfcrmproducts.cn",
    ".my-salesforce.com",
)
"""Hosts whose OAuth endpoints stand at the root: a pasted path is a page's."""


SALESFORCE_HOSTS = (
    ".salesforce.com",
    ".force.com",
    ".cloudforce.com",
    ".my.site.com",
    ".salesforce.mil",
    ".crmforce.mil",
    ".sfcrmproducts.cn",
)
"""Hosts that only Salesforce serves (the list of sfdx-core, and sites)."""

MY_DOMAINS = (
    ".my.salesforce.com",
    ".my.salesforce.mil",
    ".my.sfcrmproducts.cn",
    ".cloudforce.com",
)
"""Hosts that belong to one org, whose users and apps they know."""

SANDBOX = re.compile(r"[a-z0-9-]+--([a-z0-9]+)(\.sandbox|\.cs\d+)?\.my\..+")
TEST_HOSTS = re.compile(r"test\.|cs\d+\.|.+\.(sandbox|scratch)\.my\.")
"""Hosts whose users log in at test.salesforce.com, if not at the host itself."""
SANDBOX_HOSTS = re.compile(
    r"(test|cs\d+)\.(salesforce\.com|salesforce\.mil|sfcrmproducts\.cn)"
    r"|.+\.cs\d+\.(my\.salesforce|force)\.com"
)
"""The login host of sandboxes, and old ones that name the instance of theirs."""
PARTITION = re.compile(r".+\.([a-z]+)\.my\..+")
PARTITIONS = {
    "sandbox": Environment.SANDBOX,
    "scratch": Environment.SCRATCH,
    **dict.fromkeys(
        ("develop", "trailblaze", "demo", "free", "patch"), Environment.DEVELOPER
    ),
}
"""What stands before `.my.` in a partitioned domain."""
SITES = (".my.site.com", ".force.com")
LOGIN, TEST = "https://login.salesforce.com", "https://test.salesforce.com"


class DomainError(ValueError):
    """What was typed is no Salesforce Domain; the message says why."""


@dataclass(frozen=True)
class SalesforceDomain:
    """A host that answers OAuth requests, with the path of a site if it has one."""

    scheme: str
    host: str
    port: int | None = None
    path: str = ""

    def __str__(self) -> str:
        """Return the form that is stored and shown.

        https goes without saying, except on loopback hosts, where http is usual.
        """
        text = self.authority + self.path
        return f"{self.scheme}://{text}" if self.is_loopback else text

    @property
    def authority(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)

    @property
    def kin(self) -> str:
        """Whose host this is: Salesforce's, this machine's, or that of its name."""
        if self.is_loopback:
            return "loopback"
        ours = self.host.endswith(SALESFORCE_HOSTS)
        return "salesforce" if ours else self.host

    @property
    def serves_client_credentials(self) -> bool:
        """Whether it may grant client credentials: of Salesforce's, a My Domain does.

        Login, instance and site hosts cannot know whose app it is.
        """
        return self.kin != "salesforce" or self.host.endswith(MY_DOMAINS)

    @property
    def sandbox(self) -> str | None:
        """The sandbox's name, with which the names of its users end."""
        found = SANDBOX.fullmatch(self.host) if self.kin == "salesforce" else None
        return found[1] if found else None

    @property
    def environment(self) -> Environment:
        """What kind of org answers here, by the host alone, which tells no more.

        A Developer Edition may have the same host as a production org: all log in
        at login.salesforce.com, and not every My Domain names its partition.
        """
        if self.kin != "salesforce":
            return Environment.LOCAL if self.is_loopback else Environment.CUSTOM
        if self.sandbox or SANDBOX_HOSTS.fullmatch(self.host):
            return Environment.SANDBOX
        partition = PARTITION.fullmatch(self.host)
        if partition and partition[1] in PARTITIONS:
            return PARTITIONS[partition[1]]
        is_site = self.host.endswith(SITES)
        return Environment.SITE if is_site else Environment.PRODUCTION

    @property
    def audiences(self) -> tuple[str, ...]:
        """Whom an assertion for this org may be meant for, the likeliest first."""
        general: tuple[str, ...] = (LOGIN, TEST)
        if self.kin == "salesforce":
            is_test = self.sandbox or TEST_HOSTS.match(self.host)
            general = (TEST,) if is_test else (LOGIN,)
        return tuple(dict.fromkeys((self.issuer, *general)))

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def issuer(self) -> str:
        """The issuer identifier that RFC 9207's `iss` has to equal."""
        return self.origin + self.path

    def endpoint(self, name: str) -> str:
        """Return the URL of an OAuth endpoint: `authorize`, `token`, …"""
        return f"{self.origin}{self.path}/services/oauth2/{name}"


def parse_domain(typed: str) -> SalesforceDomain:
    """Read a Salesforce Domain as people paste it.

    A scheme, a page's path, a query and a trailing slash may be there; hosts
    of Salesforce's pages become the My Domain host that answers for them.
    Raises `DomainError` with a sentence for the form.
    """
    text = typed.strip()
    _refuse_odd_characters(text)
    scheme, rest = _split_scheme(text)
    parts = _split(f"{scheme}://{rest}")
    if "@" in parts.netloc:
        raise DomainError("Leave out the user name and password before the @.")
    host = _api_host(_host(parts.hostname or ""))
    if scheme == "http" and not is_loopback(host):
        raise DomainError("Use https: http would send the secret in the clear.")
    port = _port(parts.netloc)
    if port == DEFAULT_PORTS[scheme]:
        port = None
    domain = SalesforceDomain(scheme, host, port, _path(host, parts.path))
    if len(str(domain)) > LONGEST:
        raise DomainError(f"This is longer than {LONGEST} characters.")
    return domain


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port of a Remote Site, or of an address that is called.

    The host of a site may begin with `*.`, which stands for one or more labels.
    """

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        """Return it as people write it: without the port that goes without saying."""
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)

    @property
    def covering_hosts(self) -> list[str]:
        """The hosts of the sites that cover this one, the nearest first."""
        if _address(self.host.strip("[]")):
            return [self.host]
        labels = self.host.split(".")
        behind = range(1, len(labels) - FEWEST_LABELS + 1)
        return [self.host, *(WILDCARD + ".".join(labels[at:]) for at in behind)]


def parse_origin(typed: str) -> Origin:
    """Read the address of a Remote Site as people paste it; a path is dropped.

    Raises `DomainError` with a sentence for the form.
    """
    text = typed.strip()
    _refuse_odd_characters(text)
    scheme, rest = _split_scheme(text)
    parts = _split(f"{scheme}://{rest}")
    if "@" in parts.netloc:
        raise DomainError("Leave out the user name and password before the @.")
    host = _site_host(parts.hostname or "")
    if scheme == "http" and not is_loopback(host):
        raise DomainError("Use https: http is for localhost alone.")
    return Origin(scheme, host, _port(parts.netloc) or DEFAULT_PORTS[scheme])


def origin_of(url: str) -> Origin | None:
    """Return the origin of a URL that is to be called.

    None where it has none that a site could cover.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        return None
    host = parts.hostname.removesuffix(".")
    if address := _address(host):
        host = f"[{address}]" if address.version == 6 else host
    elif not all(LABEL.fullmatch(label) for label in host.split(".")):
        return None
    default = DEFAULT_PORTS[parts.scheme]
    return Origin(parts.scheme, host, default if port is None else port)


def parse_https_url(text: str) -> str:
    """Check an absolute URL from elsewhere and return it as it is.

    It has to be https, or http on a loopback host, with a host (an address or
    a single label will do) and without user information, fragment, spaces or
    control characters. Raises `DomainError`.
    """
    _refuse_odd_characters(text)
    parts = _split(text)
    if parts.scheme not in DEFAULT_PORTS or not parts.netloc:
        raise DomainError("This is not an address like https://host/path.")
    if "@" in parts.netloc:
        raise DomainError("Leave out the user name and password before the @.")
    if "#" in text:
        raise DomainError("Leave out the part from # on.")
    host = parts.hostname or ""
    if ":" not in host and not all(LABEL.fullmatch(part) for part in host.split(".")):
        raise DomainError(f"‘{host}’ is not a host name.")
    _port(parts.netloc)
    if parts.scheme == "http" and not is_loopback(host):
        raise DomainError("Use https: http is for localhost alone.")
    return text


def setup_url(host_or_url: str, page: str) -> str | None:
    """Return the address of a page of Setup, in the org that answers at a host.

    `page` is the `setup_page` of a `SalesforceError`. None where the host is no
    org's own: the login hosts, sites, loopback and foreign hosts.
    """
    try:
        domain = parse_domain(host_or_url)
    except DomainError:
        return None
    if domain.port is not None or not SETUP_PAGE.fullmatch(page):
        return None
    for api_suffix, page_suffix in PAGE_HOSTS:
        if domain.host.endswith(api_suffix):
            return f"https://{domain.host.removesuffix(api_suffix)}{page_suffix}{page}"
    return None


def is_loopback(host: str) -> bool:
    """Tell whether `host` names this machine itself, by its spelling alone."""
    host = host.strip("[]")
    address = _address(host)
    if address is not None:
        return address.is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _refuse_odd_characters(text: str) -> None:
    if not text:
        raise DomainError("Type the host name of the org.")
    for character in text:
        if character.isspace():
            raise DomainError("There is a space in it.")
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise DomainError("There is a control character in it.")
        if not character.isascii():
            name = unicodedata.name(character, "an unnamed character")
            raise DomainError(
                f"‘{character}’ is {name}, not one of the letters a to z, digits,"
                " dots and hyphens that host names are made of."
            )
    if "\\" in text:
        raise DomainError("There is a backslash in it; addresses have /.")


def _split_scheme(text: str) -> tuple[str, str]:
    found = None if EMPTY_PORT.match(text) else SCHEME.match(text)
    if found is None:
        rest = text.removeprefix("//")
        return ("http" if LOOPBACK_START.match(rest) else "https"), rest
    scheme = found[1].lower()
    if found[2] is None and "@" in text:
        raise DomainError("Leave out the user name and password before the @.")
    if scheme not in DEFAULT_PORTS or found[2] is None:
        raise DomainError(f"{found[0]} is not a way to an org; use https://.")
    return scheme, text[found.end() :]


def _split(url: str) -> "_Parts":
    try:
        parts = urlsplit(url)
        if "[" in parts.netloc and not BRACKETS.fullmatch(parts.netloc):
            raise ValueError
        return _Parts(parts.scheme, parts.netloc, parts.hostname, parts.path)
    except ValueError:
        raise DomainError("The square brackets do not hold an IPv6 address.") from None


@dataclass(frozen=True)
class _Parts:
    scheme: str
    netloc: str
    hostname: str | None
    path: str


def _host(host: str) -> str:
    host = host.lower().removesuffix(".")
    address = _address(host)
    if address is not None and address.is_loopback:
        return f"[{address}]" if address.version == 6 else host
    labels = host.split(".")
    if address or labels[-1].isdigit() or re.fullmatch(r"0x[0-9a-f]*", labels[-1]):
        raise DomainError("This is a bare address; type the host name of the org.")
    if len(host) > LONGEST_HOST or not all(LABEL.fullmatch(label) for label in labels):
        raise DomainError(f"‘{host}’ is not a host name.")
    if len(labels) < 2 and host != "localhost":
        raise DomainError(
            f"‘{host}’ is not a whole host name. Did you mean {host}.my.salesforce.com?"
        )
    return host


def _site_host(host: str) -> str:
    host = host.lower().removesuffix(".")
    if address := _address(host):
        return f"[{address}]" if address.version == 6 else host
    name = host.removeprefix(WILDCARD)
    labels = name.split(".")
    if "*" in name:
        raise DomainError("A * stands at the start alone, as in *.example.com.")
    if labels[-1].isdigit() or re.fullmatch(r"0x[0-9a-f]*", labels[-1]):
        raise DomainError(f"‘{host}’ is neither a host name nor a whole address.")
    if len(name) > LONGEST_HOST or not all(LABEL.fullmatch(label) for label in labels):
        raise DomainError(f"‘{host}’ is not a host name.")
    if name != host and len(labels) < FEWEST_LABELS:
        raise DomainError("That is too wide: name two labels or more behind the *.")
    if len(labels) < FEWEST_LABELS and host != "localhost":
        raise DomainError(f"‘{host}’ is not a whole host name.")
    return host


def _api_host(host: str) -> str:
    for page_suffix, api_suffix in UI_HOSTS:
        if host.endswith(page_suffix):
            return host.removesuffix(page_suffix) + api_suffix
    return host


def _port(netloc: str) -> int | None:
    text = netloc.rpartition("]")[2].partition(":")[2]
    if not text:
        return None
    if not (text.isdigit() and len(text) <= 5 and 0 < int(text) <= HIGHEST_PORT):
        raise DomainError(f"‘{text}’ is not a port: those are 1 to {HIGHEST_PORT}.")
    return int(text)


def _path(host: str, path: str) -> str:
    """Return the path of a site; what belongs to a page or an endpoint is cut."""
    if host.endswith(PATHLESS_HOSTS):
        return ""
    kept = []
    for segment in path.split("/"):
        if segment in ("services", "s"):
            break
        if unquote(segment) in (".", ".."):
            raise DomainError("The path has a . or .. in it.")
        if segment:
            kept.append(quote(segment, safe="%-._~!$&'()*+,;=:@"))
    return "".join(f"/{segment}" for segment in kept)
