use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use zstd::zstd_safe::compress_bound;

use super::write::frames_of_cut;
use super::*;

/// Small frames, so that few bytes make many of them.
const SMALL: Cut = Cut { head: 1000, frame: 4096 };
const TINY: Cut = Cut { head: 40, frame: 64 };

// ── Bytes ────────────────────────────────────────────────────────────────────────────────────────

/// Bytes that cannot be compressed, the same ones every time.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// Bytes of which some can be compressed.
fn mixed(count: usize) -> Vec<u8> {
    let noise = noise(count);
    (0..count).map(|at| if at / 50 % 2 == 0 { b"sealift "[at % 8] } else { noise[at] }).collect()
}

fn packed_by(plain: &[u8], cut: Cut, threads: usize, piece: usize) -> Vec<u8> {
    let mut compressor = Compressor::with_cut(Vec::new(), cut, Vec::new(), threads).unwrap();
    for piece in plain.chunks(piece) {
        compressor.write(piece).unwrap();
    }
    let (compressed, count) = compressor.finish().unwrap();
    assert_eq!(compressed.len() as u64, count);
    compressed
}

fn packed(plain: &[u8], cut: Cut) -> Vec<u8> {
    packed_by(plain, cut, 2, plain.len())
}

fn file_of(bytes: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(file)
}

/// Everything, through the seek table, from the last frame to the first.
fn sought(bytes: &[u8], frame: u64) -> io::Result<Vec<u8>> {
    let bundle = Seekable::with_frame(file_of(bytes), frame, 1)?;
    assert!(bundle.len() < 1 << 30, "a small file must not claim much");
    let mut plain = vec![0; bundle.len() as usize];
    let mut end = bundle.len();
    while end > 0 {
        // Where the frame with the byte before `end` begins.
        let inside = (end - 1).checked_sub(bundle.head()).map(|behind| behind % frame);
        let start = inside.map_or(0, |inside| end - 1 - inside);
        let count = bundle.read_at(&mut plain[start as usize..end as usize], start)?;
        assert_eq!(start + count as u64, end);
        end = start;
    }
    Ok(plain)
}

fn streamed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    StreamDecoder::new(bytes)?.read_to_end(&mut plain)?;
    Ok(plain)
}

/// What a refusal is to the one who is told.
#[track_caller]
fn kind(outcome: io::Result<Vec<u8>>) -> Kind {
    Error::io("cannot read", "test", &outcome.unwrap_err()).kind()
}

/// Frames and the table that lists them, with the plain sizes that are claimed.
fn tabled(frames: &[(Vec<u8>, u32)]) -> Vec<u8> {
    let listed = frames.iter().map(|(bytes, plain)| Frame { compressed: bytes.len() as u32, plain: *plain });
    let mut file: Vec<u8> = frames.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
    file.extend(encode_table(&listed.collect::<Vec<_>>()));
    file
}

/// A frame by hand: window, stated size, blocks.
fn frame(window_log: u8, plain: u32, blocks: &[(u8, u32, &[u8])]) -> Vec<u8> {
    let mut frame = FRAME_MAGIC.to_le_bytes().to_vec();
    frame.extend([0x80, (window_log - 10) << 3]);
    frame.extend(plain.to_le_bytes());
    for (number, (kind, size, content)) in blocks.iter().enumerate() {
        let last = u32::from(number + 1 == blocks.len());
        frame.extend(&(last | u32::from(*kind) << 1 | size << 3).to_le_bytes()[..3]);
        frame.extend(*content);
    }
    frame
}

fn raw(content: &[u8]) -> Vec<u8> {
    frame(17, content.len() as u32, &[(0, content.len() as u32, content)])
}

// ── Round trips ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn what_is_compressed_comes_back_in_every_way() {
    for size in [1, 999, 1000, 1001, 5095, 5096, 5097, 9192, 20_000] {
        for plain in [noise(size), mixed(size), vec![0; size]] {
            let compressed = packed(&plain, SMALL);
            assert!(is_zstd(&compressed));
            assert_eq!(zstd::decode_all(compressed.as_slice()).unwrap(), plain, "{size}");
            assert_eq!(sought(&compressed, SMALL.frame).unwrap(), plain, "{size}");
            assert_eq!(streamed(&compressed).unwrap(), plain, "{size}");
        }
    }
}

