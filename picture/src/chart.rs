//! Line charts of a training run: panels stacked in one picture, each with its series, a light grid,
//! round ticks, an optional logarithmic axis and an optional smoothed line over a faint raw one.
//!
//! Any numbers may be given. Values that are not finite break the line; on a logarithmic axis so do
//! values that are not above zero. A panel without a drawable value says "no data".

use crate::{
    PictureError,
    canvas::{Area, Colour, Picture},
    text::{Face, Type},
    ticks::{self, Tick},
};

/// The most panels in one chart.
pub const PANELS_MAX: usize = 32;

const PAGE: Colour = Colour::rgb(255, 255, 255);
const INK: Colour = Colour::rgb(32, 34, 38);
const FAINT: Colour = Colour::rgb(112, 115, 122);
const GRID: Colour = Colour::rgb(233, 234, 237);
const AXIS: Colour = Colour::rgb(150, 153, 160);

const HEADING: Type = Type { face: Face::Words, size: 25.0, colour: INK };
const TITLE: Type = Type { face: Face::Words, size: 18.0, colour: INK };
const SMALL: Type = Type { face: Face::Words, size: 13.5, colour: FAINT };

/// Told apart by people with the common colour blindnesses too (after Okabe and Ito, darkened).
const PALETTE: [Colour; 7] = [
    Colour::rgb(0, 104, 181),
    Colour::rgb(213, 84, 0),
    Colour::rgb(0, 140, 105),
    Colour::rgb(176, 76, 140),
    Colour::rgb(196, 138, 0),
    Colour::rgb(50, 150, 205),
    Colour::rgb(90, 90, 96),
];

const LEFT: i64 = 78;
const RIGHT: i64 = 30;
const PANEL_TOP: i64 = 44;
const PANEL_BOTTOM: i64 = 48;

/// A line: its name in the legend and its points.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Shown in the legend where the panel has several series.
    pub name: String,
    /// (x, y) in order of x.
    pub points: Vec<(f64, f64)>,
    /// Chosen from the palette by the series' place where none.
    pub colour: Option<Colour>,
    /// A faint band below the line: (x, low, high) in order of x; empty for none.
    pub band: Vec<(f64, f64, f64)>,
    /// Drawn as it is in a panel that smooths the others.
    pub is_exact: bool,
}

impl Series {
    /// A series in the palette's next colour.
    pub fn new(name: &str, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, ..Self::default() }
    }
}

/// One pair of axes.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    /// At the top left.
    pub title: String,
    /// Below the axis.
    pub x_label: String,
    /// Beside the title, fainter: the unit of the values.
    pub y_label: String,
    /// A logarithmic y axis.
    pub log_y: bool,
    /// The weight of the past in an exponential moving average, within 0..1: the average is drawn
    /// over a faint raw line. None or 0 draws the raw line alone.
    pub smoothing: Option<f64>,
    /// The range of a linear y axis, for panels that are to be compared; fitted to the values where none.
    pub y_range: Option<(f64, f64)>,
    /// The lines, the later over the earlier.
    pub series: Vec<Series>,
}

impl Panel {
    /// A panel over training steps, linear and not smoothed.
    pub fn new(title: &str, series: Vec<Series>) -> Self {
        Self { title: title.into(), x_label: "step".into(), series, ..Self::default() }
    }
}

/// A chart to be drawn.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Large, at the top; nothing is drawn for an empty one.
    pub title: String,
    /// Smaller, below it.
    pub subtitle: String,
    /// Width of the picture, 320 to 4096 pixels.
    pub width: u32,
    /// Height of each panel's plot, 80 to 2048 pixels.
    pub panel_height: u32,
    /// From top to bottom, at most [`PANELS_MAX`].
    pub panels: Vec<Panel>,
}

impl Default for Chart {
    fn default() -> Self {
        Self {
            title: String::new(),
            subtitle: String::new(),
            width: 1080,
            panel_height: 260,
            panels: Vec::new(),
        }
    }
}

