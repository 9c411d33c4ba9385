//! Compiles a kernel twice, portable and for AVX2, and picks one when it is called.
//!
//! Kernels are plain loops that the compiler vectorises. No kernel uses fused multiply-add and every
//! reduction has its lanes written out, so both versions give the same bits. This is the one home of the
//! `unsafe` that calling an AVX2 function needs. Left out: AVX-512 and hand-written intrinsics.

/// Whether the running CPU has AVX2; the answer is cached by the standard library.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

/// Declares functions whose bodies are compiled for AVX2 as well as for the baseline.
macro_rules! simd {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn portable($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                portable($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            if $crate::ops::simd::has_avx2() {
                #[expect(unsafe_code, reason = "a safe function compiled for AVX2")]
                // SAFETY: `avx2` is safe but for its target feature, which was just detected.
                return unsafe { avx2($($arg),*) };
            }
            portable($($arg),*)
        }
    };
}
