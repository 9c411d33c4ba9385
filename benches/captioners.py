#!/usr/bin/env python3
"""What do captioners learn, and what helps them? Each row trains a captioner by the commands that a user types, has it
describe held-out pictures, and measures what it wrote.

  benches/captioners.py --work DIR [--lm FILE.gguf] [--photos DIR] [--list] [TABLE[/ROW] ...]

On `shapes` `prep judge` counts what part of the captions' claims is true of the scenes; elsewhere, scores alone. FILE is
SmolLM2-135M in GGUF, for lora and prefix_lm; the folder of --photos has images and captions.jsonl. Data sets, towers and
runs are kept in DIR and used again; a row that is in the results is measured again only where it is named. Results go
to benches/results/captioners.{md,json}, row by row. Needs `cargo build --release -p prep -p trainer`.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results"
KINDS = ["colour", "shape", "texture", "size", "place", "relation", "count", "ground", "pattern"]

DATA = {  # name: arguments of prep
    "shapes": ["--dataset", "shapes", "--limit", "100000", "--val", "1000", "--size", "128"],
    "fresh": ["--dataset", "shapes", "--limit", "1000", "--val", "1", "--seed", "1", "--size", "128"],
    "photos": ["--dataset", "folder", "--from", "{photos}", "--val", "100", "--size", "128"],
}
PHOTOS = ["tokenizer.vocab_size=1024"]
TOWERS = {  # name: (data set, configuration, keys)
    "clip_shapes": ("shapes", "clip_shapes", []),
    "clip_photos": ("photos", "clip_shapes", [*PHOTOS, "optim.steps=400", "optim.lr=1e-3", "optim.weight_decay=0.2", "train.eval_every=50",
                                              "data.augment.least_area=0.5", "data.augment.flip=0.5"]),
}


class Row:
    """A captioner to train, or, with `of`, another way to write with one that a row `of` (table, row) trained; or, with `data`, pictures
    of another data set and split."""

    def __init__(self, config=None, *keys, of=None, write=(), n=None, data=None):
        self.config, self.keys, self.of, self.write, self.n, self.data = config, list(keys), of, list(write), n, data


def seeds(label, config, *keys, write=()):
    return {f"{label}, seed {seed}": Row(config, *keys, f"train.seed={seed}", write=write) for seed in range(3)}


def ways(of, *labels):
    """Rows that write with one captioner by other keys of [decode]."""
    return {label: Row(of=of, write=[f"decode.{key}" for key in label.split(", ")]) for label in labels}


WIDE = ["caption.decoder.width=256", "caption.decoder.heads=4", "optim.lr=1e-3"]
SHORT = ["train.eval_every=0", "train.eval_limit=20"]
VECTOR = [*SHORT, "caption.features=vector", "caption.context_length=32"]
SIZES = [*VECTOR, *WIDE, "caption.mapper.tokens=8", "optim.steps=400"]
LORA = [*VECTOR, "caption.mapper.tokens=4", "caption.lm.dropout=0", "optim.steps=150"]
DIFFUSION = [*VECTOR, "caption.mapper.tokens=4", "caption.diffusion.width=128", "caption.diffusion.layers=3", "caption.diffusion.heads=2",
             "caption.diffusion.self_conditioning=false", "data.batch_size=32", "optim.steps=600"]
TABLES = {  # name: (title, data set, tower, rows)
    "shapes": ("The families on `shapes`", "shapes", "clip_shapes", {
        "prefix": Row("caption_prefix", *WIDE, *SHORT, "optim.steps=3000", "caption.skip_blocks=0"),
        "prefix, other scenes of seen combinations": Row(of=("shapes", "prefix"), data=("fresh", "train")),
        "diffusion": Row("caption_diffusion", *SHORT, "optim.steps=1500", "data.batch_size=32", "caption.skip_blocks=0"),
        "diffusion, longer": Row("caption_diffusion", *SHORT, "optim.steps=3000", "optim.lr=2e-3", "data.batch_size=32", "caption.skip_blocks=0"),
        "diffusion, longer, guidance 3": Row(of=("shapes", "diffusion, longer"), write=["decode.guidance=3.0"]),
        "lora": Row("caption_lora", *SHORT, "optim.steps=300", "data.batch_size=16", "caption.skip_blocks=0"),
        "lora, longer": Row("caption_lora", *SHORT, "optim.steps=600", "data.batch_size=16", "caption.skip_blocks=0"),
        "prefix_lm": Row("caption_prefix_lm", *SHORT, "optim.steps=300", "caption.skip_blocks=0"),
    }),
    "reranking": ("Re-ranking: five captions drawn by the prefix captioner, of `shapes`", "shapes", "clip_shapes", {
        f"decode.temperature={heat}, decode.seed={seed}":
            Row(of=("shapes", "prefix"), write=["decode.method=sample", f"decode.temperature={heat}", f"decode.seed={seed}"], n=5)
        for heat in (0.5, 1.0) for seed in range(3)
    }),
    "photos": ("The families on 600 photos, 100 held out", "photos", "clip_photos", {
        "prefix": Row("caption_prefix", *WIDE, *PHOTOS, "optim.steps=400", "train.eval_every=100", "caption.skip_blocks=0"),
        "diffusion": Row("caption_diffusion", *PHOTOS, "optim.steps=800", "data.batch_size=32", "train.eval_every=200",
                         "caption.skip_blocks=0"),
        "lora": Row("caption_lora", "optim.steps=100", "data.batch_size=16", "train.eval_every=50", "caption.skip_blocks=0"),
        "prefix_lm": Row("caption_prefix_lm", "optim.steps=100", "train.eval_every=50", "caption.skip_blocks=0"),
    }),
    "repetition": ("What stops repetition: ways to write with the prefix captioner of photos", "photos", "clip_photos", ways(
        ("photos", "prefix"), "method=greedy", "repetition_penalty=1.2", "no_repeat_ngram=3", "method=beam", "method=beam, length_penalty=0",
        "method=sample", "method=sample, temperature=0.5", "method=sample, top_p=0.9", "method=sample, top_k=10")),
    "targets": ("LoRA in attention alone, and in all layers", "shapes", "clip_shapes", {
        **seeds("attention, rank 8", "caption_lora", *LORA, "caption.lm.targets=attention", "caption.lm.rank=8"),
        **seeds("attention, rank 21", "caption_lora", *LORA, "caption.lm.targets=attention", "caption.lm.rank=21"),
        **seeds("all, rank 8", "caption_lora", *LORA, "caption.lm.targets=all", "caption.lm.rank=8"),
    }),
    "condition": ("A diffusion's picture, by `concat` and by `add`", "shapes", "clip_shapes", {
        **seeds("concat", "caption_diffusion", *DIFFUSION, "caption.diffusion.condition=concat"),
        **seeds("add", "caption_diffusion", *DIFFUSION, "caption.diffusion.condition=add"),
    }),
    "prefix": ("A prefix captioner's sizes, one changed at a time", "shapes", "clip_shapes", {
        "width 256, 3 layers, 4 heads": Row("caption_prefix", *SIZES),
        **{key: Row("caption_prefix", *SIZES, *key.split(", ")) for key in (
            "caption.decoder.width=512", "caption.decoder.heads=8", "caption.decoder.layers=6", "caption.decoder.tied=false",
            "caption.context_length=42", "caption.context_length=100", "optim.weight_decay=0.5", "optim.schedule=linear",
            "optim.schedule=exponential", "optim.warmup=exponential", "tokenizer.vocab_size=2048", "caption.mapper.tokens=2",
            "caption.mapper.kind=transformer", "caption.features=patches, caption.skip_blocks=0")},
        **ways(("prefix", "width 256, 3 layers, 4 heads"), "method=sample, temperature=0.5", "method=sample, temperature=1.0"),
    }),
    "rounding": ("A diffusion's losses, embeddings and noise", "shapes", "clip_shapes", {
        key: Row("caption_diffusion", *DIFFUSION, *[f"caption.diffusion.{part}" for part in key.split(", ")]) for key in (
            "rounding_weight=0.1", "rounding_weight=0.5", "rounding_weight=1.0", "rounding_ratio=0.5", "rounding_of=sample",
            "embeddings=frozen", "predicts=previous", "loss=l1", "first_weight=0.0", "self_conditioning=true", "embed_dim=64",
            "embed_dim=64, noise_factor=4.0", "noise_factor=2.0", "schedule=cosine")
    }),
    "rate": ("A diffusion's learning rate and its course", "shapes", "clip_shapes", {
        f"optim.lr={rate}, optim.schedule={course}": Row("caption_diffusion", *DIFFUSION, f"optim.lr={rate}", f"optim.schedule={course}")
        for rate in ("3e-4", "1e-3", "3e-3") for course in ("linear", "exponential")
    }),
    "guidance": ("A diffusion's guidance and its estimates", "shapes", "clip_shapes", {
        f"decode.guidance={scale}, decode.diffusion_steps={steps}":
            Row(of=("condition", "concat, seed 0"), write=[f"decode.guidance={scale}", f"decode.diffusion_steps={steps}"])
        for scale, steps in ((0.0, 10), (1.0, 10), (1.5, 10), (2.0, 10), (4.0, 10), (1.0, 1), (1.0, 3), (1.0, 50))
    }),
}
NOTES = {  # name of a table: what it shows
    "shapes": "What limits them: prefix, it seems, the tower it sees by: the textures it tells are true no more often than in captions of other "
              "scenes, of the patterns half are, and it is no better at combinations that training showed. The others, the time: lora and prefix_lm "
              "had seen 4,800 captions and diffusion 48,000 where prefix had seen 192,000. lora has sentences from the first and colours soon, "
              "shapes and grounds with twice as many steps, which raise its claims from 57 to 68 %; a diffusion has words right before their order, and "
              "twice as many steps and more guidance raise its claims from 53 to 65 %.",
    "reranking": "CLIP's favourite is nearer to its picture, and to what people wrote, than the first of the five or their mean.",
    "targets": "Attention alone loses in the loss, at equal rank and at equal learned parameters (rank 21), in each of the three seeds; in what its "
               "captions claim it does not, after 1,200 captions seen.",
    "condition": "`add` does not lose: claims and scores of both lie within each other's spread over seeds, and its sequence is shorter. Only the "
                 "loss is lower by `concat`, in each of the three seeds, by 0.5 to 1.6 %.",
    "photos": "600 photos teach neither a CLIP nor a captioner from nothing. lora and prefix_lm, which know English, write whole sentences, nearly the "
              "same of each photo (a man in a shirt); prefix writes them of other pictures, and only its are nearer to their picture than chance "
              "would have them; diffusion has no sentences yet.",
    "repetition": "A penalty on tokens that were written stops most of it and costs nothing; beam search makes it worse; drawing stops it at a "
                  "third of the CIDEr.",
    "prefix": "After 400 steps sizes, decay and schedules hardly matter: 74 to 76 % of claims are true, CIDEr is within 0.07 (one seed). What the decoder "
              "is given does: patches raise claims to 80 %, two prefix tokens for eight lower them to 73, a transformer as mapper to 70. Drawn captions "
              "are less true than greedy ones. Scenes have 509 tokens in all, and no caption is longer than 42: a larger vocabulary and 100 places "
              "change nothing.",
    "rounding": "One seed: others moved CIDEr by 0.04 and claims by seven of a hundred, so that most of these rows do not differ. What does: an "
                "earlier step to predict is hardly learned (it is nearly what was given), embeddings of 64 numbers under the usual noise are "
                "too easy to tell apart and leave captions without an end, and stronger noise gives them the truest claims, not the best sentences. "
                "Frozen embeddings have a lower CIDEr. Without the loss from x_1 nothing is lost, and a pass of the network is saved. Losses are of "
                "different things from row to row.",
    "rate": "So few steps want a high rate: loss falls from 1.13 over 0.91 to 0.77, CIDEr rises from 0.15 over 0.34 to 0.40, while claims are no truer "
            "beyond 1e-3. The linear course has the lower loss at each rate.",
    "guidance": "Guidance is what makes claims true: 37 % without it (1.0), 49 % at 2, 54 % at 4, where bigrams repeat and CIDEr falls from its best, "
                "0.36 at 2. At 0, where the picture is not seen, claims are as true of other scenes. Three estimates have nearly the scores of fifty; one "
                "gives words without an order.",
}


class Failed(Exception):
    pass


def run(command, work):
    """Runs a command in `work` and gives its output and seconds; its errors end this program."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout, time.perf_counter() - start