#[test]
fn frames_of_full_size_come_back_in_every_way() {
    let head = 20_000;
    for size in [head + FRAME - 1, head + FRAME, head + FRAME + 1, head + 2 * FRAME + 12_345] {
        let plain = mixed(size as usize);
        let mut compressor = Compressor::new(Vec::new(), head, 2).unwrap();
        compressor.write(&plain).unwrap();
        let (compressed, _) = compressor.finish().unwrap();
        assert!(zstd::decode_all(compressed.as_slice()).unwrap() == plain, "{size}");
        assert!(sought(&compressed, FRAME).unwrap() == plain, "{size}");
        assert!(streamed(&compressed).unwrap() == plain, "{size}");
        assert_eq!(Seekable::open(file_of(&compressed), 2).unwrap().head(), head);
        let complete = complete_frames(&file_of(&compressed), head).unwrap();
        assert_eq!(complete.len() as u64, 1 + (size - head) / FRAME);
    }
}

#[test]
fn a_head_larger_than_a_frame_is_one_frame() {
    let cut = Cut { head: 700_000, frame: 4096 };
    let plain = mixed(710_000);
    let compressed = packed(&plain, cut);
    assert_eq!(sought(&compressed, cut.frame).unwrap(), plain);
    assert_eq!(frames_of_cut(&file_of(&compressed), cut).unwrap()[0].plain, 700_000);
}

#[test]
fn the_bytes_do_not_depend_on_threads_or_pieces() {
    let cut = Cut { head: 300_000, frame: 600_000 };
    let plain = mixed(3_000_000);
    let alone = packed_by(&plain, cut, 1, plain.len());
    for (threads, piece) in [(4, plain.len()), (2, 1 << 16), (3, 99_991), (1, 1), (4, 256 << 10)] {
        assert!(packed_by(&plain, cut, threads, piece) == alone, "{threads} threads, pieces of {piece}");
    }
}

#[test]
fn a_frame_states_its_size_and_a_small_window_and_has_a_checksum() {
    let compressed = packed(&noise(3 << 20), Cut { head: 3 << 20, frame: 4096 });
    let header = Header::parse(&compressed).unwrap();
    assert_eq!((header.plain, header.checksum), (3 << 20, true));
    let mut context = zstd::zstd_safe::DCtx::create();
    context.set_parameter(DParameter::WindowLogMax(21)).unwrap();
    let mut plain = Vec::with_capacity(3 << 20);
    let mut output = zstd::zstd_safe::OutBuffer::around(&mut plain);
    context.decompress_stream(&mut output, &mut zstd::zstd_safe::InBuffer::around(&compressed)).unwrap();
}

#[test]
fn what_no_bundle_is_cannot_be_written() {
    assert!(Compressor::new(Vec::new(), 0, 1).is_err());
    assert!(Compressor::new(Vec::new(), limits::HEAD + 1, 1).is_err());
    assert!(Compressor::new(Vec::new(), 1, 1).unwrap().finish().is_err());
    let elsewhere = vec![Frame { compressed: 20, plain: 2 }];
    assert!(Compressor::resume(Vec::new(), 1, elsewhere, 1).is_err());
}