impl Chart {
    /// Draws the chart.
    ///
    /// # Errors
    /// [`PictureError::TooMany`] over [`PANELS_MAX`] panels, [`PictureError::TooLarge`].
    pub fn draw(&self) -> Result<Picture, PictureError> {
        if self.panels.len() > PANELS_MAX {
            return Err(PictureError::TooMany {
                what: "panels",
                found: self.panels.len(),
                at_most: PANELS_MAX,
            });
        }
        let width = self.width.clamp(320, 4096);
        let plot_height = i64::from(self.panel_height.clamp(80, 2048));
        let heads = [(&self.title, HEADING), (&self.subtitle, SMALL)];
        let head: i64 =
            heads.iter().filter(|(text, _)| !text.is_empty()).map(|(_, ty)| ty.line_height() + 2).sum();
        let mut top = 20 + head + if head > 0 { 8 } else { 0 };
        let height = top + self.panels.len() as i64 * (PANEL_TOP + plot_height + PANEL_BOTTOM) + 8;
        let mut picture = Picture::new(width, height.try_into().unwrap_or(u32::MAX), PAGE)?;

        let mut line = 20;
        for (text, ty) in heads.into_iter().filter(|(text, _)| !text.is_empty()) {
            let text = ty.shorten(text, width as f32 - 2.0 * RIGHT as f32);
            ty.draw(&mut picture, RIGHT as f32, line as f32, &text);
            line += ty.line_height() + 2;
        }
        for panel in &self.panels {
            let area = Area {
                left: LEFT,
                top: top + PANEL_TOP,
                width: i64::from(width) - LEFT - RIGHT,
                height: plot_height,
            };
            panel.draw(&mut picture, area);
            top += PANEL_TOP + plot_height + PANEL_BOTTOM;
        }
        Ok(picture)
    }
}

/// From values to pixels. `low < high` on both axes; y already in its logarithm where that is asked.
struct Scale {
    area: Area,
    x: (f64, f64),
    y: (f64, f64),
    log_y: bool,
}

impl Scale {
    fn x(&self, value: f64) -> f32 {
        let part = (value - self.x.0) / (self.x.1 - self.x.0);
        (self.area.left as f64 + part * self.area.width as f64) as f32
    }

    /// None for a value that this axis cannot show.
    fn y(&self, value: f64) -> Option<f32> {
        let value = axis_value(value, self.log_y)?;
        let part = (value - self.y.0) / (self.y.1 - self.y.0);
        Some((self.area.top as f64 + (1.0 - part) * self.area.height as f64) as f32)
    }
}

fn axis_value(value: f64, log: bool) -> Option<f64> {
    let value = if log { if value > 0.0 { value.log10() } else { return None } } else { value };
    // Half of the range of f64, so that differences stay finite.
    (value.abs() < f64::MAX / 4.0).then_some(value)
}

impl Panel {
    fn draw(&self, picture: &mut Picture, area: Area) {
        self.draw_title(picture, area);
        let Some(scale) = self.scale(area) else {
            picture.outline(area, GRID);
            let left = area.left as f32 + (area.width as f32 - SMALL.width("no data")) / 2.0;
            SMALL.draw(picture, left, (area.top + area.height / 2 - 9) as f32, "no data");
            return;
        };
        self.draw_axes(picture, &scale);
        let lines = || self.series.iter().enumerate().map(|(number, series)| (series, self.colour(number)));
        lines().for_each(|(series, colour)| draw_band(picture, &scale, &series.band, colour));
        let Some(weight) = self.smoothing.filter(|weight| *weight > 0.0).map(|weight| weight.min(0.9999))
        else {
            lines().for_each(|(series, colour)| draw_line(picture, &scale, &series.points, 1.7, colour, 1.0));
            return;
        };
        // Every faint line lies below every smoothed one.
        for (series, colour) in lines().filter(|(series, _)| !series.is_exact) {
            draw_line(picture, &scale, &series.points, 1.2, colour, 0.27);
        }
        for (series, colour) in lines() {
            let weight = if series.is_exact { 0.0 } else { weight };
            draw_line(picture, &scale, &smoothed(&series.points, weight), 2.0, colour, 1.0);
        }
    }

    fn colour(&self, number: usize) -> Colour {
        self.series[number].colour.unwrap_or(PALETTE[number % PALETTE.len()])
    }

    /// The ranges of both axes with a little room; none where no point can be shown.
    fn scale(&self, area: Area) -> Option<Scale> {
        let (mut x, mut y) = ((f64::MAX, f64::MIN), (f64::MAX, f64::MIN));
        for &(step, value) in self.series.iter().flat_map(|series| &series.points) {
            if let (Some(step), Some(value)) = (axis_value(step, false), axis_value(value, self.log_y)) {
                x = (x.0.min(step), x.1.max(step));
                y = (y.0.min(value), y.1.max(value));
            }
        }
        for &(_, low, high) in self.series.iter().flat_map(|series| &series.band) {
            for value in [low, high].into_iter().filter_map(|value| axis_value(value, self.log_y)) {
                y = (y.0.min(value), y.1.max(value));
            }
        }
        if x.0 > x.1 {
            return None;
        }
        let is_range = |(low, high): &(f64, f64)| high > low && low.is_finite() && high.is_finite();
        if let Some(y) = self.y_range.filter(is_range).filter(|_| !self.log_y) {
            return Some(Scale { area, x: widened(x), y, log_y: false });
        }
        // A loss or a rate is read against zero where zero is near.
        let near_zero = !self.log_y && y.0 >= 0.0 && y.0 < 0.35 * y.1;
        let room = (y.1 - y.0) * 0.06;
        let y = (if near_zero { 0.0 } else { y.0 - room }, y.1 + room);
        Some(Scale { area, x: widened(x), y: widened(y), log_y: self.log_y })
    }

