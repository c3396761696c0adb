"""Keras layers that several towers and heads share."""

from tfclip.backend import require_tensorflow

# Every module that builds a part of a model imports this package.
require_tensorflow()