def program(name):
    return str(ROOT / "target/release" / name)


def sets(keys):
    return [part for key in keys for part in ("--set", key)]


def config(name):
    return str(ROOT / "configs" / f"{name}.toml")


def made(args, name):
    """The folder of a data set, made where it is not there."""
    if not (args.work / "data" / name).exists():
        arguments = [part.format(photos=args.photos) for part in DATA[name]]
        run([program("prep"), *arguments, "--out", f"data/{name}"], args.work)
    return f"data/{name}"


def trained(args, name, data, configuration, keys):
    """Trains a run, or goes on with one that was stopped; gives its seconds, which the run keeps; none of a run that was stopped between."""
    done = args.work / "runs" / name / "seconds"
    if not done.exists():
        resume = ["--resume"] if (args.work / "runs" / name / "config.toml").exists() else []
        _, seconds = run([program("trainer"), "train", "--config", config(configuration), "--data", data, "--run", name,
                          *sets(keys), *resume], args.work)
        done.write_text("resumed" if resume else f"{seconds:.1f}")
    kept = done.read_text()
    return None if kept == "resumed" else float(kept)


def tower(args, name, row):
    """The run of a tower, trained, with what a captioner sees by it beside the shards."""
    data, configuration, keys = TOWERS[name]
    where = made(args, data)
    trained(args, name, where, configuration, keys)
    keys = dict(key.split("=", 1) for key in row.keys)
    skip, features = keys.get("caption.skip_blocks", "1"), keys.get("caption.features", "patches")
    stored = args.work / "runs" / name / f"stored-{features}-{skip}"
    if not stored.exists():
        run([program("trainer"), "embed", "--run", name, "--data", where, "--side-table", "--features", features, "--skip-blocks", skip], args.work)
        stored.write_text("")
    return where


