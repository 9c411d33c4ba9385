#!/usr/bin/env python3
"""What pycocoevalcap says of captions, written down for the tests of this crate.

  goldens/make.py [--flickr captions.jsonl] [--coco captions_val2017.json captions_train2017.json]

Needs a Python with pycocoevalcap 1.2 (which brings the jars of the tokenizer and of METEOR) and Java. Writes, beside
itself:

  hard.json    the tokens of each line of hard.txt, and all scores of made-up hypotheses on those lines
  flickr.json, coco.json
               of captions that are not ours to copy: a hash of each caption's tokens, corpus scores, and sums of the
               scores by image, weighted so that an exchange of two images shows

The made-up hypotheses are told in `hypotheses`; tests/goldens.rs makes the same. Captions of hard.txt are tokenised with
a line `x` between any two, since the tokenizer sees across the end of a line; the others go through pycocoevalcap's own
`PTBTokenizer` as they are.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import pathlib
import subprocess
import tempfile

import pycocoevalcap.tokenizer.ptbtokenizer as ptb
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge

HERE = pathlib.Path(__file__).resolve().parent
REFERENCES = 4  # of one image of hard.txt


def tokens_of_lines(lines):
    """pycocoevalcap's tokens of each line, no line seeing the next."""
    folder = os.path.dirname(os.path.abspath(ptb.__file__))
    with tempfile.NamedTemporaryFile() as file:
        file.write("".join(f"{line}\nx\n" for line in lines).encode())
        file.flush()
        out = subprocess.run(["java", "-cp", ptb.STANFORD_CORENLP_3_4_1_JAR, "edu.stanford.nlp.process.PTBTokenizer",
                              "-preserveLines", "-lowerCase", file.name], cwd=folder, capture_output=True, check=True)
    found = out.stdout.decode().split("\n")
    assert all(line.strip() == "x" for line in found[1:2 * len(lines):2]), "lines were shifted"
    return [" ".join(w for w in line.rstrip().split(" ") if w not in ptb.PUNCTUATIONS) for line in found[:2 * len(lines):2]]


def hypotheses(images):
    """Made-up hypotheses by name, one caption for each image; `images` is a list of lists of captions."""
    first = [captions[0] for captions in images]
    count = len(first)
    return {
        "first": first,
        "next": first[1:] + first[:1],
        "backwards": [" ".join(reversed(caption.split(" "))) for caption in first],
        "turned": [" ".join(words[i % len(words):] + words[:i % len(words)])
                   for i, words in enumerate(caption.split(" ") for caption in first)],
        "empty": ["" for _ in first],
        "third_empty": ["" if i % 3 == 0 else caption for i, caption in enumerate(first)],
        "one_word": [caption.split(" ")[0] for caption in first],
        "four_times": [" ".join([caption] * 4) for caption in first],
        "long": [" ".join(first[(i + k) % count] for k in range(20)) for i in range(count)],
        "reference": [captions[-1] for captions in images],
    }


def tokenized(captions):
    """pycocoevalcap's own way from lists of captions to lists of joined tokens."""
    given = {i: [{"caption": caption} for caption in of] for i, of in enumerate(captions)}
    return list(ptb.PTBTokenizer().tokenize(given).values())


def weighted(scores):
    return sum(float(score) * (i * 7919 % 101 + 1) for i, score in enumerate(scores))


def scores(references, hypothesis, with_meteor, whole):
    """All metrics of joined tokens: the corpus's, and the images' whole or as weighted sums."""
    gts = dict(enumerate(references))
    res = {i: [caption] for i, caption in enumerate(hypothesis)}
    bleu, bleus = Bleu(4).compute_score(gts, res, verbose=0)
    found = {f"Bleu_{n + 1}": (bleu[n], bleus[n]) for n in range(4)}
    found["ROUGE_L"] = Rouge().compute_score(gts, res)
    found["CIDEr"] = Cider().compute_score(gts, res)
    if with_meteor:
        found["METEOR"] = Meteor().compute_score(gts, res)
    images = (lambda of: [float(score) for score in of]) if whole else weighted
    return {"corpus": {name: float(of[0]) for name, of in found.items()},
            "images": {name: images(of[1]) for name, of in found.items()}}


def write(name, value):
    path = HERE / name
    path.write_text(json.dumps({"pycocoevalcap": importlib.metadata.version("pycocoevalcap"), **value},
                               ensure_ascii=False, indent=1) + "\n")
    print(path, path.stat().st_size)


def hard():
    lines = (HERE / "hard.txt").read_bytes().decode().split("\n")[:-1]
    tokens = tokens_of_lines(lines)
    size = REFERENCES + 1
    images = [lines[i:i + size] for i in range(0, len(lines) - size + 1, size)]
    made = hypotheses(images)
    ours = [line for caption in made.values() for line in caption]
    of = dict(zip(ours, tokens_of_lines(ours))) | dict(zip(lines, tokens))
    references = [[of[caption] for caption in captions[1:]] for captions in images]
    write("hard.json", {"tokens": tokens, "scores": {
        name: scores(references, [of[caption] for caption in captions], name == "first", True)
        for name, captions in made.items()}})


def outside(name, images):
    references = tokenized([captions[1:] for captions in images])
    made = {kind: [one for [one] in tokenized([[caption] for caption in captions])]
            for kind, captions in hypotheses(images).items()}
    all_tokens = tokenized(images)
    digest = "".join(hashlib.sha256(caption.encode()).hexdigest()[:8] for of in all_tokens for caption in of)
    write(name, {"images": len(images), "tokens_sha256_32": digest, "scores": {
        kind: scores(references, captions, kind == "first", False) for kind, captions in made.items()}})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flickr", type=pathlib.Path)
    parser.add_argument("--coco", type=pathlib.Path, nargs="+")
    args = parser.parse_args()
    hard()
    if args.flickr:
        with open(args.flickr, newline="\n") as lines:
            outside("flickr.json", [json.loads(line)["captions"] for line in lines])
    if args.coco:
        by_image = {}
        for path in args.coco:
            for annotation in json.loads(path.read_text())["annotations"]:
                by_image.setdefault(annotation["image_id"], []).append(annotation["caption"])
        outside("coco.json", list(by_image.values()))


main()
