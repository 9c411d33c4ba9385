//! JPEGs by libjpeg-turbo: luma and chroma as planes of their own size, whole or scaled by a smaller cosine transform.
//! Its calls are the one use of foreign code here. It leaves out files that are not luma and chroma (or grey) in a
//! usual sampling, and turned ones: the general decoder takes them. A warning of the library counts as damage, for it
//! fills in grey then; only bytes left over before a marker are left to the general decoder to judge.

use std::{
    ffi::{CStr, c_int, c_void},
    ptr::NonNull,
};

use turbojpeg_sys as tj;

use super::{axis::Sampling, decode::check_dimensions, exif};
use crate::source::{Reason, Rejection};

/// Most scans of a progressive file, each of which is a pass over the whole picture.
const SCANS_MAX: c_int = 500;

/// The engine, as the manifest records it.
pub(crate) const ENGINE: &str = concat!(
    "turbo-1: libjpeg-turbo ",
    env!("LIBJPEG_TURBO_VERSION"),
    ", bicubic by prep, zune-jpeg 0.5, image 0.25"
);

/// A decoder with its buffers.
#[derive(Debug)]
pub(crate) struct Turbo {
    handle: NonNull<c_void>,
    planes: [Vec<u8>; 3],
}

/// A plane: rows of `stride` samples, with eight rows and some samples to spare.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plane<'a> {
    pub samples: &'a [u8],
    pub stride: usize,
}

/// A decoded picture.
#[derive(Debug)]
pub(crate) struct Decoded<'a> {
    /// Columns of the file's picture.
    pub width: usize,
    /// Rows of the file's picture.
    pub height: usize,
    /// What both were divided by, rounded up: 1, 2, 4 or 8.
    pub scale: usize,
    /// How chroma stands to luma, along x and along y.
    pub chroma: [Sampling; 2],
    /// One, or three.
    pub planes: Vec<Plane<'a>>,
}

// SAFETY: an instance keeps nothing of the thread that made it, and is used through `&mut` alone.
unsafe impl Send for Turbo {}

impl Drop for Turbo {
    fn drop(&mut self) {
        // SAFETY: the handle is the library's own, and nobody has it after this.
        unsafe { tj::tj3Destroy(self.handle.as_ptr()) }
    }
}