def tower_entry(args, name):
    """What a tower comes to."""
    data, configuration, keys = TOWERS[name]
    told = json.loads(run([program("trainer"), "eval", "--run", name, "--data", f"data/{data}", "--json"], args.work)[0])
    return {"configuration": configuration, "keys": keys, "seconds": trained(args, name, f"data/{data}", configuration, keys), "step": told["step"],
            "images": told["images"], "recall": [told[side]["r1"] for side in ("image_to_text", "text_to_image")], "commit": commit(),
            "date": str(datetime.date.today())}


def named(table, row):
    """The folder of a row's run."""
    return f"{table}-{''.join(c if c.isalnum() or c in '._' else '-' for c in row)}"


def captioner(args, table, row):
    """The run of a row, trained: its name and seconds."""
    _, data, image_tower, rows = TABLES[table]
    found = rows[row]
    if found.of:
        return captioner(args, *found.of)
    where = tower(args, image_tower, found)
    keys = [*found.keys, f"caption.tower=runs/{image_tower}"]
    if found.config in ("caption_lora", "caption_prefix_lm"):
        keys.append(f"caption.lm.source={args.lm}")
    name = named(table, row)
    return name, trained(args, name, where, found.config, keys)


def pictures(config):
    """Held-out pictures that are described: a language model of 135 M parameters writes for a second at each."""
    return ["--limit", "100"] if config in ("caption_lora", "caption_prefix_lm") else []


