//! Changed pictures depend on the data, the settings and (seed, epoch, sample), and on nothing else.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::collections::BTreeMap;

use loader::{
    Augment, Batch, CLIP_NORMALIZE, ColorJitter, Loader, LoaderBuilder, NO_NORMALIZE, Order, Output,
    RandomResizedCrop, Remainder, World,
};
use testkit::Spec;

const ALL: Augment = Augment {
    crop: Some(RandomResizedCrop { scale: (0.2, 1.0), ratio: (0.75, 4.0 / 3.0) }),
    flip: Some(0.5),
    jitter: Some(ColorJitter { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 }),
    grayscale: Some(0.2),
};

fn builder(dir: &tempfile::TempDir) -> LoaderBuilder {
    Loader::builder(dir.path()).batch_size(7).remainder(Remainder::PadLast).seed(5).threads(0)
}

fn batches(loader: &Loader, epoch: u64) -> Vec<Batch> {
    loader.epoch(epoch).unwrap().map(Result::unwrap).collect()
}

/// Each sample's bytes, by its key.
fn pictures(loader: &Loader, epoch: u64) -> BTreeMap<String, Vec<u8>> {
    let mut pictures = BTreeMap::new();
    for batch in batches(loader, epoch) {
        for (i, pixels) in batch.u8().chunks(3 * batch.height() * batch.width()).enumerate() {
            pictures.insert(batch.key(i).to_owned(), pixels.to_vec());
        }
    }
    pictures
}

#[test]
fn pictures_are_the_same_for_any_threads_layout_order_batch_and_rank() {
    for spec in [Spec::small().size(20), Spec::small().size(20).shortest_side()] {
        let (planar, interleaved) = (spec.temporary(), spec.interleaved().temporary());
        let expected = pictures(&builder(&planar).augment(ALL).build().unwrap(), 1);
        assert_eq!(expected.len(), 60);
        let same = [
            builder(&planar).threads(1),
            builder(&planar).threads(3).batch_size(11),
            builder(&planar).order(Order::None).batch_size(1),
            builder(&interleaved),
            builder(&interleaved).threads(3),
        ];
        for builder in same {
            assert!(pictures(&builder.augment(ALL).build().unwrap(), 1) == expected);
        }
        let mut union = BTreeMap::new();
        for rank in 0..2 {
            let world = World::new(rank, 2).unwrap();
            let loader = builder(&planar).batch_size(8).world(world).augment(ALL).build().unwrap();
            union.extend(pictures(&loader, 1));
        }
        assert!(union == expected);
        let other = [
            pictures(&builder(&planar).augment(ALL).build().unwrap(), 2),
            pictures(&builder(&planar).augment(ALL).seed(6).build().unwrap(), 1),
            pictures(&builder(&planar).build().unwrap(), 1),
        ];
        for other in other {
            let same = expected.iter().filter(|(key, pixels)| other[*key] == **pixels).count();
            assert!(same < 6, "{same} of 60 pictures are alike");
        }
    }
}

#[test]
fn a_resumed_epoch_has_the_same_pictures() {
    let data = Spec::small().temporary();
    let loader = builder(&data).augment(ALL).build().unwrap();
    let whole: Vec<Vec<u8>> = batches(&loader, 3).iter().map(|batch| batch.u8().to_vec()).collect();
    let rest = loader.epoch_from(3, 28).unwrap().map(|batch| batch.unwrap().u8().to_vec());
    assert!(rest.collect::<Vec<_>>() == whole[4..]);
}

#[test]
fn jpegs_are_changed_as_well() {
    for spec in [Spec::small().size(24).jpeg(), Spec::small().size(24).jpeg().shortest_side()] {
        let data = spec.temporary();
        let one = pictures(&builder(&data).augment(ALL).build().unwrap(), 0);
        let three = pictures(&builder(&data).augment(ALL).threads(3).build().unwrap(), 0);
        let plain = pictures(&builder(&data).build().unwrap(), 0);
        assert!(one == three);
        let changed = one.iter().filter(|(key, pixels)| plain[*key] != **pixels).count();
        assert!(changed > 55, "{changed}");
    }
}

