"""Random damage to the content of a file; the same number gives the same damage."""

import random

NASTY = [b'"', b"\\", b"{", b"]", b"\0", b"\xff", b"\xc3", b"-1", b"1e999", b"null", b"NaN", b"<"]
NASTY += [b"\r", b"/", b"../", b"/etc/passwd", b"\t", b"\n", b",", b"&a;", b"<!DOCTYPE a [", b"}"]
NASTY += [b"9" * 5000, b"\\ud800", b"[" * 3000, b"", b"x" * 20_000, b'""', b"\xef\xbb\xbf", b"[]"]
NASTY += [b"\xf0\x9f\x90\xb6", b"0" * 8, b"\x80" * 8, b"\xff\xfe", b"{}", b" ", b";", b"|", b"\x1b"]


def mutated(content: bytes, seed: str) -> bytes:
    """Cut, overwrite, repeat or insert, mostly at one place; one in twenty is cut off."""
    rng = random.Random(seed)
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3, 5))):
        at = rng.randint(0, len(content))
        length = rng.choice((0, 0, 1, 1, 3, 30))
        kind = rng.randrange(4)
        if kind == 0:
            start = rng.randint(0, len(content))
            new = content[start : start + rng.choice((1, 20, 60))]
        elif kind == 1:
            new = rng.randbytes(rng.randint(0, 4))
        else:
            new = rng.choice(NASTY)
        content = content[:at] + new + content[at + length :]
    return content[: rng.randint(0, len(content))] if rng.random() < 0.05 else content
