"""Which requests a canary version answers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from service.core.errors import InvalidFieldError

HEADER = "X-Canary"
KEY_HEADER = "X-Canary-Key"


@dataclass(frozen=True)
class Lot:
    """What a request brings to the choice between the stable version and the canary.

    Raises:
        InvalidFieldError: the wish is neither of the two that there are.
    """

    key: str  # equal keys are answered by the same version
    wish: str | None = None  # "always" or "never" the canary, whatever its share

    def __post_init__(self) -> None:
        if self.wish not in (None, "always", "never"):
            raise InvalidFieldError(
                f"{HEADER} is {self.wish[:40]!r}; it may be 'always' or 'never'",
                field=HEADER,
            )

    def draws_canary(self, model: str, share: float) -> bool:
        """Whether the request is among the canary's ``share`` of ``model``'s.

        A larger share takes in every key that a smaller one had.
        """
        if self.wish is not None:
            return self.wish == "always"
        digest = hashlib.blake2b(f"{model}\0{self.key}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) < share * 2**64