/// A medium that is full after so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.0);
        self.0 -= count;
        if count == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(count) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_medium_is_told_and_ends_everything() {
    let plain = noise(6 * 4096);
    let complete = packed(&plain, SMALL).len();
    for room in (0..complete).step_by(97) {
        let mut compressor = Compressor::with_cut(Full(room), SMALL, Vec::new(), 2).unwrap();
        let error = match compressor.write(&plain) {
            Ok(()) => compressor.finish().err().unwrap(),
            Err(error) => {
                assert!(compressor.write(b"more").is_err() && compressor.finish().is_err());
                error
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{room}");
    }
}

// ── Going on ─────────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_interrupted_run_goes_on_to_the_same_bytes() {
    let plain = mixed(40 + 5 * 64 + 30);
    let whole = packed(&plain, TINY);
    let mut counts = Vec::new();
    for length in 0..=whole.len() {
        let file = file_of(&whole[..length]);
        let frames = frames_of_cut(&file, TINY).unwrap();
        let kept: usize = frames.iter().map(|frame| frame.compressed as usize).sum();
        let from: usize = frames.iter().map(|frame| frame.plain as usize).sum();
        assert!(kept <= length);
        let before = Seekable::of_cut_frames(file, &frames, TINY.frame, 1).unwrap();
        assert_eq!(before.len(), from as u64);
        let mut readable = vec![0; from.min(40)];
        assert_eq!(before.read_at(&mut readable, 0).unwrap(), readable.len());
        assert_eq!(readable, plain[..readable.len()]);
        counts.push(frames.len());
        let prefix = whole[..kept].to_vec();
        let mut compressor = Compressor::with_cut(prefix, TINY, frames, 2).unwrap();
        compressor.write(&plain[from..]).unwrap();
        let (bytes, count) = compressor.finish().unwrap();
        assert!(bytes == whole && count == whole.len() as u64, "cut at {length}");
    }
    assert!(counts.is_sorted());
    // The last one is shorter, and made again.
    assert_eq!((counts[0], counts.last()), (0, Some(&6)));
}

#[test]
fn what_is_not_a_bundles_frames_is_nothing_to_go_on_with() {
    let count = |bytes: &[u8], cut| frames_of_cut(&file_of(bytes), cut).unwrap().len();
    let whole = packed(&mixed(400), TINY);
    assert!(count(&whole, TINY) > 3);
    assert_eq!(count(&whole, Cut { head: 41, ..TINY }), 0);
    assert_eq!(count(&whole, Cut { frame: 65, ..TINY }), 1);
    assert_eq!(count(&vec![0; 100_000], TINY), 0);
    assert_eq!(count(&noise(100_000), TINY), 0);
    assert_eq!(count(&frame(17, 40, &[(3, 1, &[0])]), TINY), 0, "a block of a reserved kind");
    assert_eq!(count(&frame(17, 40, &[(0, 1 << 18, &[0; 1 << 18])]), TINY), 0, "too large a block");
    // A frame whose blocks were reserved and never written.
    let mut reserved = frame(17, FRAME as u32, &[]);
    reserved.resize(9 << 20, 0);
    assert_eq!(count(&reserved, Cut { head: FRAME, ..TINY }), 0);
    // One byte after the other, longer than anything honest.
    let padded: Vec<(u8, u32, &[u8])> = vec![(0, 1, &[0]); 1000];
    assert_eq!(count(&frame(17, 40, &padded), TINY), 0);
}

// ── At random ────────────────────────────────────────────────────────────────────────────────────

#[test]
fn reading_at_any_place_gives_what_is_there() {
    let plain = mixed(40 + 7 * 64 + 5);
    let bundle = Seekable::with_frame(file_of(&packed(&plain, TINY)), TINY.frame, 1).unwrap();
    assert_eq!(bundle.len(), plain.len() as u64);
    for offset in 0..plain.len() + 3 {
        for length in [0, 1, 2, 63, 64, 65, 600] {
            let mut buffer = vec![0; length];
            let count = bundle.read_at(&mut buffer, offset as u64).unwrap();
            let rest = plain.get(offset..).unwrap_or_default();
            assert_eq!(buffer[..count], rest[..count]);
            assert_eq!(count == 0, length == 0 || rest.is_empty());
        }
    }
    assert_eq!(bundle.read_at(&mut [0], u64::MAX).unwrap(), 0);
}

#[test]
fn many_threads_read_at_once() {
    let plain = mixed(1000 + 20 * 4096);
    let bundle = Seekable::with_frame(file_of(&packed(&plain, SMALL)), SMALL.frame, 2).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (bundle, plain) = (&bundle, &plain);
            scope.spawn(move || {
                let mut buffer = [0; 777];
                for step in 0..400 {
                    let offset = (step * 7919 + thread * 104_729) % plain.len();
                    let count = bundle.read_at(&mut buffer, offset as u64).unwrap();
                    assert!(count > 0 && buffer[..count] == plain[offset..offset + count]);
                }
            });
        }
    });
}

