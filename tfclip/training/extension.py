"""Implements --extend: more steps for a run that has ended."""

from __future__ import annotations

from tfclip.models.frozen_weights import CHECKPOINTS
from tfclip.training.interval import Interval
from tfclip.training.loop.checkpoints import Checkpoints
from tfclip.training.options.flags import FitFlags
from tfclip.training.options.saved_flags import EXTENDED_AFTER, resumed_config


def extended_after(flags: FitFlags) -> tuple[int, ...]:
    """Return the steps after which the run had ended before it was extended; () for most runs.

    Raises:
        ValueError: --extend with a run that does not exist or has not ended, without more steps, or
            with adapters.
    """
    config = resumed_config(flags)
    if config is None:
        if flags.extend:
            raise ValueError(
                f"received --extend, but there is no run at {flags.run}; omit --extend, or give "
                "the --run to extend"
            )
        return ()
    before, steps = tuple(config.get(EXTENDED_AFTER, ())), config["flags"]["steps"]
    if not flags.extend or flags.steps == steps:
        return before
    if flags.freeze.lora is not None:
        raise ValueError(
            "received --extend and --lora, whose adapters were merged when the run ended; start a "
            f"new run with --init {flags.run} --lora {flags.freeze.lora}"
        )
    newest = Checkpoints(flags.run / CHECKPOINTS, Interval.parse("auto")).newest()
    if newest is None or newest.has_weights:
        raise ValueError(
            f"received --extend, but {flags.run} has not ended; first end it with --steps {steps} "
            "and without --extend"
        )
    if flags.steps <= newest.step:
        raise ValueError(
            f"received --extend and --steps {flags.steps}, but {flags.run} has ended after step "
            f"{newest.step}; --steps is the new total, above that"
        )
    return (*before, newest.step)