    /// Title and unit at the left, the legend at the right of the same line.
    fn draw_title(&self, picture: &mut Picture, area: Area) {
        let top = (area.top - PANEL_TOP + 8) as f32;
        let title = TITLE.shorten(&self.title, area.width as f32 * 0.6);
        let end = TITLE.draw(picture, area.left as f32, top, &title);
        let unit = SMALL.shorten(&self.y_label, area.width as f32 * 0.25);
        let end = SMALL.draw(picture, end + 12.0, top + 4.0, &unit);
        if self.series.len() < 2 {
            return;
        }
        let mut right = (area.left + area.width) as f32;
        for number in (0..self.series.len()).rev() {
            let name = SMALL.shorten(&self.series[number].name, 180.0);
            let left = right - SMALL.width(&name);
            if left - 26.0 < end + 16.0 {
                break;
            }
            Type { colour: INK, ..SMALL }.draw(picture, left, top + 4.0, &name);
            let key = Area { left: left as i64 - 26, top: top as i64 + 11, width: 19, height: 4 };
            picture.fill_rounded(key, 2.0, self.colour(number));
            right = left - 44.0;
        }
    }

    fn draw_axes(&self, picture: &mut Picture, scale: &Scale) {
        let Area { left, top, width, height } = scale.area;
        let rows = (height / 48).clamp(2, 12) as usize;
        let y_ticks = if self.log_y {
            ticks::logarithmic(10_f64.powf(scale.y.0), 10_f64.powf(scale.y.1), rows)
        } else {
            ticks::linear(scale.y.0, scale.y.1, rows)
        };
        for Tick { value, label } in y_ticks {
            let Some(y) = scale.y(value) else { continue };
            picture.fill(Area { left, top: y.round() as i64, width, height: 1 }, GRID);
            SMALL.draw(picture, left as f32 - 10.0 - SMALL.width(&label), y - 9.5, &label);
        }
        for Tick { value, label } in ticks::linear(scale.x.0, scale.x.1, (width / 110).clamp(2, 14) as usize)
        {
            let x = scale.x(value);
            picture.fill(Area { left: x.round() as i64, top, width: 1, height }, GRID);
            picture.fill(Area { left: x.round() as i64, top: top + height, width: 1, height: 5 }, AXIS);
            SMALL.draw(picture, x - SMALL.width(&label) / 2.0, (top + height + 6) as f32, &label);
        }
        picture.fill(Area { left, top: top + height, width, height: 1 }, AXIS);
        let label = SMALL.shorten(&self.x_label, width as f32);
        let middle = (left + width) as f32 - SMALL.width(&label);
        SMALL.draw(picture, middle, (top + height + 24) as f32, &label);
    }
}

/// A range that is not empty, even where every value is the same.
fn widened((low, high): (f64, f64)) -> (f64, f64) {
    if high - low > high.abs().max(low.abs()) * 1e-12 {
        return (low, high);
    }
    let room = (high.abs() * 0.1).max(1e-9);
    (low - room, high + room)
}

/// The exponential moving average, its start corrected for the missing past (as Adam does it), so
/// that the line begins at the first value. A value that is not finite stays a gap and is not averaged.
fn smoothed(points: &[(f64, f64)], weight: f64) -> Vec<(f64, f64)> {
    let (mut sum, mut total) = (0.0, 0.0);
    let average = |&(x, y): &(f64, f64)| {
        if !y.is_finite() {
            return (x, y);
        }
        sum = sum * weight + y * (1.0 - weight);
        total = total * weight + (1.0 - weight);
        (x, sum / total)
    };
    points.iter().map(average).collect()
}

