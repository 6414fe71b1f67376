"""The paper's sharing ratio sigma, translated to the one ratio this project stores: keep.

The paper's text and its published code use the same letter for opposite things, so a sigma is
accepted only together with the reading that was meant.
"""

from __future__ import annotations

from typing import Literal

from model.errors import ConfigError

SigmaReading = Literal["paper", "code"]


def keep_from_sigma(sigma: float, reading: SigmaReading) -> float:
    """Share of a layer's units that one task uses.

    ``paper``: keep = sigma (section 3 and the captions of Tables 2 and 3: sigma is the share kept).
    ``code``: keep = 1 - sigma (the authors' published code zeroes ``int(C * sigma)`` units).

    Raises:
        ConfigError: sigma is outside [0, 1], or no unit would be kept.
    """
    if not 0.0 <= sigma <= 1.0:
        raise ConfigError(f"sigma is {sigma}; it must lie between 0 and 1", sigma=sigma)
    # Rounded, because 1 - 0.9 is a little less than 0.1, which may cost a unit where it is halved.
    keep = sigma if reading == "paper" else round(1.0 - sigma, 12)
    if keep <= 0.0:
        raise ConfigError(
            f"sigma = {sigma} read as {reading!r} keeps no unit for any task; "
            f"choose sigma {'> 0' if reading == 'paper' else '< 1'}",
            sigma=sigma,
            reading=reading,
        )
    return keep
