"""Write small random sentence encoders with what sentence-transformers answers; run by hand.

    PYTHON_WITH_TORCH tests/peers/make_sentence_encoders.py [FOLDER]

Two blocks of width 16 each. tests/models/weights/sentence_encoders/NAME holds the checkpoint as the
library saves it; beside it, expected.npz holds the ids of tokenizers and the embeddings.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import sentence_transformers
import sentencepiece
import tokenizers
import torch
import transformers
from sentence_transformers.models import Dense, Normalize, Pooling, Transformer
from sentencepiece import sentencepiece_model_pb2

_COMMITTED = Path(__file__).parents[1] / "models" / "weights" / "sentence_encoders"
FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else _COMMITTED
TEXTS = [
    "Two Café dogs, running!",
    "Ünïcode naïve façade ﬁne ＡＢ",
    "x",
    "red  birds   on a\twire 狗在跑",
    "",
]
POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "lasttoken")
SIZES = {
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}


def _randomise(model: torch.nn.Module) -> None:
    """Let norms, biases and tables be far from 0 and 1, so that each of them matters."""
    for name, value in model.named_parameters():
        value.data.normal_(1.0 if value.ndim == 1 and "weight" in name else 0.0, 0.3)


def _words() -> list[str]:
    letters = "abcdefghijklmnopqrstuvwxyzéïüçABCDEFGHTUÜ,!ﬁ狗在跑ＡＢａｂ"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = ["two", "Two", "cafe", "café", "Café", "dogs", "##s", "naive", "naïve", "birds", "red"]
    inside = [f"##{letter}" for letter in letters[:40]]
    return list(dict.fromkeys([*special, *letters, *inside, *words]))


def _wordpiece(folder: Path, **options) -> None:
    """Write tokenizer.json and tokenizer_config.json, as transformers 5 does: no vocab.txt."""
    vocabulary = {word: number for number, word in enumerate(_words())}
    transformers.BertTokenizer(vocabulary, **options).save_pretrained(folder)


def _sentence_pieces(folder: Path) -> int:
    """Write sentencepiece.bpe.model and tokenizer.json as XLM-R has them; return the tokens."""
    lines, rules = folder / "lines.txt", folder / "rules.tsv"
    lines.write_text("\n".join(TEXTS[:2] * 40 + ["red birds on a wire 狗 在 跑"] * 40))
    rules.write_text("FB01\t66 69\nFF21\t41\nFF22\t42\n9\t20\n")
    sentencepiece.SentencePieceTrainer.train(
        input=str(lines),
        model_prefix=str(folder / "sentencepiece.bpe"),
        vocab_size=70,
        hard_vocab_limit=False,
        normalization_rule_tsv=str(rules),
        minloglevel=2,
        num_threads=1,
    )
    for path in (lines, rules, folder / "sentencepiece.bpe.vocab"):
        path.unlink()
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((folder / "sentencepiece.bpe.model").read_bytes())
    first = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces = [(one.piece, one.score) for one in model.pieces[3:]]
    vocabulary = [*first, *pieces, ("<mask>", 0.0)]
    whole = tokenizers.Tokenizer(tokenizers.models.Unigram(vocabulary, 3))
    whole.normalizer = tokenizers.normalizers.Precompiled(
        model.normalizer_spec.precompiled_charsmap
    )
    whole.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.WhitespaceSplit(),
            tokenizers.pre_tokenizers.Metaspace("▁", prepend_scheme="always"),
        ]
    )
    whole.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    whole.add_special_tokens([one for one, _ in [*first, vocabulary[-1]]])
    names = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>", "cls": "<s>"}
    names = {f"{key}_token": value for key, value in names.items()} | {"sep_token": "</s>"}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=whole, mask_token="<mask>", **names
    ).save_pretrained(folder)
    return len(vocabulary)


@torch.no_grad()
def _write(name: str, model, dense: bool, **prompts) -> None:
    """Save the sentence encoder, and its embeddings by every pooling."""
    folder = FOLDER / name
    _randomise(model)
    model.save_pretrained(folder)
    found = {}
    for pooling in (*POOLINGS, ""):
        whole = Transformer(str(folder), max_seq_length=24)
        parts = [whole, Pooling(16, pooling_mode=pooling or "mean")]
        if not pooling and dense:
            parts.append(Dense(16, 12, activation_function=torch.nn.Tanh()))
            _randomise(parts[-1])
        parts += [] if pooling else [Normalize()]
        encoder = sentence_transformers.SentenceTransformer(modules=parts, device="cpu", **prompts)
        found[pooling or "whole"] = encoder.encode(TEXTS, prompt="")
    model_files = {path.name for path in folder.iterdir()}
    kept = folder.with_name("kept")
    encoder.save(str(kept), create_model_card=False)
    for path in kept.iterdir():
        if path.name not in model_files:
            shutil.move(path, folder / path.name)
    shutil.rmtree(kept)
    ids = whole.tokenizer(TEXTS, padding="max_length", max_length=24, truncation=True)
    np.savez(
        folder / "expected.npz",
        ids=np.array(ids["input_ids"]),
        mask=np.array(ids["attention_mask"], bool),
        **found,
    )
    (folder / "texts.json").write_text(json.dumps(TEXTS))


def main() -> None:
    """Write all of them."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    torch.manual_seed(0)
    for name, options in {
        "bert": {},
        "bert_accents": {"strip_accents": False},
        "bert_cased": {"do_lower_case": False},
    }.items():
        (FOLDER / name).mkdir(parents=True)
        _wordpiece(FOLDER / name, **options)
        bert = transformers.BertConfig(
            vocab_size=len(_words()), max_position_embeddings=40, layer_norm_eps=1e-5, **SIZES
        )
        model = transformers.BertModel(bert, add_pooling_layer=False)
        _write(name, model.eval(), name == "bert", prompts={"query": "query: "})
    for name in ("xlm_roberta", "multilingual_bert"):
        (FOLDER / name).mkdir(parents=True)
        size = _sentence_pieces(FOLDER / name)
        common = {**SIZES, "max_position_embeddings": 40, "layer_norm_eps": 1e-5}
        if name == "xlm_roberta":
            xlm = transformers.XLMRobertaConfig(vocab_size=size, type_vocab_size=1, **common)
            model = transformers.XLMRobertaModel(xlm, add_pooling_layer=False)
        else:  # paraphrase-multilingual-MiniLM: BERT over XLM-R's pieces, its table padded
            bert = transformers.BertConfig(vocab_size=size + 5, **common)
            model = transformers.BertModel(bert, add_pooling_layer=False)
        _write(name, model.eval(), dense=False)


if __name__ == "__main__":
    main()
