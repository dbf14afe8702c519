//! Whether others can change what lies at a place. What they can change, they decide about.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::StatVfsMountFlags;

use crate::error::{Error, Kind};

/// Looks at a file or directory that only the user who runs the program, or the superuser, may change.
/// On a read-only file system the mode does not matter.
///
/// # Errors
/// `kind`, with what is wrong and how to mend it.
pub fn of_own(facts: &Metadata, place: &Path, kind: Kind, what: &str) -> Result<(), Error> {
    let mode = facts.permissions().mode() & 0o7777;
    let (owner, me) = (facts.uid(), me());
    let shown = place.display();
    let wrong = || Error::new(kind, what.to_owned()).at(place.display());
    if owner != me && owner != 0 {
        return Err(wrong()
            .got(format_args!("owner {owner}"))
            .expected(if me == 0 { "owner 0".to_owned() } else { format!("owner {me} or 0") })
            .hint(format_args!("look at what is in it; if it is yours: chown -R {me} {shown}")));
    }
    if mode & 0o022 == 0 || is_read_only(place) {
        return Ok(());
    }
    let wrong = wrong().got(format_args!("mode {mode:04o}")).expected("writable by its owner only");
    Err(match mode & 0o1000 {
        // A place for everybody is to stay one.
        0o1000 => wrong.hint("name a directory of its own"),
        _ => wrong.hint(format_args!("chmod go-w {shown}")),
    })
}

/// Looks at the directories above: who may rename what is in them can put something else in its place.
/// A group's right is taken for the owner's doing; a sticky directory lets nobody rename what is others'.
///
/// # Errors
/// `kind`.
pub fn of_above(place: &Path, kind: Kind) -> Result<(), Error> {
    let unreadable = |e: &std::io::Error| Error::io("cannot look at what is above", place.display(), e);
    // As it is written, where links may be exchanged; and where it really is.
    let written = std::path::absolute(place).map_err(|e| unreadable(&e))?;
    let real = place.canonicalize().map_err(|e| unreadable(&e))?;
    for above in written.ancestors().skip(1).chain(real.ancestors().skip(1)) {
        let facts = above.metadata().map_err(|e| unreadable(&e))?;
        let mode = facts.permissions().mode() & 0o7777;
        let open = mode & 0o002 != 0 && mode & 0o1000 == 0;
        if (open || (facts.uid() != me() && facts.uid() != 0)) && !is_read_only(above) {
            return Err(Error::new(kind, "others can put something else in its place")
                .at(place.display())
                .got(format_args!("{} has owner {} and mode {mode:04o}", above.display(), facts.uid()))
                .expected(format_args!("owner {} or 0, and not writable by everybody", me()))
                .hint("move it below a directory that only you can write to"));
        }
    }
    Ok(())
}

fn is_read_only(place: &Path) -> bool {
    rustix::fs::statvfs(place).is_ok_and(|facts| facts.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}
