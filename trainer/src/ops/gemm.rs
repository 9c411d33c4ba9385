//! A bounds-checked face of the `gemm` crate's single-threaded matrix product on strided slices.
//!
//! Callers cut the work into fixed blocks and run those in parallel, so that a result does not depend on
//! the number of threads. This is the one home of the `unsafe` that raw matrix pointers need.

/// A read-only matrix: `rows` × `cols`, element (r, c) at `r * row_stride + c * col_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix that fills `data`.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A matrix whose rows start `row_stride` elements apart.
    pub(crate) fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(data.len() >= extent(rows, cols, row_stride), "a matrix view reaches past its data");
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose, without moving data.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// A writable matrix with unit column stride.
pub(crate) struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// A row-major matrix that fills `data`.
    pub(crate) fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A matrix whose rows start `row_stride` elements apart.
    pub(crate) fn strided(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(row_stride >= cols, "rows of an output must not overlap");
        assert!(data.len() >= extent(rows, cols, row_stride), "a matrix view reaches past its data");
        Self { data, rows, cols, row_stride }
    }
}

/// Elements that a strided matrix spans.
fn extent(rows: usize, cols: usize, row_stride: usize) -> usize {
    if rows == 0 || cols == 0 { 0 } else { (rows - 1) * row_stride + cols }
}

/// `out = scale · a · b`, or `out += scale · a · b` with `accumulate`. Runs on the calling thread.
pub(crate) fn gemm(out: MatrixMut<'_>, accumulate: bool, a: Matrix<'_>, b: Matrix<'_>, scale: f32) {
    assert!(a.cols == b.rows && out.rows == a.rows && out.cols == b.cols, "matrix shapes do not fit");
    if out.rows == 0 || out.cols == 0 {
        return;
    }
    #[expect(unsafe_code, reason = "the gemm crate takes raw pointers")]
    // SAFETY: each constructor checked that its slice covers every element that these sizes and strides
    // reach, the three sizes agree as asserted above, and `out` is borrowed exclusively.
    unsafe {
        gemm::gemm(
            out.rows,
            out.cols,
            a.cols,
            out.data.as_mut_ptr(),
            1,
            out.row_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0f32,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_strided_and_transposed_views() {
        let a = [1.0, 2.0, 9.0, 3.0, 4.0, 9.0]; // 2×2 with row stride 3
        let b = [5.0, 6.0, 7.0, 8.0];
        let mut out = [1.0; 4];
        let left = Matrix::strided(&a, 2, 2, 3);
        gemm(MatrixMut::new(&mut out, 2, 2), false, left, Matrix::new(&b, 2, 2), 1.0);
        assert_eq!(out, [19.0, 22.0, 43.0, 50.0]);
        gemm(MatrixMut::new(&mut out, 2, 2), true, left.t(), Matrix::new(&b, 2, 2).t(), 2.0);
        assert_eq!(out, [19.0 + 46.0, 22.0 + 62.0, 43.0 + 68.0, 50.0 + 92.0]);
    }

    #[test]
    #[should_panic(expected = "reaches past its data")]
    fn a_view_cannot_leave_its_slice() {
        let _ = Matrix::strided(&[0.0; 5], 2, 2, 4);
    }
}
