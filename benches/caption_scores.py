#!/usr/bin/env python3
"""How long does scoring captions take beside pycocoevalcap, in one run on the same files?

  benches/caption_scores.py --python PYTHON [--images 40000] [--rounds 5] [--peer-rounds 3]

PYTHON is one with pycocoevalcap 1.2, and Java is installed for its tokenizer. Captions are generated: sentences of a few
patterns over 6,000 made-up words, drawn by 1/rank, with the marks and contractions that captions have; 5 references and one
hypothesis an image. Both programs read the same two JSON files, tokenise, and compute BLEU-1..4, ROUGE-L and CIDEr; METEOR and
SPICE are in neither. Rounds alternate while both have rounds left. Times are of the work inside the process, from the
captions in memory to the last score, and of the whole process. The scores of both are compared. Results go to
benches/results/caption-scores.{md,json}. Needs `cargo build --release -p cocoeval --example score`.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import random
import statistics
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
NAMES = ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr"]
PEER = """
import contextlib, io, json, sys, time
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.cider.cider import Cider
references, hypotheses = (json.load(open(path)) for path in sys.argv[1:3])
gts, res = {}, {}
for one in references["annotations"]: gts.setdefault(one["image_id"], []).append(one)
for one in hypotheses: res[one["image_id"]] = [one]
start = time.perf_counter()
gts, res = PTBTokenizer().tokenize(gts), PTBTokenizer().tokenize(res)
tokenize = time.perf_counter() - start
bleu, _ = Bleu(4).compute_score(gts, res, verbose=0)
scores = dict(zip(["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4"], bleu))
scores["ROUGE_L"] = float(Rouge().compute_score(gts, res)[0])
scores["CIDEr"] = float(Cider().compute_score(gts, res)[0])
print(json.dumps({"scores": scores, "seconds": {"tokenize": tokenize, "evaluate": time.perf_counter() - start}}))
"""


def captions(seed):
    """An endless stream of made-up captions."""
    draw = random.Random(seed)
    syllables = [a + b for a in "b d f g k l m n p r s t v".split() for b in "a e i o u an er on".split()]
    words = ["".join(draw.choice(syllables) for _ in range(draw.randint(1, 3))) for _ in range(6000)]
    weights = [1 / (rank + 10) for rank in range(len(words))]
    kinds = ["{0} {1} {2} in the {3} .", "A {0} is {1} a {2}, {3} and {4}.", "two {0}s {1} on top of a {2} {3}",
             "There's a {0}'s {1} that can't {2} near the {3} - {4}", 'A {0} sign reads "{1} {2}" above 2 {3}s',
             "An 8-year-old {0} ({1}) with a {2} {3} at 5 p.m.", "a {0} {1} {2} {3} {4} next to a {0}"]
    while True:
        drawn = iter(draw.choices(words, weights, k=50_000))
        for five in zip(drawn, drawn, drawn, drawn, drawn):
            yield draw.choice(kinds).format(*five)


def write_files(folder, images):
    stream = captions(7)
    references = {"images": [{"id": i} for i in range(images)],
                  "annotations": [{"image_id": i, "caption": next(stream)} for i in range(images) for _ in range(5)]}
    paths = folder / "references.json", folder / "hypotheses.json"
    paths[0].write_text(json.dumps(references))
    # A hypothesis shares words with its references: half of it is the first one's.
    hypotheses = []
    for i in range(images):
        words = references["annotations"][5 * i]["caption"].split(" ")
        hypotheses.append({"image_id": i, "caption": " ".join(words[:len(words) // 2] + next(stream).split(" ")[-5:])})
    paths[1].write_text(json.dumps(hypotheses))
    return [str(path) for path in paths]


def run(command, threads):
    env = dict(os.environ, RAYON_NUM_THREADS=str(threads))
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=3600)
    if done.returncode:
        raise SystemExit(f"{command[0]}: {done.stderr.strip()[-400:]}")
    found = json.loads(done.stdout[done.stdout.index("{"):])
    return {"process_s": time.perf_counter() - start, "tokenize_s": found["seconds"]["tokenize"],
            "evaluate_s": found["seconds"]["evaluate"], "scores": {name: found["scores"][name] for name in NAMES}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="python3")
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer-rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    rounds = {"cocoeval": [], "cocoeval, 1 thread": [], "pycocoevalcap 1.2": []}
    score = str(ROOT / "target/release/examples/score")
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(pathlib.Path(folder), args.images)
        size = sum(os.path.getsize(path) for path in files)
        for number in range(max(args.rounds, args.peer_rounds)):
            if number < args.rounds:
                rounds["cocoeval"].append(run([score, *files, "--summary"], args.threads))
                rounds["cocoeval, 1 thread"].append(run([score, *files, "--summary"], 1))
            if number < args.peer_rounds:
                rounds["pycocoevalcap 1.2"].append(run([args.python, "-c", PEER, *files], args.threads))
            print(number, {name: round(of[-1]["evaluate_s"], 2) for name, of in rounds.items() if of}, flush=True)
    report(args, rounds, size)


def report(args, rounds, size):
    of = lambda name, key: statistics.median(one[key] for one in rounds[name])
    ours, peer = rounds["cocoeval"][0]["scores"], rounds["pycocoevalcap 1.2"][0]["scores"]
    greatest = max(abs(ours[name] - peer[name]) for name in NAMES)
    assert greatest < 1e-9, (ours, peer)
    peer_s = of("pycocoevalcap 1.2", "evaluate_s")
    rows = [f"| {name} | {of(name, 'tokenize_s'):.2f} | {of(name, 'evaluate_s') - of(name, 'tokenize_s'):.2f} "
            f"| {of(name, 'evaluate_s'):.2f} | {peer_s / of(name, 'evaluate_s'):.0f} | {of(name, 'process_s'):.2f} |"
            for name in rounds]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    cpu = next((line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())
    text = f"""# Caption scores beside pycocoevalcap's

{args.images:,} images with 5 references and one hypothesis each ({size / 2**20:.0f} MiB of JSON, generated): seconds to tokenise and to compute BLEU-1..4, ROUGE-L and CIDEr, from captions in memory; and of the whole process, reading the files included. Medians of {args.rounds} rounds, of pycocoevalcap {args.peer_rounds}, in turns. The corpus scores differ by at most {greatest:.0e}.

| program | tokenise, s | metrics, s | both, s | times as fast | process, s |
| --- | --- | --- | --- | --- | --- |
""" + "\n".join(rows) + f"""

- machine: {cpu}, {args.threads} threads of {os.cpu_count()}, load {os.getloadavg()[0]:.2f} at the end
- date: {datetime.date.today()}, commit: {commit}
- command: `benches/caption_scores.py --images {args.images} --rounds {args.rounds} --peer-rounds {args.peer_rounds} --threads {args.threads}`
"""
    (HERE / "results/caption-scores.md").write_text(text)
    (HERE / "results/caption-scores.json").write_text(json.dumps({"rounds": rounds, "commit": commit, "cpu": cpu}, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
