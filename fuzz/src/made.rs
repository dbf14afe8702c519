//! Whole bundles: hostile ones, and ones that a trusted key signed although they are wrong.

use std::collections::HashSet;
use std::io::Cursor;
use std::sync::{Arc, LazyLock};

use sealift::bundle::{Bundle, Piped, Trusted, fuzzing};
use sealift::content::Quiet;
use sealift::error::Result;
use sealift::release::Moment;
use sealift::verbs::verify;
use tokio::runtime::Runtime;

use crate::make::{self, KEYRING, sha256};
use crate::seeds;
use crate::words::is_sound;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().build().expect("a runtime"));

/// Between the times that seeds state and those at which they expire.
static NOW: LazyLock<Moment> = LazyLock::new(|| "2026-07-01T00:00:00Z".parse().expect("a time"));

/// The sums that were really signed.
static SIGNED: LazyLock<HashSet<Vec<u8>>> = LazyLock::new(|| {
    let mut signed: HashSet<_> =
        seeds::bundles().iter().filter_map(|(_, input)| sums(&make::bundle(input))).collect();
    signed.extend(sums(include_bytes!("../../fixtures/format-1/bundle.tar")));
    signed
});

/// The content of the first entry.
fn sums(bundle: &[u8]) -> Option<Vec<u8>> {
    let size = u64::from_str_radix(std::str::from_utf8(bundle.get(124..135)?).ok()?, 8).ok()?;
    Some(bundle.get(512..512 + size as usize)?.to_vec())
}

/// Any bytes as a bundle. Nobody here can sign: what is trusted is what was signed, to the byte.
pub fn head(bytes: &[u8]) {
    let file = fuzzing::sealed(bytes.to_vec()).and_then(|bundle| bundle.trust(&KEYRING, *NOW));
    if let Err(error) = &file {
        is_sound(error);
    }
    let pipe = piped(bytes);
    match (&file, &pipe) {
        (Ok(bundle), Ok(pipe)) => {
            assert!(SIGNED.contains(&sums(bytes).expect("sums")), "trusted, but never signed");
            assert_eq!(bundle.statement(), pipe.statement());
            let listed = sums(bytes).expect("sums");
            assert!(listed.starts_with(sha256(&bundle.statement().encode().expect("JSON")).as_bytes()));
            assert_eq!(bundle.length(), bytes.len() as u64);
        }
        (Ok(_), Err(error)) => panic!("trusted as a file and not as a pipe: {error}"),
        // A pipe's length is seen at its end.
        (Err(_), Ok(_)) => assert!(SIGNED.contains(&sums(bytes).expect("sums")), "trusted, but never signed"),
        (Err(_), Err(error)) => is_sound(error),
    }
}

fn piped(bytes: &[u8]) -> Result<Piped> {
    let _inside = RUNTIME.enter();
    Piped::receive(Box::new(Cursor::new(bytes.to_vec())), "pipe", &KEYRING, *NOW)
}

/// Segments of a bundle that is then signed: read as a file and as a pipe, the verdict is the same, and what is
/// accepted says of itself what its documents say.
pub fn made(bytes: &[u8]) {
    let bundle = make::bundle(bytes);
    let file = accepted(&bundle).inspect_err(is_sound);
    let pipe = piped(&bundle).map(Arc::new);
    let pipe = pipe.and_then(|piped| RUNTIME.block_on(verify::whole_pipe(&piped, Arc::new(Quiet))));
    let pipe = pipe.inspect_err(is_sound);
    match (file, pipe) {
        (Ok(()), Ok(())) | (Err(_), Err(_)) => {}
        (Ok(()), Err(error)) => panic!("verified as a file and not as a pipe: {error}"),
        (Err(error), Ok(())) => panic!("verified as a pipe and not as a file: {error}"),
    }
}

/// Whether a bundle is, as a file.
pub fn accepted(bundle: &[u8]) -> Result<()> {
    fuzzing::sealed(bundle.to_vec())?.trust(&KEYRING, *NOW).and_then(verified)
}

fn verified(bundle: Bundle<Trusted>) -> Result<()> {
    RUNTIME.block_on(async {
        let planned = match bundle.wants() {
            Ok(wants) => bundle.plan(&wants).await,
            Err(error) => Err(error),
        };
        let verified = bundle.verify(1, Arc::new(Quiet)).await;
        match (planned, &verified) {
            (Ok(plan), Ok(verified)) => assert_eq!(plan.images, verified.statement().images),
            (Err(error), Ok(_)) => panic!("verified, but without a plan: {error}"),
            (_, Err(_)) => {}
        }
        verified.map(drop)
    })
}