def measured(args, table, row):
    """What a row comes to."""
    _, data, image_tower, rows = TABLES[table]
    found = rows[row]
    name, seconds = captioner(args, table, row)
    data, split = found.data or (data, "val")
    where, write = made(args, data), sets(found.write)
    limit = pictures((found if not found.of else TABLES[found.of[0]][3][found.of[1]]).config)
    written = f"runs/{name}/{named(table, row)}"
    captions = f"{written}.json"
    kept = ["--results", captions, "--html", f"{written}.html"]
    many = ["--n", str(found.n)] if found.n else []
    words = ["eval", "--run", name, "--data", where, "--split", split, *write, *limit, *many, *kept, "--json"]
    told = json.loads(run([program("trainer"), *words], args.work)[0])
    entry = {"keys": found.keys + found.write, "seconds": seconds, "images": told["images"], "loss": told["loss"], "captions": told["captions"],
             "step": told["step"], "commit": commit(), "date": str(datetime.date.today()), "load": os.getloadavg()[0]}
    if found.n:
        entry["reranking"] = told["reranking"]
    if data != "photos":
        entry["judged"] = json.loads(run([program("prep"), "judge", where, "--split", split, "--captions", captions, "--json"], args.work)[0])
        del entry["judged"]["dir"]  # of the machine
    return entry


def commit():
    """The commit, marked where files other than results differ from it."""
    def git(*words):
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)benches/results")
    return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")


def seconds_text(seconds):
    return "resumed" if seconds is None else f"{seconds:.0f}"


def share(judged, kind=None):
    part = judged if kind is None else judged["kinds"].get(kind)
    return "-" if not part or part["share"] is None else f"{100 * part['share']:.0f}"