#[test]
fn a_damaged_frame_is_refused_every_time_and_spoils_no_other() {
    let plain = noise(1000 + 3 * 4096);
    let mut compressed = packed(&plain, SMALL);
    let frames = frames_of_cut(&file_of(&compressed), SMALL).unwrap();
    compressed[frames[0].compressed as usize + 1000] ^= 1;
    let bundle = Seekable::with_frame(file_of(&compressed), SMALL.frame, 1).unwrap();
    let mut byte = [0];
    for _ in 0..3 {
        let error = Error::io("cannot read", "b.tar.zst", &bundle.read_at(&mut byte, 1000).unwrap_err());
        assert_eq!(error.kind(), Kind::FrameInvalid);
        assert!(error.to_string().contains("b.tar.zst: frame 1 at byte"), "{error}");
        for offset in [999, 1000 + 4096, plain.len() - 1] {
            assert_eq!(bundle.read_at(&mut byte, offset as u64).unwrap(), 1);
            assert_eq!(byte[0], plain[offset]);
        }
    }
}

#[test]
fn a_file_that_becomes_shorter_is_an_error_of_reading() {
    let file = file_of(&packed(&noise(10_000), SMALL));
    let bundle = Seekable::with_frame(file.clone(), SMALL.frame, 1).unwrap();
    file.set_len(3000).unwrap();
    let error = bundle.read_at(&mut [0], 9000).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(Error::io("cannot read", "test", &error).kind(), Kind::Io);
}

// ── Hostile ──────────────────────────────────────────────────────────────────────────────────────

/// Each way of reading either refuses, or gives these very bytes.
#[track_caller]
fn refused_or_same(bytes: &[u8], plain: &[u8], what: &str) -> bool {
    let outcomes = [sought(bytes, TINY.frame), streamed(bytes)];
    let refused = outcomes.iter().all(Result::is_err);
    for outcome in outcomes {
        assert!(outcome.is_err() || outcome.unwrap() == plain, "{what}");
    }
    refused
}

#[test]
fn every_flipped_bit_is_refused_or_means_nothing() {
    let plain = mixed(40 + 2 * 64 + 30);
    let good = packed(&plain, TINY);
    let mut accepted = 0;
    for bit in 0..good.len() * 8 {
        let mut spoiled = good.clone();
        spoiled[bit / 8] ^= 1 << (bit % 8);
        accepted += usize::from(!refused_or_same(&spoiled, &plain, &format!("bit {bit}")));
    }
    // Bits without a meaning, such as the unused one in each frame's descriptor.
    assert!(accepted <= good.len() / 8, "{accepted}");
}

#[test]
fn every_missing_end_is_refused() {
    let plain = mixed(40 + 2 * 64 + 30);
    let good = packed(&plain, TINY);
    let frames = good.len() - table_length(4) as usize;
    for length in 0..good.len() {
        assert!(sought(&good[..length], TINY.frame).is_err(), "{length}");
        // Without the table a pipe has ordinary frames: as many as there are.
        match streamed(&good[..length]) {
            Ok(read) => assert!(plain.starts_with(&read) && length <= frames && length > 0, "{length}"),
            Err(_) => assert_ne!(length, frames),
        }
    }
}

