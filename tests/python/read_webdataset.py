"""Reads a prepared split with webdataset and holds it against what the test expects.

usage: read_webdataset.py SPLIT_DIR EXPECTED_DIR

EXPECTED_DIR has samples.json: {key: {"captions": [...], "height": H, "width": W}}, and for each key the pixels that
the project itself reads: KEY.pixels, uint8, planes for npy and rows for jpg. Exits 0 after printing one line.
"""

import glob
import io
import json
import os
import sys

import numpy
import PIL.Image
import webdataset

split_dir, expected_dir = sys.argv[1:]
with open(os.path.join(expected_dir, "samples.json"), encoding="utf-8") as file:
    expected = json.load(file)
shards = sorted(glob.glob(os.path.join(split_dir, "shard-*.tar")))
assert shards, "no shards"

seen = set()
for sample in webdataset.WebDataset(shards, shardshuffle=False, empty_check=False):
    key = sample["__key__"]
    assert key not in seen, f"{key} came twice"
    seen.add(key)
    due = expected[key]
    meta = json.loads(sample["json"])
    assert meta["captions"] == due["captions"], (key, meta["captions"], due["captions"])
    with open(os.path.join(expected_dir, key + ".pixels"), "rb") as file:
        pixels = numpy.frombuffer(file.read(), dtype=numpy.uint8)
    if "npy" in sample:
        array = numpy.load(io.BytesIO(sample["npy"]))
        assert array.dtype == numpy.uint8 and array.flags["C_CONTIGUOUS"], (key, array.dtype)
        assert array.shape == (3, due["height"], due["width"]), (key, array.shape)
        assert (array == pixels.reshape(array.shape)).all(), f"{key}: other pixels"
    else:
        picture = PIL.Image.open(io.BytesIO(sample["jpg"]))
        assert picture.mode == "RGB" and picture.size == (due["width"], due["height"]), (key, picture)
        array = numpy.asarray(picture).astype(int)
        difference = abs(array - pixels.reshape(array.shape).astype(int))
        # Two decoders round differently, by a level or so.
        assert difference.max() <= 6 and difference.mean() < 1.0, (key, difference.max(), difference.mean())

assert seen == set(expected), f"{len(seen)} of {len(expected)} keys"
print(f"{len(seen)} samples of {len(shards)} shards are as expected")