def number(value):
    return "-" if value is None else f"{value:.3f}"


def reranking_text(entries, rows):
    kinds = ["the first", "the mean", "CLIP's favourite"]
    lines = ["| | " + " | ".join(f"{score}: {kind}" for score in ("image proximity", "CIDEr") for kind in kinds) + " |", "|" + " --- |" * 7]
    for row in rows:
        if row in entries:
            scores = [number(entries[row]["reranking"][kind][score]) for score in ("image_proximity", "cider") for kind in kinds]
            lines.append(f"| {row} | " + " | ".join(scores) + " |")
    return lines


def table_text(name, entries):
    title, data, _, rows = TABLES[name]
    if name == "reranking":
        return [f"## {title}", "", *reranking_text(entries, rows), ""]
    judged = data != "photos"
    head = ["", *(["claims true, %", "of other scenes, %"] if judged else []), "CIDEr", "BLEU-4", "image proximity", "text proximity",
            "repeated bigrams, %", "distinct-1, %", "no end, %", "loss", "pictures", "steps", "training, s", *(f"{kind}, %" for kind in KINDS if judged)]
    lines = [f"## {title}", "", "| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        if row not in entries:
            continue
        entry = entries[row]
        caption = entry["captions"]
        cells = [row]
        if judged:
            cells += [share(entry["judged"]["judged"]), share(entry["judged"]["shifted"])]
        cells += [*(number(caption.get(key)) for key in ("cider", "bleu_4", "image_proximity", "text_proximity")),
                  *(f"{100 * caption[key]:.1f}" for key in ("repeated_bigrams", "distinct_1", "without_end")), number(entry["loss"]),
                  str(entry["images"]), str(entry["step"]), "" if rows[row].of else seconds_text(entry["seconds"])]
        cells += [share(entry["judged"]["judged"], kind) for kind in KINDS if judged]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def write(results):
    (RESULTS / "captioners.json").write_text(json.dumps(results, indent=1) + "\n")
    lines = ["# What captioners learn", "", "Of held-out pictures. Scenes have objects that training never showed (a shape, colour and "
             "texture together); claims are those of captions that `prep judge` reads, beside the same captions judged by other scenes.", ""]
    lines += ["| tower | pictures | recall@1, image → text, text → image | steps | training, s |", "| --- | --- | --- | --- | --- |"]
    for name, found in results.get("towers", {}).items():
        recall = ", ".join(f"{100 * share:.1f} %" for share in found["recall"])
        lines.append(f"| {name} (`configs/{found['configuration']}.toml`) | {TOWERS[name][0]} | {recall} of {found['images']} | {found['step']} "
                     f"| {seconds_text(found['seconds'])} |")
    lines.append("")
    for name in TABLES:
        if name in results:
            lines += [*table_text(name, results[name]), *([NOTES[name], ""] if name in NOTES else [])]
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    lines += [f"- machine: {cpu}, {os.cpu_count()} threads", "- commit, date, keys and, as its pictures were described, load of each row: `captioners.json`; other work ran beside some trainings, "
              "and those before 297b2ad were without AVX-512: their seconds are no measure of speed",
              "- claims of all rows but those of re-ranking are judged by `prep` of d4b1153",
              "- command: `benches/captioners.py --work DIR --lm SmolLM2-135M-Instruct.Q4_1.gguf --photos DIR`", ""]
    (RESULTS / "captioners.md").write_text("\n".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--lm", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--photos", type=pathlib.Path)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("tables", nargs="*")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    kept = RESULTS / "captioners.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    asked = args.tables or list(TABLES)
    for name, (_, _, image_tower, rows) in TABLES.items():
        for row in rows:
            is_named = f"{name}/{row}" in asked
            if not is_named and (name not in asked or row in results.get(name, {})):
                continue
            if args.list:
                print(f"{name}/{row}")
                continue
            try:
                entry = measured(args, name, row)
                if image_tower not in results.get("towers", {}):
                    results.setdefault("towers", {})[image_tower] = tower_entry(args, image_tower)
            except Failed as error:
                print(f"{name}/{row}: {error}", flush=True)
                continue
            results.setdefault(name, {})[row] = entry
            write(results)
            told = entry.get("judged", {}).get("judged", {}).get("share")
            print(f"{name}/{row}: {seconds_text(entry['seconds'])} s, CIDEr {entry['captions']['cider']:.3f}, true {told}", flush=True)


if __name__ == "__main__":
    main()
