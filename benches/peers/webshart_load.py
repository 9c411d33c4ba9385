#!/usr/bin/env python3
"""webshart under the rules of loader_peers.py: shuffled batches of 256 as contiguous uint8 or normalised float32, all
captions, page cache warm. Samples are read by their number in a permutation, from as many threads as asked for, into reused
batches. Prints one line of JSON.

  webshart_load.py DIR WORKERS      DIR: WebDataset shards of KEY.npy + KEY.json; its indexes are made there at first
"""

import concurrent.futures
import glob
import json
import os
import resource
import sys
import time

import numpy
import webshart

BATCH, BATCHES, SIZE = 256, 14, 224
MEAN = numpy.array([0.48145466, 0.4578275, 0.40821073], numpy.float32).reshape(3, 1, 1) * 255
DEVIATION = numpy.array([0.26862954, 0.26130258, 0.27577711], numpy.float32).reshape(3, 1, 1) * 255


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    folder, workers = sys.argv[1], int(sys.argv[2])
    tars = sorted(glob.glob(f"{folder}/*.tar"))
    if any(not os.path.exists(tar[:-4] + ".json") for tar in tars):
        webshart.MetadataExtractor().extract_metadata(source=folder, destination=folder)
    for path in glob.glob(f"{folder}/*"):
        with open(path, "rb", buffering=0) as file:
            while file.read(1 << 22):
                pass
    begun = time.time()
    loader = webshart.TarDataLoader(webshart.discover_dataset(folder))
    samples = [(shard, place) for shard in range(loader.num_shards) for place in range(len(loader.list_samples_in_shard(shard)))]
    order = numpy.random.default_rng(0).permutation(len(samples))
    ring = [numpy.zeros((BATCH, 3, SIZE, SIZE), numpy.uint8) for _ in range(2 * workers + 2)]
    floats = numpy.zeros((BATCH, 3, SIZE, SIZE), numpy.float32)

    def fill(number):
        out, captions = ring[number % len(ring)], []
        for place, sample in enumerate(order[number * BATCH : (number + 1) * BATCH]):
            entry = loader.load_sample(*samples[sample])
            data = entry.data
            out[place] = numpy.frombuffer(data, numpy.uint8, 3 * SIZE * SIZE, len(data) - 3 * SIZE * SIZE).reshape(3, SIZE, SIZE)
            captions.append(entry.captions)
        return out, captions

    pool = concurrent.futures.ThreadPoolExecutor(workers)
    count = len(order) // BATCH
    ahead = [pool.submit(fill, number) for number in range(min(2 * workers, count))]
    taken = 0

    def batch():
        nonlocal taken
        made = ahead.pop(0).result()
        taken += 1
        if taken + len(ahead) < count:
            ahead.append(pool.submit(fill, taken + len(ahead)))
        return made

    pixels, captions = batch()
    first = time.time() - begun
    assert len(captions) == BATCH and len(captions[0]) == 5, captions[0]
    total = 0.0

    def measured(normalise):
        nonlocal total
        start, work = time.perf_counter(), cpu()
        for _ in range(BATCHES):
            pixels, _ = batch()
            if normalise:
                numpy.copyto(floats, pixels)
                numpy.subtract(floats, MEAN, out=floats)
                numpy.divide(floats, DEVIATION, out=floats)
                pixels = floats
            total += float(pixels.reshape(-1)[::4096].sum(dtype=numpy.float64))
        return BATCH * BATCHES / (time.perf_counter() - start), (cpu() - work) * 1e3 / (BATCH * BATCHES)

    u8, u8_cpu = measured(False)
    f32, f32_cpu = measured(True)
    print(json.dumps({"bench": "load", "peer": f"webshart {webshart.__version__}", "fmt": "raw", "workers": workers, "u8_sps": round(u8, 1),
                      "f32_sps": round(f32, 1), "u8_cpu_ms": round(u8_cpu, 4), "f32_cpu_ms": round(f32_cpu, 4), "ttfb_s": round(first, 3), "sum": total}))
    sys.stdout.flush()
    os._exit(0)


main()