impl Turbo {
    /// A decoder.
    pub(crate) fn new() -> Self {
        // SAFETY: the call has no conditions.
        let handle = unsafe { tj::tj3Init(tj::TJINIT_TJINIT_DECOMPRESS as c_int) };
        let Some(handle) = NonNull::new(handle) else {
            // It fails for want of memory alone, as a vector would.
            std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u64; 128]>());
        };
        let mut turbo = Self { handle, planes: Default::default() };
        turbo.set(tj::TJPARAM_TJPARAM_STOPONWARNING, 1);
        turbo.set(tj::TJPARAM_TJPARAM_SCANLIMIT, SCANS_MAX);
        turbo
    }

    /// Decodes a JPEG; `None` where another decoder should. `scale` chooses the scale for a width and a height.
    ///
    /// # Errors
    /// `TooLarge`, `BrokenImage`.
    pub(crate) fn decode(
        &mut self,
        bytes: &[u8],
        pixels_max: u64,
        scale: impl FnOnce(usize, usize) -> usize,
    ) -> Result<Option<Decoded<'_>>, Rejection> {
        if exif::may_be_turned(bytes) || !self.reads_header(bytes) {
            return Ok(None);
        }
        let (width, height) =
            (self.get(tj::TJPARAM_TJPARAM_JPEGWIDTH), self.get(tj::TJPARAM_TJPARAM_JPEGHEIGHT));
        let (Ok(width), Ok(height)) = (usize::try_from(width), usize::try_from(height)) else {
            return Ok(None);
        };
        check_dimensions(width as u64, height as u64, pixels_max)?;
        let subsampling = self.get(tj::TJPARAM_TJPARAM_SUBSAMP);
        let (count, chroma) = match (self.get(tj::TJPARAM_TJPARAM_COLORSPACE) as u32, subsampling) {
            (tj::TJCS_TJCS_GRAY, tj::TJSAMP_TJSAMP_GRAY) => (1, [Sampling::Full, Sampling::Full]),
            (tj::TJCS_TJCS_YCbCr, tj::TJSAMP_TJSAMP_444) => (3, [Sampling::Full, Sampling::Full]),
            (tj::TJCS_TJCS_YCbCr, tj::TJSAMP_TJSAMP_422) => (3, [Sampling::Half, Sampling::Full]),
            (tj::TJCS_TJCS_YCbCr, tj::TJSAMP_TJSAMP_420) => (3, [Sampling::Half, Sampling::Half]),
            (tj::TJCS_TJCS_YCbCr, tj::TJSAMP_TJSAMP_440) => (3, [Sampling::Full, Sampling::Half]),
            _ => return Ok(None),
        };
        if self.get(tj::TJPARAM_TJPARAM_PRECISION) != 8 {
            return Ok(None);
        }
        let scale = scale(width, height);
        let factor = tj::tjscalingfactor { num: 1, denom: scale as c_int };
        // SAFETY: the handle is alive; the library checks the factor.
        if unsafe { tj::tj3SetScalingFactor(self.handle.as_ptr(), factor) } != 0 {
            return Ok(None);
        }
        let strides = self.make_room(count, width.div_ceil(scale), height.div_ceil(scale), subsampling);
        let mut pointers = [std::ptr::null_mut(); 3];
        pointers.iter_mut().zip(&mut self.planes).for_each(|(pointer, plane)| *pointer = plane.as_mut_ptr());
        let mut columns = strides.map(|stride| stride as c_int);
        // SAFETY: each plane has the rows and columns that the library gives for this size and sampling
        // (`make_room`), which are those of the header that it has read from the same bytes; `bytes` outlives the call.
        let failed = unsafe {
            tj::tj3DecompressToYUVPlanes8(
                self.handle.as_ptr(),
                bytes.as_ptr(),
                bytes.len() as tj::size_t,
                pointers.as_mut_ptr(),
                columns.as_mut_ptr(),
            ) != 0
        };
        if failed {
            let message = self.message();
            // Harmless in itself, and met in real photos.
            if message.contains("extraneous bytes before marker") {
                return Ok(None);
            }
            return Err(Rejection::new(Reason::BrokenImage, message));
        }
        let planes = self.planes.iter().zip(strides).take(count);
        let planes = planes.map(|(samples, stride)| Plane { samples, stride }).collect();
        Ok(Some(Decoded { width, height, scale, chroma, planes }))
    }

    /// Whether the library takes the file's header.
    fn reads_header(&mut self, bytes: &[u8]) -> bool {
        // SAFETY: the handle is alive, and `bytes` outlives the call.
        unsafe {
            tj::tj3DecompressHeader(self.handle.as_ptr(), bytes.as_ptr(), bytes.len() as tj::size_t) == 0
        }
    }

    /// Makes the planes large enough for a picture of this size, and gives their strides.
    fn make_room(&mut self, count: usize, width: usize, height: usize, subsampling: c_int) -> [usize; 3] {
        let mut strides = [0; 3];
        for ((component, plane), stride) in self.planes.iter_mut().enumerate().zip(&mut strides).take(count) {
            // SAFETY: pure arithmetic on the arguments.
            let (columns, rows) = unsafe {
                (
                    tj::tj3YUVPlaneWidth(component as c_int, width as c_int, subsampling),
                    tj::tj3YUVPlaneHeight(component as c_int, height as c_int, subsampling),
                )
            };
            *stride = (columns.max(0) as usize).next_multiple_of(8);
            // Strips of eight rows and blocks of eight columns may reach past the end.
            plane.resize((rows.max(0) as usize + 8) * *stride + 16, 0);
        }
        strides
    }

    fn set(&mut self, parameter: tj::TJPARAM, value: c_int) {
        // SAFETY: the handle is alive. A value that the library refuses leaves its own.
        unsafe { tj::tj3Set(self.handle.as_ptr(), parameter as c_int, value) };
    }

    fn get(&self, parameter: tj::TJPARAM) -> c_int {
        // SAFETY: the handle is alive.
        unsafe { tj::tj3Get(self.handle.as_ptr(), parameter as c_int) }
    }

    /// What the library says of its last failure.
    fn message(&self) -> String {
        // SAFETY: the handle is alive; the text is the instance's own and stays until its next call.
        unsafe { CStr::from_ptr(tj::tj3GetErrorStr(self.handle.as_ptr())) }.to_string_lossy().into_owned()
    }
}
