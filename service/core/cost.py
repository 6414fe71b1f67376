"""What a batch costs, how requests arrive, and whether waiting for the next one pays."""

from __future__ import annotations

import math

# One observation's weight after n further ones is FORGET**n: about the last hundred batches count.
FORGET = 0.98
# Below this weighted relative spread of batch sizes a slope cannot be told from noise.
_MIN_SPREAD = 1e-3
_MIN_WEIGHT = 2.5


class CostModel:
    """``seconds = fixed + per_row * rows``, fitted online by least squares with forgetting.

    One instance per served model and strategy. While all batches had the same size the two terms
    cannot be told apart: everything is then put down to the rows, so that nothing is ever delayed
    for a fixed cost that was never seen.
    """

    def __init__(self) -> None:
        self._weight = self._x = self._y = self._xx = self._xy = self._yy = 0.0
        self._told_apart = False
        self._error = 0.0  # of what is fixed, in seconds
        self.fixed = 0.0
        self.per_row = 0.0

    @property
    def fitted(self) -> bool:
        return self._weight >= _MIN_WEIGHT

    def observe(self, rows: int, seconds: float) -> None:
        """Learn from one batch that ran without a fault."""
        keep, x = FORGET, float(rows)
        self._weight = self._weight * keep + 1.0
        self._x = self._x * keep + x
        self._y = self._y * keep + seconds
        self._xx = self._xx * keep + x * x
        self._xy = self._xy * keep + x * seconds
        self._yy = self._yy * keep + seconds * seconds
        self._fit()

    def predict(self, rows: int) -> float:
        """Seconds that a batch of ``rows`` will take."""
        return self.fixed + self.per_row * rows

    def rows_within(self, seconds: float) -> int | None:
        """Most rows that a batch of ``seconds`` can hold; None while unknown."""
        if not self.fitted or self.per_row <= 0.0:
            return None
        return max(0, math.floor((seconds - self.fixed) / self.per_row))

    def rows_for_fixed_share(self, share: float) -> int | None:
        """Fewest rows of a batch of which the fixed cost is at most ``share``; None while unknown.

        It is taken to be a standard error larger than it seems. On a machine that is taken away
        now and then it often seems to be nothing; batches as small as that are all of one size,
        from which nothing better could be learnt, until the error is so large that one is not.
        """
        if not self.fitted or not self._told_apart or self.per_row <= 0.0:
            return None
        fixed = self.fixed + self._error
        return math.ceil(fixed * (1 - share) / (share * self.per_row))

    def _fit(self) -> None:
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        variance = self._xx / self._weight - mean_x * mean_x
        self._told_apart = variance > _MIN_SPREAD * mean_x * mean_x
        if not self._told_apart:
            self.fixed, self.per_row = 0.0, mean_y / mean_x
            return
        covariance = self._xy / self._weight - mean_x * mean_y
        slope = covariance / variance
        intercept = mean_y - slope * mean_x
        unexplained = self._yy / self._weight - mean_y * mean_y - slope * covariance
        freedom = max(self._weight - 2.0, 0.5)
        # The standard error of a regression line's intercept.
        self._error = math.sqrt(
            max(unexplained, 0.0) / freedom * (1.0 + mean_x * mean_x / variance)
        )
        if slope <= 0.0:  # noise: larger batches looked cheaper
            self.fixed, self.per_row = mean_y, 0.0
        elif intercept < 0.0:
            self.fixed, self.per_row = 0.0, mean_y / mean_x
        else:
            self.fixed, self.per_row = intercept, slope


class Arrivals:
    """Running means of the time between requests and of the rows that a request brings."""

    _NEW = 0.1  # weight of the newest request

    def __init__(self) -> None:
        self._last: float | None = None
        self._interval = math.inf
        self.rows = 0.0

    def observe(self, now: float, rows: int) -> None:
        if self._last is not None:
            gap = now - self._last
            first = math.isinf(self._interval)
            self._interval = gap if first else self._interval + (gap - self._interval) * self._NEW
        self._last = now
        self.rows += (rows - self.rows) * (self._NEW if self.rows else 1.0)

    def interval(self, now: float) -> float:
        """Expected seconds until the next request; grows while none comes."""
        if self._last is None:
            return math.inf
        return max(self._interval, now - self._last)


def pays_to_wait(rows: int, cost: CostModel, arrivals: Arrivals, now: float) -> bool:
    """Whether holding ``rows`` back for the next request shortens the sum of all waits.

    Started now, the next request's k rows, expected in dt seconds, wait for this batch and then pay
    the fixed cost a again: joining saves each of them ``a - dt``. It costs each waiting row the
    delay dt and the k rows' share of a longer batch, ``dt + b * k``.
    """
    if not cost.fitted:
        return False
    gap, more = arrivals.interval(now), arrivals.rows
    return more * (cost.fixed - gap) > rows * (gap + cost.per_row * more)
