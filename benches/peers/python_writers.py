"""What others write: JPEGs of a list → 224×224, in several processes. Prints images, and wall and CPU seconds
without imports.

  python_writers.py torchvision|tjcv2|img2dataset LIST DEST PROCESSES

torchvision: decode_jpeg, crop, antialiased bicubic, webdataset's ShardWriter. tjcv2: libjpeg-turbo scaled by its cosine
transform and OpenCV's INTER_AREA into one blob a process. img2dataset: its own downloader over file:// to webdataset
with JPEGs of quality 90.
"""

import json
import multiprocessing
import os
import sys
import time

SIZE = 224


def torchvision_part(part, paths, dest):
    import torch
    import webdataset
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    torch.set_num_threads(1)
    with webdataset.ShardWriter(f"{dest}/{part:02d}-%05d.tar", maxsize=64 << 20, maxcount=10**9, verbose=0) as writer:
        for number, path in paths:
            with open(path, "rb") as file:
                data = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
            image = decode_jpeg(data, mode=ImageReadMode.RGB)
            side = min(image.shape[1:])
            top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
            image = image[:, top : top + side, left : left + side]
            image = resize(image, [SIZE, SIZE], interpolation=InterpolationMode.BICUBIC, antialias=True)
            writer.write({"__key__": f"{number:06d}", "npy": image.numpy(), "json": {"captions": [path]}})


def tjcv2_part(part, paths, dest):
    import cv2
    import numpy
    import simplejpeg

    cv2.setNumThreads(1)
    with open(f"{dest}/{part:02d}.bin", "wb", buffering=1 << 20) as blob, open(f"{dest}/{part:02d}.json", "w") as names:
        for number, path in paths:
            with open(path, "rb") as file:
                data = file.read()
            image = simplejpeg.decode_jpeg(
                data, "RGB", fastdct=True, fastupsample=True, min_height=SIZE, min_width=SIZE, min_factor=1
            )
            side = min(image.shape[:2])
            top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
            image = cv2.resize(image[top : top + side, left : left + side], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
            blob.write(numpy.ascontiguousarray(image.transpose(2, 0, 1)).data)
            names.write(json.dumps([number, [path]]) + "\n")


def cpu():
    """User and system seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def img2dataset(paths, dest, processes):
    import contextlib

    import pandas
    from img2dataset import download

    rows = [{"url": "file://" + path, "caption": path, "number": number} for number, path in paths]
    pandas.DataFrame(rows).to_parquet(dest + ".parquet")
    begun, used = time.time(), cpu()
    with contextlib.redirect_stdout(sys.stderr):
        download(
            url_list=dest + ".parquet", input_format="parquet", url_col="url", caption_col="caption",
            save_additional_columns=["number"], output_folder=dest, output_format="webdataset", image_size=SIZE,
            resize_mode="center_crop", encode_quality=90, encode_format="jpg", processes_count=processes,
            thread_count=4, number_sample_per_shard=max(1, len(paths) // 8), disallowed_header_directives=[],
            enable_wandb=False, compute_hash=None, extract_exif=False,
        )
    return time.time() - begun, cpu() - used


def main():
    peer, list_path, dest, processes = *sys.argv[1:4], int(sys.argv[4])
    with open(list_path) as file:
        paths = list(enumerate(file.read().split("\n")[:-1]))
    if peer == "img2dataset":
        wall, used = img2dataset(paths, dest, processes)
    else:
        if peer == "torchvision":
            part = torchvision_part
            import torch, torchvision, webdataset  # noqa: E401, F401  (before the clock starts, and shared by the fork)
        else:
            part = tjcv2_part
            import cv2, simplejpeg  # noqa: E401, F401
        context = multiprocessing.get_context("fork")
        begun, before = time.time(), cpu()
        workers = [
            context.Process(target=part, args=(k, paths[k::processes], dest)) for k in range(processes)
        ]
        [worker.start() for worker in workers]
        [worker.join() for worker in workers]
        wall, used = time.time() - begun, cpu() - before
        assert all(worker.exitcode == 0 for worker in workers)
    print(json.dumps({"n": len(paths), "wall_s": round(wall, 4), "cpu_s": round(used, 4)}))


if __name__ == "__main__":
    main()
