//! A small data set with everything in it, for the tests of this crate.
#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses its own part; a test may unwrap")]

use std::path::Path;

use shard::{
    ImageFormat, ImageSettings, Key, LeftOut, Manifest, SHORTEST_SIDE, Sample, SampleMeta, SampleOrder,
    ShardWriter, SourceInfo, SplitEntry, npy, place,
};

/// Side of the pictures.
pub(crate) const SIZE: u32 = 8;

/// Every form of a data set's pictures.
pub(crate) fn images() -> [ImageSettings; 4] {
    let images = [ImageSettings::tensor(SIZE), ImageSettings::jpeg(SIZE, 90)];
    let shortest_side =
        |image: &ImageSettings| ImageSettings { resize: SHORTEST_SIDE.to_owned(), ..image.clone() };
    let [tensor, jpeg] = &images;
    [tensor.clone(), jpeg.clone(), shortest_side(tensor), shortest_side(jpeg)]
}

/// The picture's settings: with `shortest-side`, wide, tall and square ones.
fn sized(sample: u64, image: &ImageSettings) -> ImageSettings {
    let longer = image.height + (sample % 4) as u32 * 3;
    match (image.varies(), sample.is_multiple_of(2)) {
        (false, _) => image.clone(),
        (true, true) => image.sized(image.height, longer),
        (true, false) => image.sized(longer, image.width),
    }
}

/// Captions of all kinds of writing.
fn captions(sample: u64) -> Vec<String> {
    let all = ["A red circle.", "ein grüner Kreis", "赤い丸", "two\nlines \"quoted\" \\ ", "عربي", "🦀"];
    (0..=sample % 5).map(|caption| format!("{} {sample}", all[((sample + caption) % 6) as usize])).collect()
}

/// The sample with number `sample` of `split`.
pub(crate) fn sample(split: &str, sample: u64, image: &ImageSettings) -> (SampleMeta, Vec<u8>) {
    let source_id =
        if sample % 4 == 3 { format!("{split}/pic {sample}.jpg") } else { format!("{split}_{sample:06}") };
    let meta = SampleMeta {
        key: Key::from_source_id(&source_id),
        source_id,
        source_row: sample,
        captions: captions(sample),
        original_height: 480 + sample as u32,
        original_width: 640,
        url: sample.is_multiple_of(2).then(|| format!("http://images.invalid/{sample}.jpg")),
        license: sample.is_multiple_of(3).then(|| "CC BY 4.0".to_owned()),
    };
    let image = &sized(sample, image);
    let payload = match image.format {
        ImageFormat::Npy => {
            let mut payload = npy::header(image).to_vec();
            payload.extend((0..image.pixel_bytes() as u64).map(|pixel| (pixel * 7 + sample * 13) as u8));
            payload
        }
        // The format looks into a JPEG for its sides alone; lengths differ so that padding does.
        ImageFormat::Jpg if image.varies() => {
            let mut payload = b"\xff\xd8\xff\xc0\x00\x11\x08".to_vec();
            payload
                .extend([image.height, image.width].into_iter().flat_map(|side| (side as u16).to_be_bytes()));
            payload.extend((0..400 + sample * 37).map(|byte| (byte * 11 + sample) as u8));
            payload
        }
        ImageFormat::Jpg => (0..400 + sample * 37).map(|byte| (byte * 11 + sample) as u8).collect(),
    };
    (meta, payload)
}

/// Writes splits `train` (`train` samples in 3 shards) and `val` (5 samples in 1 shard).
pub(crate) fn write(dir: &Path, image: &ImageSettings, order: SampleOrder, train: u64) -> Manifest {
    let seed = 7;
    let mut splits = Vec::new();
    for (name, samples, shards) in [("train", train, 3u32), ("val", 5, 1)] {
        std::fs::create_dir_all(dir.join(name)).unwrap();
        let mut placed: Vec<(u32, u128, u64)> = (0..samples)
            .map(|number| {
                let h = place::hash128(seed, &sample(name, number, image).0.source_id);
                match order {
                    SampleOrder::Shuffled => (place::shard_of(h, shards), h, number),
                    SampleOrder::Source => {
                        ((number * u64::from(shards) / samples) as u32, number.into(), number)
                    }
                }
            })
            .collect();
        placed.sort_unstable();
        let entries = (0..shards).map(|number| {
            let mut writer = ShardWriter::create(&dir.join(name), number, image).unwrap();
            for &(_, _, row) in placed.iter().filter(|place| place.0 == number) {
                let (meta, payload) = sample(name, row, image);
                writer.append(&Sample { meta: &meta, image: &payload }).unwrap();
            }
            writer.commit().unwrap()
        });
        splits.push(SplitEntry::of(name, entries.collect()));
    }
    splits[0].left_out_counts.insert("not an image".to_owned(), 1);
    splits[0].left_out.push(LeftOut {
        source_id: "train/bad.jpg".to_owned(),
        reason: "not an image".to_owned(),
        detail: "begins with \"<html>\"".to_owned(),
    });
    let mut manifest = Manifest {
        program: "golden".to_owned(),
        source: SourceInfo { name: "test".to_owned(), revision: "1".to_owned() },
        seed,
        order,
        ..Manifest::of(image.clone(), splits)
    };
    manifest.write(dir).unwrap();
    manifest
}

/// Copies a folder of folders of files.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// All files below a folder, relative and sorted.
pub(crate) fn files(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            names.extend(files(&entry.path()).into_iter().map(|file| format!("{name}/{file}")));
        } else {
            names.push(name);
        }
    }
    names.sort();
    names
}
