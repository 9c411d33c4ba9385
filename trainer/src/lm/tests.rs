//! Both families from both kinds of files, and files that are none.

use super::*;
