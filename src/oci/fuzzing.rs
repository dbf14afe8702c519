//! Doors for the fuzz targets (`fuzz/`): the strict reading of documents. Not part of the library:
//! there only where `--cfg fuzzing` is set.

pub use super::strict::{CONFIG, INDEX, MANIFEST, Shape, check};
