"""The packages of the extra [onnx], checked before a model is loaded."""

import importlib.util

PACKAGES = ("onnx", "tf2onnx", "onnxruntime", "tokenizers")
INSTALL = "pip install 'tfclip[onnx]'"


def require_onnx() -> None:
    """Check that the packages of the extra [onnx] are installed.

    Raises:
        ValueError: some are missing; says how to install them.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"--onnx needs {', '.join(missing)}, not installed here; install the extra: {INSTALL}"
        )
