"""The version of tfclip, written once: the package, the wheel and every file that names it."""

__version__ = "0.1.0"
