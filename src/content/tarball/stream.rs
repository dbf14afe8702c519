//! The entries of a tar file as they come, for whoever only looks at them: an image's layer. It may have what no archive of
//! images has (devices, a name twice, absolute names, as many entries as it likes), and nothing is remembered of any. What
//! two readers could understand differently is refused here, too: what one of them sees, the other must not miss.

use std::io::Read;

use super::scan::{Ahead, Header, unexpected, wrong};
use crate::content::file::PIECE;
use crate::error::{Error, Kind, Result};
use crate::limits;

const BLOCK: usize = 512;

/// See the module's text.
pub struct Entries<R> {
    input: R,
    ahead: Ahead,
    /// Of the current entry's content.
    left: u64,
    /// Behind it.
    padding: u64,
}

/// One entry.
pub struct Entry {
    /// Its name, without what does not matter of it: `./`, `//`, a leading `/`.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of its content.
    pub size: u64,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A hard or symbolic link.
    Link,
    /// A directory, a device, a pipe.
    Other,
}

/// Whether a file that begins with these bytes is a tar file.
pub fn is_header(first: &[u8]) -> bool {
    first.first_chunk().is_some_and(|block| Header::parse(block).is_ok())
}

impl<R: Read> Entries<R> {
    /// Those that come out of `input`.
    pub fn new(input: R) -> Self {
        Entries { input, ahead: Ahead::default(), left: 0, padding: 0 }
    }

    /// The next entry. What was not read of the one before is passed over.
    ///
    /// # Errors
    /// `TarHeader`, `TarUnexpectedEntry`, `Truncated`, `LimitExceeded`; `failed` says what those of the input are.
    pub fn next(&mut self, failed: &dyn Fn(&std::io::Error) -> Error) -> Result<Option<Entry>> {
        loop {
            self.pass(failed)?;
            let Some(block) = self.block(failed)? else { return self.end() };
            if block == [0; BLOCK] {
                return match self.block(failed)? {
                    Some(block) if block != [0; BLOCK] => Err(wrong("a lone block of zeros")),
                    _ => self.end(),
                };
            }
            let header = Header::parse(&block)?;
            if header.extends() {
                header.check_extension()?;
                self.begin(header.size);
                let mut content = vec![0; header.size as usize];
                self.fill(&mut content, failed)?;
                self.ahead.take(header.kind, &content)?;
                continue;
            }
            return self.entry(header).map(Some);
        }
    }

    fn entry(&mut self, header: Header) -> Result<Entry> {
        let ahead = std::mem::take(&mut self.ahead);
        let size = ahead.size(&header)?;
        let raw = ahead.name.unwrap_or(header.name);
        let kind = match header.kind {
            b'0' | 0 | b'7' if !raw.ends_with(b"/") => EntryKind::File,
            b'0' | 0 | b'7' | b'3'..=b'6' => EntryKind::Other,
            b'1' | b'2' => EntryKind::Link,
            b'S' => return Err(unexpected(&raw, "a sparse file").hint("pack it without tar's --sparse")),
            _ => return Err(unexpected(&raw, "an entry of a kind that is not known")),
        };
        // Some readers look for content behind these, some do not.
        if size > 0 && kind != EntryKind::File {
            return Err(wrong("an entry with content that is no file").got(String::from_utf8_lossy(&raw)));
        }
        if raw.len() > limits::TAR_NAME {
            return Err(Error::new(Kind::LimitExceeded, "a name in the archive is too long")
                .got(format_args!("{} bytes", raw.len()))
                .expected(format_args!("at most {} bytes", limits::TAR_NAME)));
        }
        // Extractors tidy such names up, each before or after it has looked at them.
        if raw.split(|byte| *byte == b'/').any(|step| step == b"..") {
            return Err(wrong("a name that leads upwards").got(String::from_utf8_lossy(&raw)));
        }
        self.begin(size);
        let steps = raw.split(|byte| *byte == b'/').filter(|step| !step.is_empty() && *step != b".");
        let path = steps.collect::<Vec<_>>().join(&b'/');
        Ok(Entry { path: String::from_utf8_lossy(&path).into_owned(), kind, size })
    }

    /// The next bytes of the current entry's content; none at its end.
    pub fn read(&mut self, buffer: &mut [u8], failed: &dyn Fn(&std::io::Error) -> Error) -> Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.some(buffer.get_mut(..want).unwrap_or_default(), failed)?;
        if count == 0 && want > 0 {
            return Err(cut_short());
        }
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }

    /// What follows the end of the archive, or all of it.
    pub fn rest(self) -> R {
        self.input
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64).saturating_sub(size % BLOCK as u64) % BLOCK as u64;
    }

    /// Passes over what is left of the current entry.
    fn pass(&mut self, failed: &dyn Fn(&std::io::Error) -> Error) -> Result<()> {
        let mut buffer = vec![0; if self.left > BLOCK as u64 { PIECE } else { BLOCK }];
        self.left = self.left.saturating_add(std::mem::take(&mut self.padding));
        while self.left > 0 {
            self.read(&mut buffer, failed)?;
        }
        Ok(())
    }

    /// The next block; `None` where the input ends with the one before, which Go's readers take for the end, too.
    fn block(&mut self, failed: &dyn Fn(&std::io::Error) -> Error) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let count = self.some(&mut block, failed)?;
        if count == 0 {
            return Ok(None);
        }
        self.left = BLOCK.saturating_sub(count) as u64;
        let rest = block.get_mut(count..).unwrap_or_default();
        self.fill(rest, failed)?;
        Ok(Some(block))
    }

    fn fill(&mut self, buffer: &mut [u8], failed: &dyn Fn(&std::io::Error) -> Error) -> Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            let count = self.read(buffer.get_mut(done..).unwrap_or_default(), failed)?;
            done = done.saturating_add(count);
        }
        Ok(())
    }

    fn some(&mut self, buffer: &mut [u8], failed: &dyn Fn(&std::io::Error) -> Error) -> Result<usize> {
        loop {
            match self.input.read(buffer) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                read => return read.map_err(|e| failed(&e)),
            }
        }
    }

    fn end(&self) -> Result<Option<Entry>> {
        match self.ahead == Ahead::default() {
            true => Ok(None),
            false => Err(wrong("the archive ends where an entry must begin")),
        }
    }
}

fn cut_short() -> Error {
    Error::new(Kind::Truncated, "the archive is cut short").hint("build or copy it again")
}