/// Fills the band column by column of pixels, between straight lines from one of its points to the next.
fn draw_band(picture: &mut Picture, scale: &Scale, band: &[(f64, f64, f64)], colour: Colour) {
    const OPACITY: f32 = 0.16;
    let Area { top, height, .. } = scale.area;
    for pair in band.windows(2) {
        let places = [pair[0], pair[1]].map(|(x, low, high)| {
            axis_value(x, false).and_then(|x| Some((scale.x(x), scale.y(low)?, scale.y(high)?)))
        });
        let [Some((left, low, high)), Some((right, low_end, high_end))] = places else { continue };
        for column in left.round() as i64..right.round() as i64 {
            let part = (column as f32 - left) / (right - left).max(1e-6);
            let at = |from: f32, to: f32| (from + (to - from) * part.clamp(0.0, 1.0)).round() as i64;
            let (bottom, above) = (at(low, low_end), at(high, high_end));
            for row in above.max(top)..bottom.min(top + height) {
                picture.blend(column, row, colour, OPACITY);
            }
        }
    }
}

/// Draws the runs of drawable points. Of the points that share a column of pixels only the first,
/// the lowest, the highest and the last are drawn, which looks the same and bounds the work.
fn draw_line(
    picture: &mut Picture,
    scale: &Scale,
    points: &[(f64, f64)],
    width: f32,
    colour: Colour,
    opacity: f32,
) {
    let mut runs: Vec<Vec<(f32, f32)>> = vec![Vec::new()];
    let mut column: Vec<(f32, f32)> = Vec::new();
    for &(x, y) in points {
        let place = axis_value(x, false).and_then(|x| Some((scale.x(x), scale.y(y)?)));
        let Some(place) = place else {
            end_column(&mut runs, &mut column);
            if runs.last().is_some_and(|run| !run.is_empty()) {
                runs.push(Vec::new());
            }
            continue;
        };
        if column.first().is_some_and(|first| first.0.floor() != place.0.floor()) {
            end_column(&mut runs, &mut column);
        }
        column.push(place);
    }
    end_column(&mut runs, &mut column);
    // Half a line's width of room, so that a line along an edge is not cut.
    let room = Area { top: scale.area.top - 2, height: scale.area.height + 4, ..scale.area };
    for run in runs.iter().filter(|run| !run.is_empty()) {
        picture.polyline(room, run, width, colour, opacity);
    }
}

