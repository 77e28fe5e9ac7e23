"""Folding: how names, and what is written beside them, are compared and searched."""

import unicodedata


def name_key(name: str) -> str:
    """Fold a name for comparing, searching and sorting: case and width go.

    Unicode's compatibility caseless match (The Unicode Standard, D146).
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return unicodedata.normalize("NFKC", folded)
