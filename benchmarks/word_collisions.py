"""Which different words of a language get equal ids, by learnt pieces and by the rules of before.

python -m benchmarks.word_collisions [--words LANGUAGE=FILE ...] [--most N] [--json]

The words are those of the Unicode CLDR, from the installed package babel (names of languages,
territories, currencies, units, dates); FILE adds a list of one's own, one word a line. A vocabulary
is learnt from every second word of a language, and all of them are tokenised: one half was never
seen. Words are different where they are so in NFKC, without case and invisible marks. `marks` are
not words but all pairs of a letter and a mark of the script's Unicode block.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

LANGUAGES = ("th", "km", "ja", "zh", "hi", "ta", "ar", "he", "vi", "ru")
# Blocks of letters with marks of their own.
BLOCKS = {
    "marks of Thai": (0x0E00, 0x0E7F),
    "marks of Khmer": (0x1780, 0x17FF),
    "marks of kana": (0x3040, 0x30FF),
    "marks of Devanagari": (0x0900, 0x097F),
    "marks of Bengali": (0x0980, 0x09FF),
    "marks of Tamil": (0x0B80, 0x0BFF),
    "marks of Arabic": (0x0620, 0x065F),
    "marks of Hebrew": (0x0591, 0x05EA),
}
CONTEXT = 64
# Direction marks, soft hyphens and zero-width spaces: the same word to a reader.
INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")


def cldr_words(language: str) -> set[str]:
    """The words in all texts of a locale."""
    from babel.localedata import load

    return {
        word
        for text in _leaves(load(language))
        for word in re.split(r"[\s()（）{}\[\]،,;:/·]+", text)
        if any(unicodedata.category(c)[0] == "L" for c in word)
    }


def _leaves(data) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _leaves(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _leaves(value)


def marked_letters(first: int, last: int) -> set[str]:
    """All letters of a block, each with every mark of it and without."""
    characters = [chr(code) for code in range(first, last + 1)]
    letters = [c for c in characters if unicodedata.category(c) == "Lo"]
    marks = [c for c in characters if unicodedata.category(c) in ("Mn", "Mc")]
    return {letter + mark for letter in letters for mark in ("", *marks)}


def collisions(tokenizer, words: Iterable[str]) -> dict:
    """Count the words that have the ids of another one, and those with [UNK]."""
    groups = defaultdict(set)
    unknown, cut = 0, 0
    words = sorted(words)
    for start in range(0, len(words), 4096):
        some = words[start : start + 4096]
        rows = tokenizer(some)["token_ids"].numpy()
        unknown += int((rows == 1).any(axis=1).sum())
        cut += int((tokenizer.token_counts(some).numpy() > tokenizer.context_length).sum())
        for word, row in zip(some, rows, strict=True):
            groups[row.tobytes()].add(word)
    alike = [sorted(group) for group in groups.values() if len(group) > 1]
    return {
        "words": len(words),
        "alike": sum(map(len, alike)),
        "with [UNK]": unknown,
        "cut": cut,
        "such as": alike[:2],
    }


def compare(words: set[str]) -> dict:
    """Learn from every second word, and count the collisions of all of them."""
    from tfclip.inputs.text import LearntPieceTokenizer, WordPieceTokenizer, learn_vocabulary
    from tfclip.inputs.tokenizers.learn_pieces import learn_pieces

    seen = (INVISIBLE.sub("", unicodedata.normalize("NFKC", word)) for word in words)
    folded = {word.casefold().strip() for word in seen} - {""}
    learnt = [word for word in sorted(folded)[::2] for _ in range(2)]
    return {
        "now": collisions(LearntPieceTokenizer(learn_pieces(learnt, 8000), CONTEXT), folded),
        "before": collisions(WordPieceTokenizer(learn_vocabulary(learnt, 8000), CONTEXT), folded),
    }


def main() -> None:
    """Compare all languages, and print a table or JSON; exit code 1 where words collide."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", nargs="*", default=[], metavar="LANGUAGE=FILE")
    parser.add_argument("--most", type=int, help="words of a list at most, the first ones")
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    sets = {f"{language}, CLDR": cldr_words(language) for language in LANGUAGES}
    for given in flags.words:
        language, _, path = given.partition("=")
        lines = Path(path).read_text(encoding="utf-8").splitlines()[: flags.most]
        sets[f"{language}, {Path(path).name}"] = {line.strip() for line in lines} - {""}
    sets |= {name: marked_letters(*block) for name, block in BLOCKS.items()}
    figures = {}
    for name, words in sets.items():
        figures[name] = found = compare(words)
        now, before = found["now"], found["before"]
        line = f"{name:26} {now['words']:7,} words, equal ids: {now['alike']:3} now, "
        line += f"{before['alike']:6,} before; with [UNK]: {now['with [UNK]']} now, "
        print(f"{line}{before['with [UNK]']:,} before; cut {now['cut']}", file=sys.stderr)
    if flags.json:
        print(json.dumps(figures, ensure_ascii=False))
    sys.exit(any(found["now"]["alike"] for found in figures.values()))


if __name__ == "__main__":
    main()
