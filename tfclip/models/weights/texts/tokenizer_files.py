"""Reads the tokenizer of a Hugging Face folder: WordPiece, CLIP's byte pairs, or XLM-R's pieces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tfclip.inputs.text import (
    BytePairTokenizer,
    Tokenizer,
    WordPieceTokenizer,
    XlmRobertaTokenizer,
)
from tfclip.inputs.tokenizers.byte_pair import MERGES_FILE, load_merges
from tfclip.inputs.tokenizers.vocabulary import check_vocabulary, load_vocabulary
from tfclip.models.weights.texts import unigram
from tfclip.models.weights.texts.json_files import read_json

VOCABULARY_FILE = "vocab.txt"
CONFIG_FILE = "tokenizer_config.json"
WHOLE_FILE = "tokenizer.json"
XLM_ROBERTA_FILE = "sentencepiece.bpe.model"
# Classes whose normalisation is stated by the files that are read here.
_CLASSES = ("Bert", "DistilBert", "Electra", "XLMRoberta", "PreTrained", "MPNet")


@dataclass(frozen=True)
class TokenizerFiles:
    """The tokenizer of pretrained weights, for any context length.

    Attributes:
        kind: "wordpiece", "byte-pair" or "xlm-roberta".
        vocabulary: the tokens of WordPiece, or the merges of byte pairs.
        model: the SentencePiece model of "xlm-roberta", with XLM-R's ids.
        lowercase, strip_accents: see `WordPieceTokenizer`.
        notes: what was decided, to be shown to the user.
    """

    kind: str
    vocabulary: tuple[str, ...] | None = None
    model: bytes | None = None
    lowercase: bool = True
    strip_accents: bool | None = None
    notes: tuple[str, ...] = ()

    def make(self, context_length: int) -> Tokenizer:
        """Return the tokenizer."""
        if self.kind == "byte-pair":
            return BytePairTokenizer(self.vocabulary or (), context_length)
        if self.kind == "xlm-roberta":
            return XlmRobertaTokenizer(self.model or b"", context_length)
        return WordPieceTokenizer(
            self.vocabulary or (), context_length, self.lowercase, "bert", self.strip_accents
        )


def find_merges(folder: Path) -> list[str] | None:
    """Return CLIP's merges of a folder, from merges.txt or tokenizer.json; None without both.

    Raises:
        ValueError: a damaged file, or a tokenizer.json of another kind.
    """
    if (folder / MERGES_FILE).is_file():
        return load_merges(folder / MERGES_FILE)
    path = folder / WHOLE_FILE
    if not path.is_file():
        return None
    model = _part(read_json(path), "model")
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise ValueError(f"{path} has no merges; CLIP's tokenizer uses byte pairs.")
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


def read_tokenizer(folder: Path, lowercased_first: bool = False) -> TokenizerFiles:
    """Read the tokenizer of a folder of BERT or XLM-R.

    Args:
        folder: with tokenizer.json, vocab.txt or sentencepiece.bpe.model.
        lowercased_first: texts are lower-cased before the tokenizer, see `SentenceModules`.

    Raises:
        FileNotFoundError: there is none of them.
        ValueError: a damaged file, or a setting that is not supported; names it.
    """
    path, whole = folder / CONFIG_FILE, folder / WHOLE_FILE
    config = read_json(path) if path.is_file() else {}
    named = str(config.get("tokenizer_class") or "PreTrainedTokenizer")
    kinds = [f"{kind}Tokenizer{end}" for kind in _CLASSES for end in ("", "Fast")]
    if named not in [*kinds, "TokenizersBackend"]:
        raise ValueError(
            f"{path}: the tokenizer {named} is not supported; allowed: {', '.join(kinds[::2])}"
        )
    stated = read_json(whole) if whole.is_file() else {}
    kind = _part(stated, "model").get("type") if stated else None
    if kind == "Unigram" or kind is None and (folder / XLM_ROBERTA_FILE).is_file():
        if lowercased_first:
            raise ValueError(f"{folder}: do_lower_case is not supported with SentencePiece")
        return TokenizerFiles("xlm-roberta", model=_sentence_pieces(folder, stated))
    if kind not in (None, "WordPiece"):
        raise ValueError(
            f"{whole}: the tokenizer {kind} is not supported for BERT; allowed: WordPiece, Unigram"
        )
    if stated:
        vocabulary = _tokens(stated, whole)
        _check_steps(stated, whole)
    elif (folder / VOCABULARY_FILE).is_file():
        vocabulary = load_vocabulary(folder / VOCABULARY_FILE)
    else:
        raise FileNotFoundError(
            f"{folder} has no {WHOLE_FILE}, {VOCABULARY_FILE} or {XLM_ROBERTA_FILE}; fetch one of "
            "them from the model's page on the Hugging Face hub into the folder"
        )
    return _word_pieces(tuple(vocabulary), config, stated, path, lowercased_first)


def _word_pieces(
    vocabulary: tuple[str, ...],
    config: Mapping,
    stated: Mapping,
    path: Path,
    lowercased_first: bool,
) -> TokenizerFiles:
    """Return WordPiece with the normalisation of both files; tokenizer_config.json has priority."""
    normalizer = _part(stated, "normalizer")
    names = {
        "do_lower_case": "lowercase",
        "strip_accents": "strip_accents",
        "tokenize_chinese_chars": "handle_chinese_chars",
    }
    values, notes = {}, []
    for name, theirs in names.items():
        usual = normalizer.get(theirs, None if name == "strip_accents" else True)
        values[name] = config.get(name, usual)
        if name in config and theirs in normalizer and config[name] != usual:
            notes.append(
                f"{path} has {name} {config[name]}, {WHOLE_FILE} has {usual}: the former is used"
            )
    neutral = {"tokenize_chinese_chars": True, "do_basic_tokenize": True, "never_split": None}
    for name, value in neutral.items():
        received = values.get(name, config.get(name, value))
        if received != value and received != []:
            raise ValueError(f"{path}: {name} {received} is not supported; allowed: {value}")
    lowercase, strip = bool(values["do_lower_case"]), values["strip_accents"]
    if lowercased_first and not lowercase:
        lowercase, strip = True, bool(strip)
    return TokenizerFiles(
        "wordpiece",
        vocabulary,
        None,
        lowercase,
        strip if strip != lowercase else None,
        tuple(notes),
    )


def _tokens(stated: Mapping, path: Path) -> list[str]:
    """Return the vocabulary of a WordPiece tokenizer.json, added tokens included."""
    model = _part(stated, "model")
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict):
        raise ValueError(f"{path} has no vocab")
    ids = {**vocabulary}
    for one in stated.get("added_tokens") or []:
        ids.setdefault(one["content"], one["id"])
    ordered = sorted(ids, key=lambda token: ids[token])
    if [ids[token] for token in ordered] != list(range(len(ids))):
        raise ValueError(f"{path}: its ids are not 0 to {len(ids) - 1}, each once")
    for name, value in (("unk_token", "[UNK]"), ("continuing_subword_prefix", "##")):
        if model.get(name, value) != value:
            raise ValueError(f"{path}: {name} {model[name]!r} is not supported; allowed: {value!r}")
    check_vocabulary(ordered, str(path))
    return ordered


def _check_steps(stated: Mapping, path: Path) -> None:
    """Refuse steps before or after the pieces that `WordPieceTokenizer` does not have."""
    allowed: dict[str, tuple[str, ...]] = {
        "normalizer": ("BertNormalizer",),
        "pre_tokenizer": ("BertPreTokenizer",),
        "post_processor": ("TemplateProcessing", "BertProcessing"),
    }
    for name, kinds in allowed.items():
        received = _part(stated, name).get("type")
        if received not in kinds:
            raise ValueError(
                f"{path}: the {name} {received} is not supported; allowed: {', '.join(kinds)}"
            )
    if _part(stated, "normalizer").get("clean_text", True) is not True:
        raise ValueError(f"{path}: clean_text false is not supported; allowed: true")
    single = _part(stated, "post_processor").get("single")
    if single is not None and framing(single) != ["[CLS]", "A", "[SEP]"]:
        raise ValueError(
            f"{path} frames texts as {' '.join(framing(single))}; allowed: [CLS] A [SEP]"
        )


def framing(single: list) -> list[str]:
    """Return the parts of a TemplateProcessing, the text as "A"."""
    return [str(next(iter(part.values()))["id"]) for part in single]


def _sentence_pieces(folder: Path, stated: Mapping) -> bytes:
    """Return a SentencePiece model with XLM-R's ids."""
    if stated:
        single = _part(stated, "post_processor").get("single") or []
        if framing(single) != ["<s>", "A", "</s>"]:
            raise ValueError(
                f"{folder / WHOLE_FILE} frames texts as {' '.join(framing(single)) or 'A'}; "
                "allowed: <s> A </s>"
            )
    if (folder / XLM_ROBERTA_FILE).is_file():
        return unigram.with_ids_of_xlm_roberta(folder / XLM_ROBERTA_FILE)
    return unigram.from_tokenizer_json(stated, folder / WHOLE_FILE)


def _part(content: Mapping, name: str) -> Mapping:
    part = content.get(name)
    return part if isinstance(part, Mapping) else {}
