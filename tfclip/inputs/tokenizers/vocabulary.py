"""WordPiece vocabularies: learning from captions, reading and writing `vocab.txt`."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path

import tensorflow as tf
import tensorflow_text as tf_text

PAD, UNKNOWN, START, END, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
REQUIRED = (PAD, UNKNOWN, START, END)
CONTINUES = "##"


def check_vocabulary(vocabulary: Sequence[str], origin: str = "the vocabulary") -> None:
    """Raise ValueError, naming the lines, when `vocabulary` is invalid.

    Entries must be unique and not empty, and [PAD], [UNK], [CLS] and [SEP] must be among them. The
    message begins with `origin`, and numbers the entries as lines of vocab.txt.
    """
    first_line: dict[str, int] = {}
    for line, token in enumerate(vocabulary, 1):
        if not token:
            raise ValueError(f"{origin}: line {line} is empty; each line must hold one token")
        if token in first_line:
            raise ValueError(
                f"{origin}: {token!r} is on lines {first_line[token]} and {line}; each token "
                "must be unique"
            )
        first_line[token] = line
    missing = [token for token in REQUIRED if token not in first_line]
    if missing:
        raise ValueError(
            f"{origin}: {', '.join(missing)} missing from {len(vocabulary)} tokens; a WordPiece "
            f"vocabulary holds {', '.join(REQUIRED)}"
        )


def load_vocabulary(path: str | Path) -> list[str]:
    """Read a vocabulary: UTF-8, one token per line. FileNotFoundError or ValueError names
    `path`."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no vocabulary at {path}; expected a vocab.txt, one token a line")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start})") from None
    # Not splitlines(): BERT's vocabulary contains characters that it treats as line ends.
    vocabulary = text.removesuffix("\n").split("\n")
    check_vocabulary(vocabulary, str(path))
    return vocabulary


def save_vocabulary(vocabulary: Sequence[str], path: str | Path) -> None:
    """Write `vocabulary` in the format of `load_vocabulary`."""
    check_vocabulary(vocabulary)
    Path(path).write_text("".join(f"{token}\n" for token in vocabulary), "utf-8", newline="\n")


def is_cased(vocabulary: Sequence[str]) -> bool:
    """Return whether a token other than [CLS] and the like has upper case.

    Cherokee, whose case folding results in capitals, is not counted.
    """
    return any(
        token != token.lower() and token != token.casefold()
        for token in vocabulary
        if not (token.startswith("[") and token.endswith("]"))
    )


def learn_vocabulary(
    captions: Iterable[str], size: int, *, least_count: int = 2, lowercase: bool = True
) -> list[str]:
    """Learn a WordPiece vocabulary of at most `size` tokens, the same for the same captions.

    Words are split into characters, and the most frequent pair of neighbours is joined into a
    token until `size` is reached (Sennrich et al. 2016, arXiv 1508.07909); frequent words come out
    whole. In order: [PAD] [UNK] [CLS] [SEP] [MASK], the characters, the joined tokens.

    Args:
        captions: read once, held only as word counts.
        size: upper bound; fewer tokens come back when the captions hold no more.
        least_count: a character or pair seen fewer times is left out. If the characters would
            take more than half of `size`, the rarer ones are left out as well.
        lowercase: as in `WordPieceTokenizer`.

    Raises:
        ValueError: there is no word in the captions, or `size` leaves no room for characters.
    """
    words = count_words(captions, lowercase=lowercase)
    if not words:
        raise ValueError("no words to learn a vocabulary from: all captions are empty")
    specials = [*REQUIRED, MASK]
    seen: Counter[str] = Counter()
    for word, count in words.items():
        seen.update(dict.fromkeys(word, count))
    room = max(0, size - len(specials)) // 4
    ranked = sorted(seen, key=lambda character: (-seen[character], character))[:room]
    kept = sorted(character for character in ranked if seen[character] >= least_count)
    if not kept:
        raise ValueError(
            f"vocabulary size {size} is too small for {len(seen)} characters, each with and "
            f"without {CONTINUES}; try 8000"
        )
    # Punctuation and Chinese characters are always separate words, and need no second form.
    inside = set().union(*(word for word in words if len(word) > 1))
    alphabet = [*kept, *(CONTINUES + character for character in kept if character in inside)]
    spelt = {
        (word[0], *(CONTINUES + character for character in word[1:])): count
        for word, count in words.items()
        if set(word) <= set(kept)
    }
    vocabulary = dict.fromkeys([*specials, *alphabet])
    for token in _join_pairs(spelt, least_count):
        if len(vocabulary) >= size:
            break
        vocabulary[token] = None
    return list(vocabulary)


def count_words(captions: Iterable[str], *, lowercase: bool = True) -> Counter[str]:
    """Return the frequencies of the words of `captions`, normalised and split as by the tokenizer.

    >>> sorted(count_words(["A dog.", "a cat"]).items())
    [('.', 1), ('a', 2), ('cat', 1), ('dog', 1)]
    """
    # No word matches this vocabulary, so each is one unknown token with its offsets.
    splitter = tf_text.FastWordpieceTokenizer(
        [UNKNOWN, " "], unknown_token=UNKNOWN, token_out_type=tf.int64
    )
    normalizer = tf_text.FastBertNormalizer(lower_case_nfd_strip_accents=lowercase)
    words: Counter[bytes] = Counter()
    captions = iter(captions)
    while chunk := list(islice(captions, 8192)):
        texts = normalizer.normalize(tf.strings.unicode_transcode(chunk, "UTF-8", "UTF-8"))
        # The second of two spaces would match the space in the vocabulary.
        texts = tf.strings.strip(tf.strings.regex_replace(texts, " +", " "))
        _, start, stop = splitter.tokenize_with_offsets(texts)
        rows = tf.gather(texts, start.value_rowids())
        substrings = tf.strings.substr(rows, start.flat_values, (stop - start).flat_values)
        words.update(substrings.numpy().tolist())
    return Counter({word.decode("utf-8"): count for word, count in words.items()})


def _join_pairs(spelt: dict[tuple[str, ...], int], least_count: int) -> Iterator[str]:
    """Yield the tokens made by joining the most frequent pair, again and again.

    `spelt` maps words, as tokens, to counts. Ties go to the pair that sorts first.
    """
    words = [list(word) for word in spelt]
    counts = list(spelt.values())
    pair_counts: Counter[tuple[str, str]] = Counter()
    holders = defaultdict(set)
    for index, word in enumerate(words):
        for pair in pairwise(word):
            pair_counts[pair] += counts[index]
            holders[pair].add(index)
    queue = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(queue)
    while queue:
        negative, pair = heapq.heappop(queue)
        if -negative < least_count:
            return
        if pair_counts[pair] != -negative:  # An entry from before the count changed.
            continue
        token = pair[0] + pair[1].removeprefix(CONTINUES)
        yield token
        changed = set()
        for index in holders.pop(pair):
            word = words[index]
            for old in pairwise(word):
                pair_counts[old] -= counts[index]
                changed.add(old)
            words[index] = word = _join(word, pair, token)
            for new in pairwise(word):
                pair_counts[new] += counts[index]
                holders[new].add(index)
                changed.add(new)
        for other in changed:
            if pair_counts[other] > 0:
                heapq.heappush(queue, (-pair_counts[other], other))


def _join(word: list[str], pair: tuple[str, str], token: str) -> list[str]:
    joined, place = [], 0
    while place < len(word):
        if tuple(word[place : place + 2]) == pair:
            joined.append(token)
            place += 2
        else:
            joined.append(word[place])
            place += 1
    return joined
