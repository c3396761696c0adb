"""The server's memory: large blocks come from one heap, which is trimmed when it is told to."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, re
from tfclip.memory import return_memory
from tfclip.serving.server.memory import use_one_heap

use_one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def in_heap(address):
    found = re.findall(r"^(\\w+)-(\\w+) .*\\[heap\\]", open("/proc/self/maps").read(), re.M)
    return any(int(a, 16) <= address < int(b, 16) for a, b in found)

size = 200_000_000
before = resident()
block = libc.malloc(size)
ctypes.memset(block, 1, size)
print(in_heap(block), resident() - before > 0.9 * size)
libc.free(block)
kept = resident() - before > 0.9 * size
return_memory()
print(kept, resident() - before < 0.1 * size)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the heap of glibc")
@pytest.mark.parametrize(("chosen", "found"), [(None, "1"), ("0", "0")])
def test_large_blocks_come_from_the_heap_and_go_back_when_told(chosen, found):
    name = "TF_ONEDNN_USE_SYSTEM_ALLOCATOR"
    env = {key: value for key, value in os.environ.items() if key != name}
    if chosen is not None:
        env[name] = chosen
    script = f"{SCRIPT}\nimport os\nprint(os.environ[{name!r}])"
    words = [sys.executable, "-c", script]
    said = subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["True", "True", "True", "True", found]
