"""AdamW with a learning rate schedule, averaged weights, and layer-wise learning rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfclip.models.dual_encoder import DualEncoder
from tfclip.training.options.optimizer import OptimizerOptions

# The number of parts of a tower's depth with different learning rates.
DEPTHS = 12

Pairs = list[tuple[keras.Variable, keras.Variable]]


@keras.saving.register_keras_serializable("tfclip")
class LayerwiseAdamW(keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` (Loshchilov and Hutter 2019) with learning rate factors by variable.

    Weight decay excludes biases, norms and the temperature; see `decays`.

    Scaling gradients would have no effect, because Adam normalises them. Each part of the update is
    a single TensorFlow kernel: for heads on stored features, repeated passes over the variables
    take longer than the matrix products.

    Args:
        factors: factors by variable path; 1 for other variables.
    """

    def __init__(self, *args, factors: Mapping[str, float] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.factors = dict(factors or {})

    def build(self, var_list):
        """Create the moments, and list the factors in the order of the variables."""
        self._factor_of = [self.factors.get(variable.path, 1.0) for variable in var_list]
        super().build(var_list)

    def update_step(self, gradient, variable, learning_rate):
        """Update a variable with its own learning rate."""
        # Here `variable` is a TensorFlow variable, which has no path.
        index = self._get_variable_index(variable)
        kind = variable.dtype
        step = ops.cast(self.iterations + 1, kind)
        beta_1, beta_2 = (ops.cast(beta, kind) for beta in (self.beta_1, self.beta_2))
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=ops.power(beta_1, step),
            beta2_power=ops.power(beta_2, step),
            lr=ops.cast(learning_rate * self._factor_of[index], kind),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=ops.cast(self.epsilon, kind),
            grad=gradient,
        )

    def _apply_weight_decay(self, variables):
        for variable in variables:
            if self._use_weight_decay(variable):
                rate = self.learning_rate * self.weight_decay * self.factors.get(variable.path, 1.0)
                _subtract_scaled(variable, rate, variable)

    def _update_model_variables_moving_average(self, trainable_variables):
        # Keras' constant momentum keeps the first weights for too long in a short run. This is the
        # one of tf.train.ExponentialMovingAverage with num_updates, (1 + t) / (10 + t).
        step = ops.cast(self.iterations, "float32")
        momentum = ops.minimum(self.ema_momentum, (1.0 + step) / (10.0 + step))
        decay = ops.where(step > 0, momentum, 0.0)
        for variable, average in zip(
            trainable_variables, self._model_variables_moving_average, strict=True
        ):
            _subtract_scaled(average, 1 - decay, average - variable)

    def _use_weight_decay(self, variable):
        # By a rule, because Keras does not save the list of `exclude_from_weight_decay`.
        return decays(variable) and super()._use_weight_decay(variable)

    def get_config(self):
        """Return the configuration of AdamW, and the factors."""
        return {**super().get_config(), "factors": self.factors}


def _subtract_scaled(variable: keras.Variable, factor, amount) -> None:
    """Compute variable -= factor * amount in one pass."""
    tf.raw_ops.ResourceApplyGradientDescent(
        var=variable.value.handle,
        alpha=ops.cast(factor, variable.dtype),
        delta=tf.convert_to_tensor(amount, variable.dtype),
    )


def make_optimizer(
    options: OptimizerOptions, rate: float, steps: int, factors: Mapping[str, float] | None = None
) -> LayerwiseAdamW:
    """Return the optimizer for `steps` updates: a warm-up to `rate`, then the schedule."""
    warmup = min(options.warmup_steps, steps // 2)
    # A cosine that decays to its initial value is a constant schedule with a warm-up.
    lowest = 1.0 if options.schedule == "constant" else 0.0
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else rate,
        decay_steps=steps - warmup,
        alpha=lowest,
        warmup_target=rate if warmup else None,
        warmup_steps=warmup,
    )
    return LayerwiseAdamW(
        schedule,
        weight_decay=options.weight_decay,
        beta_1=options.beta_1,
        beta_2=options.beta_2,
        epsilon=options.epsilon,
        use_ema=options.average > 0,
        ema_momentum=options.average,
        factors=factors,
    )


def decays(variable: keras.Variable) -> bool:
    """Return whether weight decay applies: not to biases, norms and the temperature."""
    # Attention biases are (heads, width) matrices, so that the rank alone is not sufficient.
    return len(variable.shape) > 1 and variable.name != "bias"


def depth_factors(tower: keras.Model, decay: float) -> dict[str, float]:
    """Return the learning rate factors of a tower's variables: 1 for its last twelfth of layers,
    `decay` for the one below it, then `decay` squared, and so on."""
    layers = [layer for layer in tower._flatten_layers() if layer._trainable_variables]
    factors: dict[str, float] = {}
    for place, layer in enumerate(layers):
        below = DEPTHS - 1 - place * DEPTHS // len(layers)
        factors |= {variable.path: decay**below for variable in layer._trainable_variables}
    return factors


def averages(model: DualEncoder) -> Pairs:
    """Return the trained variables with their averages; an empty list without averaging."""
    optimizer = _inner_optimizer(model)
    if not optimizer.use_ema:
        return []
    averages = optimizer._model_variables_moving_average
    return list(zip(optimizer._trainable_variables, averages, strict=True))


@contextmanager
def exchanged(pairs: Pairs) -> Iterator[None]:
    """Context in which weights and their averages are exchanged."""
    exchange(pairs)
    try:
        yield
    finally:
        exchange(pairs)


def exchange(pairs: Pairs) -> None:
    """Exchange weights with their averages."""
    for variable, average in pairs:
        value = variable.numpy()
        variable.assign(average.value)
        average.assign(value)


def learning_rate(model: DualEncoder) -> float:
    """Return the learning rate of the next update."""
    return float(_inner_optimizer(model).learning_rate)


def _inner_optimizer(model: DualEncoder) -> Any:
    """Return the optimizer of a compiled model, without the loss scaling around it."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)