#[test]
fn every_field_of_the_table_is_checked() {
    let plain = mixed(40 + 2 * 64 + 30);
    let good = packed(&plain, TINY);
    let table = good.len() - table_length(4) as usize;
    let fields = (0..2 + 2 * 4 + 1).map(|field| table + 4 * field).chain([good.len() - 4]);
    for at in fields {
        let field = u32::from_le_bytes(good[at..at + 4].try_into().unwrap());
        let other =
            [0, 1, 63, 64, 65, field.wrapping_add(1), field.wrapping_sub(1), field << 8, 1 << 31, u32::MAX];
        for value in other.into_iter().filter(|value| *value != field) {
            let mut spoiled = good.clone();
            spoiled[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert!(refused_or_same(&spoiled, &plain, "a table"), "{value} at {at}");
        }
    }
    for descriptor in 1..=255 {
        let mut spoiled = good.clone();
        let at = good.len() - 5;
        spoiled[at] = descriptor;
        assert!(refused_or_same(&spoiled, &plain, "a descriptor"));
    }
}

#[test]
fn what_stands_around_the_frames_is_refused() {
    let plain = mixed(40 + 2 * 64 + 30);
    let good = packed(&plain, TINY);
    let table = good.len() - table_length(4) as usize;
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let insert = |at: usize, bytes: &[u8]| [&good[..at], bytes, &good[at..]].concat();
    let first = frames_of_cut(&file_of(&good), TINY).unwrap()[0].compressed as usize;
    for at in [0, first, table, good.len()] {
        for bytes in [&[0][..], &skippable, &raw(b""), &raw(b"more"), &good[table..]] {
            assert!(refused_or_same(&insert(at, bytes), &plain, "inserted"), "{bytes:x?} at {at}");
        }
    }
    assert_eq!(kind(streamed(&insert(good.len(), &[0]))), Kind::TrailingData);
    assert_eq!(kind(streamed(&insert(good.len(), &good))), Kind::TrailingData);
    assert_eq!(kind(streamed(&insert(first, &skippable))), Kind::TrailingData);
}

#[test]
fn a_frame_is_exactly_what_the_table_says() {
    let content = [7; 64];
    let good = raw(&content);
    let head = (raw(&[1; 40]), 40);
    let verdict = |frame: Vec<u8>| kind(sought(&tabled(&[head.clone(), (frame, 64)]), TINY.frame));
    assert!(sought(&tabled(&[head.clone(), (good.clone(), 64)]), TINY.frame).is_ok());
    let more: &[u8] = &[7];
    let recipes = [
        ("too large a window", frame(26, 64, &[(0, 64, &content)])),
        ("another size", frame(17, 63, &[(0, 64, &content)])),
        ("another size, truly", raw(&[7; 63])),
        ("a bomb", frame(17, 64, &[(1, 128 << 10, more)])),
        ("a slow bomb", frame(17, 64, &[(1, 64, more), (1, 1, more)])),
        ("less than stated", frame(17, 64, &[(1, 63, more)])),
        ("no last block", frame(17, 64, &[(1, 64, more), (1, 0, more)])[..14].to_vec()),
        ("a skippable frame before", [&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], good.as_slice()].concat()),
        ("a skippable frame behind", [good.as_slice(), &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]].concat()),
        ("an empty frame behind", [good.clone(), raw(b"")].concat()),
        ("a byte behind", [good.as_slice(), &[0]].concat()),
        ("half a header", good[..5].to_vec()),
    ];
    for (what, frame) in recipes {
        assert_eq!(verdict(frame), Kind::FrameInvalid, "{what}");
    }
    let mut dictionary = good;
    dictionary[4] |= 1;
    dictionary.insert(6, 7);
    assert_eq!(verdict(dictionary), Kind::FrameInvalid);
}

#[test]
fn sizes_that_are_not_written_are_not_read() {
    let small = |size: usize| (raw(&vec![1; size]), size as u32);
    let verdict = |frames: &[(Vec<u8>, u32)]| kind(sought(&tabled(frames), TINY.frame));
    assert!(sought(&tabled(&[small(40), small(64), small(1)]), TINY.frame).is_ok());
    assert_eq!(verdict(&[small(40), small(63), small(1)]), Kind::FrameInvalid);
    assert_eq!(verdict(&[small(40), small(65)]), Kind::FrameInvalid);
    assert_eq!(verdict(&[small(40), (raw(b""), 0)]), Kind::FrameInvalid);
    assert_eq!(verdict(&[(raw(b""), 0)]), Kind::FrameInvalid);
    assert_eq!(verdict(&[]), Kind::LimitExceeded);
    assert_eq!(verdict(&[(raw(b"x"), limits::HEAD as u32 + 1)]), Kind::FrameInvalid);
    let mut padded = raw(&[1; 40]);
    padded.resize(compress_bound(40) + 1, 0);
    assert_eq!(verdict(&[(padded, 40)]), Kind::FrameInvalid);
}

