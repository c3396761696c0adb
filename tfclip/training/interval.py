"""The interval between checkpoints, in steps or in time."""

from __future__ import annotations

from dataclasses import dataclass

AUTO = "auto"


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Interval:
    """Save every so many steps or seconds; if both are None, `Checkpoints` chooses."""

    steps: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> Interval:
        """Parse "auto", "500" (steps), "90s", "10m" or "1h".

        Raises:
            ValueError: `text` is anything else.
        """
        try:
            if text == AUTO:
                return cls()
            if text[-1:] in _UNITS:
                interval = cls(seconds=float(text[:-1]) * _UNITS[text[-1]])
            else:
                interval = cls(steps=int(text))
            if (interval.steps or interval.seconds or 0) > 0:
                return interval
        except ValueError:
            pass
        raise ValueError(
            f"received --checkpoint-every {text!r}; allowed: a number of steps (500), a time (90s, "
            f"10m, 1h) or {AUTO}"
        )
