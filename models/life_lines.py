"""The life line of a refresh token: an org lets one lapse that nobody uses."""

from datetime import datetime, timedelta

from sqlalchemy import Integer
from sqlalchemy.orm import Mapped, mapped_column

from database import Moment, now

DEFAULT_IDLE_LIMIT = 30
"""Days: what Salesforce sets for external client apps (Salesforce Help, "Limit
Refresh Token Idle Time")."""
LONGEST_IDLE_LIMIT = 3_650


class LifeLine:
    """The columns that say when a refresh token was used, and when it lapses."""

    idle_limit: Mapped[int | None] = mapped_column(
        Integer().evaluates_none(), default=DEFAULT_IDLE_LIMIT
    )
    """Days for which the org keeps an unused one; None where it keeps it for good."""
    refresh_token_used_at: Mapped[datetime | None] = mapped_column(Moment)
    lapses_at: Mapped[datetime | None] = mapped_column(Moment)
    """Unless it is used before; None where nothing is to lapse."""
    last_used_at: Mapped[datetime | None] = mapped_column(Moment)
    """When somebody last got the access token from the org, saw, copied, exported
    or tried it."""

    @property
    def has_lapsed(self) -> bool:
        """Whether the refresh token went, unless it was used elsewhere."""
        return self.lapses_at is not None and self.lapses_at <= now()

    def use_refresh_token(self) -> None:
        """Note that the org has just given it out, or taken it."""
        self.refresh_token_used_at = now()

    def draw_life_line(self, *, lives: bool) -> None:
        """Work out when the refresh token lapses, if there is one that `lives`."""
        used, days = self.refresh_token_used_at, self.idle_limit
        if lives and used is not None and days is not None:
            self.lapses_at = used + timedelta(days=days)
        else:
            self.lapses_at = None