#[test]
fn settings_that_change_nothing_give_the_stored_bytes() {
    let nothing = [
        Augment::default(),
        Augment {
            crop: Some(RandomResizedCrop { scale: (1.0, 1.0), ratio: (1.0, 1.0) }),
            flip: Some(0.0),
            jitter: Some(ColorJitter { brightness: 0.0, contrast: 0.0, saturation: 0.0, hue: 0.0 }),
            grayscale: Some(0.0),
        },
    ];
    let small = Spec::small();
    for spec in [small.clone(), small.clone().interleaved(), small.clone().jpeg()] {
        let data = spec.temporary();
        let stored = pictures(&builder(&data).build().unwrap(), 0);
        for augment in nothing {
            assert!(pictures(&builder(&data).augment(augment).build().unwrap(), 0) == stored);
        }
    }
    // Without a crop, the centre of pictures that have sides of their own.
    let data = small.shortest_side().temporary();
    let centre = pictures(&builder(&data).build().unwrap(), 0);
    assert!(pictures(&builder(&data).augment(nothing[0]).build().unwrap(), 0) == centre);
}

#[test]
fn a_flip_mirrors_as_many_pictures_as_it_should() {
    let data = Spec::train(400).temporary();
    let plain = pictures(&builder(&data).build().unwrap(), 0);
    let mirrored =
        |pixels: &[u8]| -> Vec<u8> { pixels.chunks(8).flat_map(|row| row.iter().rev().copied()).collect() };
    for (probability, low, high) in [(0.0, 0, 0), (0.25, 65, 135), (1.0, 400, 400)] {
        let augment = Augment { flip: Some(probability), ..Augment::default() };
        let changed = pictures(&builder(&data).augment(augment).build().unwrap(), 0);
        let mut flips = 0;
        for (key, pixels) in &changed {
            let flipped = *pixels == mirrored(&plain[key]);
            assert!(flipped || *pixels == plain[key], "{key}");
            flips += usize::from(*pixels != plain[key] || (flipped && probability == 1.0));
        }
        assert!((low..=high).contains(&flips), "{flips} of 400 at {probability}");
    }
}

#[test]
fn as_many_pictures_lose_their_colours_as_should() {
    let data = Spec::train(400).temporary();
    let plain = pictures(&builder(&data).build().unwrap(), 0);
    let jitter = Some(ColorJitter { hue: 0.5, ..ColorJitter::default() });
    for (jitter, probability, low, high) in
        [(None, 0.0, 0, 0), (None, 0.25, 65, 135), (None, 1.0, 400, 400), (jitter, 1.0, 400, 400)]
    {
        let augment = Augment { jitter, grayscale: Some(probability), ..Augment::default() };
        let mut greys = 0;
        for (key, pixels) in &pictures(&builder(&data).augment(augment).build().unwrap(), 0) {
            let [red, green, blue] = [0, 1, 2].map(|c| &pixels[c * pixels.len() / 3..][..pixels.len() / 3]);
            let is_grey = red == green && green == blue;
            assert!(is_grey || *pixels == plain[key], "{key}");
            greys += usize::from(is_grey);
            if is_grey && jitter.is_none() {
                // torchvision's weights, to a rounding.
                let before = &plain[key];
                let [r, g, b] = [0, 1, 2].map(|c| f64::from(before[c * before.len() / 3]));
                assert!((0.2989 * r + 0.587 * g + 0.114 * b - f64::from(red[0])).abs() <= 0.51, "{key}");
            }
        }
        assert!((low..=high).contains(&greys), "{greys} of 400 at {probability}");
    }
}

#[test]
fn floats_are_the_normalised_bytes() {
    let data = Spec::small().size(20).temporary();
    let bytes = builder(&data).augment(ALL).build().unwrap();
    for normalize in [CLIP_NORMALIZE, NO_NORMALIZE] {
        let floats = builder(&data).augment(ALL).output(Output::F32(normalize)).build().unwrap();
        for (a, b) in batches(&bytes, 0).iter().zip(batches(&floats, 0)) {
            for (at, (&value, &byte)) in b.f32().iter().zip(a.u8()).enumerate() {
                let c = at / 400 % 3;
                let expected = (f32::from(byte) / 255.0 - normalize.mean[c]) / normalize.std[c];
                assert!((value - expected).abs() < 2e-6);
            }
        }
    }
}

#[test]
fn ranges_that_cannot_be_are_refused_before_anything_is_opened() {
    let crop = RandomResizedCrop { scale: (0.0, 2.0), ..RandomResizedCrop::default() };
    let augment = Augment { crop: Some(crop), flip: Some(f32::NAN), ..Augment::default() };
    let builder = Loader::builder("nowhere").batch_size(1).remainder(Remainder::DropLast).augment(augment);
    let text = builder.build().unwrap_err().to_string();
    assert!(text.contains("scale") && text.contains("flip"), "{text}");
}
