//! Draws scenes of the embedded `shapes` set with their captions on one sheet:
//! `cargo run -p prep --example shapes_sheet -- OUT.png [train|val] [SEED] [PIXELS]`.

use std::path::Path;

use anyhow::Context as _;
use picture::{Sheet, Tile};
use prep::source::shapes::{GENERATOR, ShapesSource, ShapesSplit};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let out = arguments.next().context("usage: shapes_sheet OUT.png [train|val] [SEED] [PIXELS]")?;
    let split = match arguments.next().as_deref() {
        Some("val") => ShapesSplit::Val,
        _ => ShapesSplit::Train,
    };
    let seed = arguments.next().map_or(Ok(0), |seed| seed.parse()).context("the seed is a whole number")?;
    let pixels: usize =
        arguments.next().map_or(Ok(224), |size| size.parse()).context("the size is a whole number")?;

    let source = ShapesSource::new(seed, split, 24);
    let tiles = (0..24).map(|number| {
        let scene = source.scene(number);
        let title = format!("{} · {}", scene.id(), scene.class_name());
        Tile {
            pixels: scene.render(pixels),
            height: pixels,
            width: pixels,
            title,
            captions: scene.captions(),
        }
    });
    let sheet = Sheet {
        heading: format!("shapes · {}", split.name()),
        subheading: format!("{GENERATOR} · seed {seed} · the first 24 scenes at {pixels} pixels"),
        columns: 6,
        caption_lines: 5,
        tiles: tiles.collect(),
        ..Sheet::default()
    };
    sheet.draw()?.write_png(Path::new(&out))?;
    Ok(())
}