/// Moves the points of one column of pixels to the end of the current run, thinned to four.
fn end_column(runs: &mut [Vec<(f32, f32)>], column: &mut Vec<(f32, f32)>) {
    let Some(run) = runs.last_mut() else { return };
    if column.len() <= 4 {
        run.append(column);
        return;
    }
    let by_height = |a: &&(f32, f32), b: &&(f32, f32)| a.1.total_cmp(&b.1);
    let ends =
        [column.first(), column.iter().min_by(by_height), column.iter().max_by(by_height), column.last()];
    run.extend(ends.into_iter().flatten());
    column.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(picture: &Picture, colour: [u8; 3]) -> bool {
        picture.pixels().chunks(3).any(|pixel| pixel == colour)
    }

    fn chart(panel: Panel) -> Chart {
        Chart { panels: vec![panel], width: 400, panel_height: 100, ..Chart::default() }
    }

    #[test]
    fn each_series_is_drawn_in_its_own_colour() {
        let line = |slope: f64| (0..50).map(|step| (f64::from(step), slope * f64::from(step))).collect();
        let picture =
            chart(Panel::new("two", vec![Series::new("a", line(1.0)), Series::new("b", line(-1.0))]))
                .draw()
                .unwrap();
        assert!(has(&picture, [0, 104, 181]) && has(&picture, [213, 84, 0]));
        assert!(!has(&picture, [0, 140, 105]));
    }

    #[test]
    fn numbers_of_any_kind_are_drawn_without_panic() {
        let odd = [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            0.0,
            -0.0,
            1.0,
            -1.0,
            f64::MAX,
            f64::MIN,
            1e-320,
            3e38,
        ];
        let every: Vec<(f64, f64)> = odd.iter().flat_map(|&x| odd.iter().map(move |&y| (x, y))).collect();
        let mut lists: Vec<Vec<(f64, f64)>> = vec![vec![], every];
        lists.extend(odd.iter().map(|&y| vec![(1.0, y)]));
        lists.extend(odd.iter().map(|&y| vec![(1.0, y), (2.0, y), (f64::NAN, 1.0), (3.0, 4.0)]));
        for points in lists {
            for log_y in [false, true] {
                for smoothing in [None, Some(0.9), Some(f64::NAN), Some(7.0), Some(-1.0)] {
                    let panel = Panel {
                        log_y,
                        smoothing,
                        ..Panel::new("odd", vec![Series::new("s", points.clone())])
                    };
                    assert!(chart(panel).draw().is_ok());
                }
            }
        }
    }

    #[test]
    fn a_gap_is_left_where_a_value_is_missing() {
        let points = (0..100)
            .map(|step| (f64::from(step), if (40..60).contains(&step) { f64::NAN } else { 1.0 }))
            .collect();
        let picture = chart(Panel::new("", vec![Series::new("", points)])).draw().unwrap();
        // A thin line may cover no pixel whole: look for blue ink of any strength.
        let inked = |x: i64| {
            (0..picture.height()).any(|y| {
                let at = (y * picture.width()) as usize * 3 + x as usize * 3;
                picture.pixels()[at + 2] > picture.pixels()[at].saturating_add(60)
            })
        };
        let place = |part: f64| LEFT + ((400 - LEFT - RIGHT) as f64 * part) as i64;
        assert!(inked(place(0.3)) && !inked(place(0.5)) && inked(place(0.7)));
    }

    #[test]
    fn a_band_lies_below_its_line_and_a_given_range_holds() {
        let points: Vec<(f64, f64)> = (0..50).map(|x| (f64::from(x), 0.0)).collect();
        let band: Vec<(f64, f64, f64)> = points.iter().map(|&(x, _)| (x, -0.5, 0.5)).collect();
        let inked = |y_range| {
            let series = Series { band: band.clone(), ..Series::new("", points.clone()) };
            let picture = chart(Panel { y_range, ..Panel::new("", vec![series]) }).draw().unwrap();
            let x = (LEFT + 100) as usize;
            let column = (0..picture.height() as usize).map(|y| (y * picture.width() as usize + x) * 3);
            column.filter(|&at| picture.pixels()[at + 2] > picture.pixels()[at].saturating_add(20)).count()
        };
        // Half of the plot's hundred pixels where the range is twice the band, a tenth where it is ten times.
        assert!((45..=55).contains(&inked(Some((-1.0, 1.0)))), "{}", inked(Some((-1.0, 1.0))));
        assert!((8..=14).contains(&inked(Some((-5.0, 5.0)))), "{}", inked(Some((-5.0, 5.0))));
        assert!(inked(None) > 60);
        for odd in [(1.0, 1.0), (f64::NAN, 1.0), (f64::NEG_INFINITY, 1.0)] {
            assert_eq!(inked(Some(odd)), inked(None));
        }
    }

    #[test]
    fn an_exact_series_is_not_smoothed() {
        let png = |is_exact: bool, smoothing: f64| {
            let points = (0..40).map(|step| (f64::from(step), f64::from(step % 7))).collect();
            let series = Series { is_exact, ..Series::new("a", points) };
            let panel = Panel { smoothing: Some(smoothing), ..Panel::new("one", vec![series]) };
            chart(panel).draw().unwrap().to_png().unwrap()
        };
        assert!(png(true, 0.5) == png(true, 0.95));
        assert!(png(false, 0.5) != png(false, 0.95));
    }

    #[test]
    fn smoothing_starts_at_the_first_value_and_skips_gaps() {
        let points = [(0.0, 4.0), (1.0, f64::NAN), (2.0, 4.0), (3.0, 8.0)];
        let smooth = smoothed(&points, 0.5);
        assert_eq!((smooth[0].1, smooth[2].1), (4.0, 4.0));
        assert!(smooth[1].1.is_nan());
        // (0.5³·4 + 0.5²·4 + 0.5·8) / (1 − 0.5³), the corrected average by hand.
        assert!((smooth[3].1 - (0.5 + 1.0 + 4.0) / 0.875).abs() < 1e-12);
    }

    #[test]
    fn a_million_points_are_thinned_and_keep_their_extremes() {
        let area = Area { left: 0, top: 0, width: 100, height: 100 };
        let scale = Scale { area, x: (0.0, 1e6), y: (0.0, 1.0), log_y: false };
        let mut column: Vec<(f32, f32)> = (0..10_000).map(|n| (0.5, (n * 37 % 1000) as f32)).collect();
        let mut runs = vec![Vec::new()];
        end_column(&mut runs, &mut column);
        assert_eq!(runs[0].len(), 4);
        assert!(runs[0].contains(&(0.5, 0.0)) && runs[0].contains(&(0.5, 999.0)));
        assert_eq!(scale.x(5e5), 50.0);
    }

    #[test]
    fn too_many_panels_are_an_error() {
        let chart = Chart { panels: vec![Panel::default(); PANELS_MAX + 1], ..Chart::default() };
        assert!(matches!(chart.draw(), Err(PictureError::TooMany { .. })));
        let chart = Chart {
            panels: vec![Panel::default(); 32],
            width: u32::MAX,
            panel_height: u32::MAX,
            ..Chart::default()
        };
        assert!(matches!(chart.draw(), Err(PictureError::TooLarge { .. })));
    }
}
