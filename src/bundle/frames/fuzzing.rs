//! Doors for the fuzz targets: the compressed form, in frames so short that few bytes make many.

use std::fs::File;
use std::io;
use std::sync::Arc;

use super::{Compressor, Cut, Frame, Header, Seekable, encode_table, parse_table};
use crate::error::Result;

pub use super::StreamDecoder;

/// Plain bytes in every frame but the first and the last.
pub const FRAME: u64 = 64;

/// Reads a seek table and writes it again.
pub fn table_again(table: &[u8]) -> Result<Vec<u8>> {
    parse_table(table).map(|frames: Vec<Frame>| encode_table(&frames))
}

/// The header that a frame begins with: its length, and the size of the content that it states.
pub fn frame_header(bytes: &[u8]) -> Result<(u64, u64)> {
    Header::parse(bytes).map(|header| (header.length, header.plain))
}

/// Reads all that a compressed file holds through its seek table, from the last frame to the first.
/// Files that claim more than `most` bytes are opened only.
pub fn sought(file: File, most: u64) -> io::Result<Option<Vec<u8>>> {
    let bundle = Seekable::with_frame(Arc::new(file), FRAME, 1)?;
    if bundle.len() > most {
        return Ok(None);
    }
    let mut plain = vec![0; bundle.len() as usize];
    let mut end = bundle.len();
    while end > 0 {
        let start =
            if end > bundle.head() { (end - 1 - bundle.head()) / FRAME * FRAME + bundle.head() } else { 0 };
        let mut at = start;
        while at < end {
            let piece = plain.get_mut(at as usize..end as usize).unwrap_or_default();
            let count = bundle.read_at(piece, at)?;
            assert!(count > 0, "nothing at {at} of {}", bundle.len());
            at += count as u64;
        }
        end = start;
    }
    Ok(Some(plain))
}

/// The compressed form of some bytes of which the first `head` are the head.
pub fn packed(plain: &[u8], head: u64) -> io::Result<Vec<u8>> {
    let mut compressor = Compressor::with_cut(Vec::new(), Cut { head, frame: FRAME }, Vec::new(), 1)?;
    compressor.write(plain)?;
    compressor.finish().map(|(bytes, _)| bytes)
}
