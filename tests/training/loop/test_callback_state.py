"""What callbacks remember, under the class names of today and of earlier checkpoints."""

import keras

from tfclip.training.callbacks.diagnostics import Diagnostics
from tfclip.training.callbacks.log_and_stop import Validation
from tfclip.training.callbacks.tensorboard import TensorBoardLog
from tfclip.training.loop.callback_state import FORMER_CLASSES, CallbackStates
from tfclip.training.loop.step_timer import StepTimer


def test_a_checkpoint_of_earlier_class_names_is_read_as_one_of_today():
    before = Diagnostics(StepTimer())
    states = CallbackStates([before])
    before.messages = {"collapse": "all embeddings are one"}
    before.window_steps = 7
    taken, arrays = states.taken()
    assert set(taken) == {"Diagnostics-1"}
    renamed = {"messages": "found"}
    earlier = {
        "Doctor-1": {renamed.get(key, key): value for key, value in taken["Diagnostics-1"].items()}
    }
    for saved in (taken, earlier):
        after = Diagnostics(StepTimer())
        CallbackStates([after]).restore(saved, arrays)
        assert after.messages == before.messages and after.window_steps == 7
        assert not hasattr(after, "found")


def test_every_renamed_class_is_a_callback_of_a_run():
    classes = {one.__name__ for one in (Diagnostics, TensorBoardLog, Validation)}
    assert classes == set(FORMER_CLASSES)


def test_a_callback_of_the_users_own_may_have_a_former_name():
    class Doctor(keras.callbacks.Callback):
        count = 0

    own = Doctor()
    CallbackStates([own]).restore({"Doctor-1": {"count": 3}}, {})
    assert own.count == 3
