//! Doors for the fuzz targets (`fuzz/`): the reading of reports. Not part of the library: there only where
//! `--cfg fuzzing` is set.

use std::cell::RefCell;
use std::io::Read;
use std::rc::Rc;

use super::read::parse;
use super::{Package, Report};
use crate::error::Result;

/// As [`read`](super::read()), of bytes that come in pieces of some size.
pub fn report(bytes: &[u8], piece: usize) -> Result<(Option<Report>, Vec<Package>)> {
    let packages = Rc::new(RefCell::new(Vec::new()));
    let emit = {
        let packages = packages.clone();
        move |package| {
            packages.borrow_mut().push(package);
            Ok(())
        }
    };
    let report = parse(Pieces(bytes, piece), Box::new(emit))?;
    let packages = packages.take();
    Ok((report, packages))
}

struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(self.1);
        self.0.read(buffer.get_mut(..most).unwrap_or_default())
    }
}
