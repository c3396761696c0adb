"""The line that a person reads while a model trains."""

import pytest

from tfclip.training.callbacks.evaluation_line import duration, evaluation_line
from tfclip.training.loop.step_timer import StepTimer

LOGS = {
    "loss": 1.8512,
    "val_loss": 2.0,
    "val_i2t_r10": 0.6124,
    "val_t2i_r10": 0.55,
    "val_recall": 0.403,
    "voc_map": 0.461,
    "logit_scale": 20.0,
}


def test_the_line_names_the_step_the_figures_and_the_time():
    line = evaluation_line(96, 192, LOGS, "voc_map", True, 121.0)
    assert line == (
        "step 96/192 · loss 1.85 · val loss 2 · R@10 i2t 61.2 t2i 55.0 · mAP 46.1 (best) · "
        "2 min left"
    )


@pytest.mark.parametrize(
    ("monitor", "marked"),
    [
        ("val_recall", "mean recall 40.3 (best)"),
        ("val_loss", "val loss 2 (best)"),
        ("loss", "loss 1.85 (best)"),
    ],
)
def test_what_is_monitored_is_named_and_marked_once(monitor, marked):
    line = evaluation_line(1, 2, LOGS, monitor, True, 1.0)
    assert f" · {marked} · " in line and line.count("(best)") == 1
    assert "(best)" not in evaluation_line(1, 2, LOGS, monitor, False, 1.0)


def test_an_undefined_figure_is_no_number():
    assert "mAP none" in evaluation_line(2, 2, {**LOGS, "voc_map": float("nan")}, "loss", False, 0)


def test_the_last_line_has_no_time_left():
    assert not evaluation_line(2, 2, LOGS, "loss", False, 0.0).endswith("left")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "1 h 0 min"), (11_100, "3 h 5 min")],
)
def test_a_time_in_words(seconds, told):
    assert duration(seconds) == told


def test_the_time_left_is_that_of_the_remaining_steps(monkeypatch):
    now = iter([100.0, 130.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    step_timer = StepTimer()
    step_timer.begin(10, 40)
    assert step_timer.seconds_left() == 0.0
    step_timer.step = 20
    assert step_timer.seconds_left() == pytest.approx(60.0)  # 3 s for each of the 20 that remain
