//! Draws one sheet and one chart from made-up numbers, to be looked at:
//! `cargo run -p picture --example gallery -- FOLDER`.

use std::path::Path;

use picture::{Chart, Panel, PictureError, Series, Sheet, Tile};

fn main() -> Result<(), PictureError> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    let folder = Path::new(&folder);
    sheet().draw()?.write_png(&folder.join("sheet.png"))?;
    chart().draw()?.write_png(&folder.join("chart.png"))
}

fn sheet() -> Sheet {
    let captions = [
        "A small brown dog is running across the wet grass with a yellow ball in its mouth.",
        "Dog, grass, ball",
        "Ein Hund läuft über die Wiese — \u{1}\u{7} 漢字 🙂 and a sentence that goes on for much longer than anyone \
         would care to read on a contact sheet of samples, as web captions do",
    ];
    let tile = |number: usize| {
        let (height, width) = [(224, 224), (160, 240), (64, 64)][number % 3];
        let pixel = |place: usize| {
            let (y, x) = (place / width, place % width);
            [(x * 255 / width) as u8, (y * 255 / height) as u8, (number * 20) as u8]
        };
        Tile {
            pixels: (0..height * width).flat_map(pixel).collect(),
            height,
            width,
            title: format!("train-{number:08}"),
            captions: captions.iter().take(1 + number % 3).map(ToString::to_string).collect(),
        }
    };
    Sheet {
        heading: "coco · train".into(),
        subheading: "118,287 samples in 64 shards · 5.0 captions a sample · 224×224".into(),
        tiles: (0..12).map(tile).collect(),
        ..Sheet::default()
    }
}

fn chart() -> Chart {
    let noise = |step: u32| f64::from(step.wrapping_mul(2_654_435_761) >> 16) / 65_536.0 - 0.5;
    let loss = |scale: f64| {
        let value = |step: u32| {
            scale * (0.4 + 5.0 / (1.0 + f64::from(step) / 150.0)) + 0.7 * noise(step + scale as u32)
        };
        (0..4000).map(|step| (f64::from(step), value(step))).collect()
    };
    let rate = |step: u32| {
        let warm = (f64::from(step) / 200.0).min(1.0);
        5e-4 * warm * (0.1 + 0.45 * (1.0 + (f64::from(step) / 4000.0 * std::f64::consts::PI).cos()))
    };
    let norm = |step: u32| {
        if step == 1700 { f64::NAN } else { (1.5 * noise(step) + 3.0 - f64::from(step) / 1500.0).exp() }
    };
    Chart {
        title: "demo".into(),
        subtitle: "4,000 steps · batch 256 · seed 7".into(),
        panels: vec![
            Panel {
                smoothing: Some(0.97),
                y_label: "nats".into(),
                ..Panel::new("Loss", vec![Series::new("train", loss(1.0)), Series::new("val", loss(1.2))])
            },
            Panel::new(
                "Learning rate",
                vec![Series::new("lr", (0..4000).map(|s| (f64::from(s), rate(s))).collect())],
            ),
            Panel {
                log_y: true,
                smoothing: Some(0.9),
                ..Panel::new(
                    "Gradient norm",
                    vec![Series::new("norm", (0..4000).map(|s| (f64::from(s), norm(s))).collect())],
                )
            },
        ],
        ..Chart::default()
    }
}