#[test]
fn a_table_of_too_many_frames_is_refused_unread() {
    let mut file = packed(&mixed(400), TINY);
    let at = file.len() - 9;
    file[at..at + 4].copy_from_slice(&(limits::FRAMES as u32 + 1).to_le_bytes());
    assert_eq!(kind(sought(&file, TINY.frame)), Kind::LimitExceeded);
    let table = file.len() - table_length(7) as usize;
    file[table + 4..table + 8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(kind(streamed(&file)), Kind::LimitExceeded);
}

#[test]
fn a_file_without_a_table_says_what_to_do() {
    let foreign = zstd::encode_all(noise(30 << 20).as_slice(), 1).unwrap();
    let tell = |bytes: &[u8]| Error::io("cannot read", "test", &sought(bytes, FRAME).unwrap_err());
    let told = tell(&foreign);
    assert_eq!(told.kind(), Kind::FrameInvalid);
    assert!(told.advice().unwrap().contains("sealift import - < FILE"));
    let own = packed(&noise(100_000), SMALL);
    let told = tell(&own[..own.len() - 1]);
    assert_eq!(told.kind(), Kind::Truncated, "{told}");
    assert_eq!(tell(b"").kind(), Kind::FrameInvalid);
    assert_eq!(tell(&own[..3]).kind(), Kind::FrameInvalid);
}

// ── From a pipe ──────────────────────────────────────────────────────────────────────────────────

/// A pipe that gives a byte at a time, and is interrupted before each.
struct Trickle<'a>(&'a [u8], bool);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = buffer.len().min(1);
        self.0.read(&mut buffer[..count])
    }
}

#[test]
fn a_slow_pipe_and_small_reads_change_nothing() {
    let plain = mixed(20_000);
    let compressed = packed(&plain, SMALL);
    let mut decoder = StreamDecoder::new(Trickle(&compressed, false)).unwrap();
    let (mut read, mut buffer) = (Vec::<u8>::new(), [0; 7]);
    loop {
        match decoder.read(&mut buffer).unwrap() {
            0 => break,
            count => read.extend(&buffer[..count]),
        }
    }
    assert_eq!(read, plain);
    assert_eq!(decoder.read(&mut buffer).unwrap(), 0);
}

#[test]
fn a_pipe_may_carry_what_others_compressed() {
    let plain = mixed(3 << 20);
    for level in [1, 3, 19] {
        let mut foreign = zstd::encode_all(plain.as_slice(), level).unwrap();
        assert!(streamed(&foreign).unwrap() == plain);
        foreign.extend(zstd::encode_all(&b"and more"[..], 3).unwrap());
        assert!(streamed(&foreign).unwrap() == [plain.as_slice(), b"and more"].concat());
    }
}

#[test]
fn a_pipe_is_refused_what_a_file_is() {
    assert_eq!(kind(streamed(b"")), Kind::Truncated);
    assert_eq!(kind(streamed(b"\x28\xb5")), Kind::FrameInvalid);
    assert_eq!(kind(streamed(b"ustar is not zstd")), Kind::FrameInvalid);
    assert_eq!(kind(streamed(&encode_table(&[]))), Kind::FrameInvalid);
    assert_eq!(kind(streamed(&frame(26, 64, &[(0, 64, &[7; 64])]))), Kind::FrameInvalid);
    assert_eq!(kind(streamed(&frame(17, 64, &[(1, 128 << 10, &[7])]))), Kind::FrameInvalid);
    let good = packed(&mixed(400), TINY);
    assert_eq!(kind(streamed(&good[..20])), Kind::Truncated);
    let mut long = zstd::Encoder::new(Vec::new(), 1).unwrap();
    long.window_log(27).unwrap();
    long.write_all(b"a little").unwrap();
    assert_eq!(kind(streamed(&long.finish().unwrap())), Kind::FrameInvalid);
}

#[test]
fn a_pipe_stays_refused() {
    let mut decoder = StreamDecoder::new(&b"ustar is not zstd"[..]).unwrap();
    for _ in 0..3 {
        assert_eq!(kind(decoder.read(&mut [0; 10]).map(|_| Vec::new())), Kind::FrameInvalid);
    }
}
