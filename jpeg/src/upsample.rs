//! Chroma at its own size → a row at the size of luma, by the triangle filter that libjpeg calls fancy upsampling: a
//! sample has three quarters of the nearest one and a quarter of the next one, along each axis that is halved. Rounding
//! is libjpeg's too. It leaves out colour.

/// Rows of a component's own samples, those that pad its blocks left out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chroma<'a> {
    pub(crate) samples: &'a [u8],
    pub(crate) stride: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl<'a> Chroma<'a> {
    fn row(self, y: usize) -> &'a [u8] {
        self.samples.get(y * self.stride..).and_then(|rest| rest.get(..self.width)).unwrap_or_default()
    }

    /// The row that is nearest to row `y` of a picture with twice the rows, and the next one; both are the outermost
    /// row at the edges.
    fn near_and_far(self, y: usize) -> [&'a [u8]; 2] {
        let near = y / 2;
        let far = if y.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(self.height - 1) };
        [self.row(near), self.row(far)]
    }
}

/// Buffers of one row.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    sums: Vec<u16>,
    row: Vec<u8>,
}

impl Buffers {
    /// Row `y` of the picture. `horizontal` and `vertical` say how often luma has as many samples as chroma, once or
    /// twice.
    #[inline(always)]
    pub(crate) fn row<'a>(
        &'a mut self,
        chroma: Chroma<'a>,
        horizontal: usize,
        vertical: usize,
        y: usize,
    ) -> &'a [u8] {
        // So does libjpeg with pictures of such a width.
        let is_narrow = chroma.width <= 2;
        self.row.resize(horizontal * chroma.width, 0);
        match (horizontal, vertical) {
            (1, 1) => return chroma.row(y),
            (1, _) => {
                let [near, far] = chroma.near_and_far(y);
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                for ((out, near), far) in self.row.iter_mut().zip(near).zip(far) {
                    *out = ((3 * u16::from(*near) + u16::from(*far) + bias) >> 2) as u8;
                }
            }
            (_, 1) if is_narrow => double(chroma.row(y), &mut self.row),
            (_, _) if is_narrow => double(chroma.row(y / 2), &mut self.row),
            (_, 1) => {
                self.sums.clear();
                self.sums.extend(chroma.row(y).iter().map(|sample| u16::from(*sample)));
                widen::<2, 1, 2>(&self.sums, &mut self.row);
            }
            (_, _) => {
                let [near, far] = chroma.near_and_far(y);
                self.sums.clear();
                self.sums
                    .extend(near.iter().zip(far).map(|(near, far)| 3 * u16::from(*near) + u16::from(*far)));
                widen::<4, 8, 7>(&self.sums, &mut self.row);
            }
        }
        &self.row
    }
}

#[inline(always)]
fn double(row: &[u8], out: &mut [u8]) {
    for (out, sample) in out.as_chunks_mut::<2>().0.iter_mut().zip(row) {
        *out = [*sample; 2];
    }
}

/// Two samples of each sum, which are brought back by `SHIFT` bits; `LEFT` and `RIGHT` round.
#[inline(always)]
fn widen<const SHIFT: u32, const LEFT: u16, const RIGHT: u16>(sums: &[u16], out: &mut [u8]) {
    let (out, _) = out.as_chunks_mut::<2>();
    let left = |here: u16, before: u16| ((3 * here + before + LEFT) >> SHIFT) as u8;
    let right = |here: u16, behind: u16| ((3 * here + behind + RIGHT) >> SHIFT) as u8;
    let ([first, second, ..], [.., before_last, last]) = (sums, sums) else { return };
    let Some((out_first, out)) = out.split_first_mut() else { return };
    let Some((out_last, out)) = out.split_last_mut() else { return };
    *out_first = [left(*first, *first), right(*first, *second)];
    for (out, sums) in out.iter_mut().zip(sums.windows(3)) {
        *out = [left(sums[1], sums[0]), right(sums[1], sums[2])];
    }
    *out_last = [left(*last, *before_last), right(*last, *last)];
}
