"""python -m benchmarks.search_cut_off: does search say that nothing looks like a text?

Queries with an answer are captions of the indexed pictures. Queries without one are COCO captions
with a word for a thing that no caption of the indexed pictures has. Prints how many of both are
above the cut-off of the index, and the precision at equal numbers of both.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np

from tfclip.evaluation.embedding.cache import RunEmbeddings
from tfclip.evaluation.search.cut_off import best_cosines, learnt_cut_off
from tfclip.evaluation.search.index import open_index
from tfclip.evaluation.search.pictures import read_picture

WORDS = frozenset(
    "giraffe giraffes zebra zebras elephant elephants toilet oven refrigerator microwave sink "
    "broccoli pizza pizzas donut donuts sandwich laptop keyboard jet stove vase cows sheep bears "
    "scissors toothbrush clock banana bananas cake monitor tower fridge salad".split()
)


def words_of(text: str) -> set[str]:
    """Return the lower-case words of a text."""
    return set(re.findall("[a-z]+", text.lower()))


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.search_cut_off", description=__doc__
    )
    add = parser.add_argument
    add("index", help="an index of records with captions")
    add("--coco", type=Path, required=True, help="captions_val2017.json")
    add("--queries", type=int, default=1000, help="with an answer")
    add("--seed", type=int, default=0)
    flags = parser.parse_args(argv)
    index = open_index(flags.index)
    captions = [text for row in range(len(index)) for text in read_picture(index, row).captions]
    known = set().union(*map(words_of, captions))
    absent = WORDS - known
    annotations = json.loads(flags.coco.read_text(encoding="utf-8"))["annotations"]
    others = [each["caption"].strip() for each in annotations]
    others = [text for text in others if words_of(text) & absent]
    rng = np.random.default_rng(flags.seed)
    chosen = rng.choice(len(captions), min(flags.queries, len(captions)), replace=False)
    texts = RunEmbeddings(index.run).texts([captions[at] for at in chosen] + others)
    best = best_cosines(index.embeddings, texts)
    with_answer, without = best[: len(chosen)], best[len(chosen) :]
    cut_off = learnt_cut_off(index)
    if cut_off is None:
        print("error: the model cannot embed the texts that teach the cut-off", file=sys.stderr)
        return 2
    answered, passed = (float((each >= cut_off).mean()) for each in (with_answer, without))
    auc = float((with_answer[:, None] > without[None]).mean())
    print(
        f"cut-off {cut_off:.3f}: {answered:.3f} of {len(with_answer)} captions are above it, "
        f"{passed:.3f} of {len(without)} texts without an answer; precision at equal numbers "
        f"{answered / (answered + passed):.3f}; AUC of the largest cosine {auc:.3f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
