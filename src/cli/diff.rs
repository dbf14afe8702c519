//! `diff`: what was typed, and what is printed.

use std::sync::Arc;

use clap::{Args, ValueHint};

use super::args::{ExpiryArgs, ProgressMode, RegistryArgs, TrustArgs};
use super::{is_pipe, meant, on_runtime, progress, registry_options, report, site};
use crate::error::{Error, Exit, Kind, Result, printable};
use crate::history::Leave;
use crate::registry;
use crate::text::bytes;
use crate::verbs::diff::{Diff, Difference, FactChange, ImageChange, PlatformChange, Side, Status};

/// Arguments of `diff`.
#[derive(Args)]
pub struct DiffArgs {
    /// The older side: a bundle (its signature is checked), a release manifest, or an image
    /// (docker://host/repository:tag, oci:DIR:REF, oci-archive:FILE:REF, docker-archive:FILE:REF).
    #[arg(value_hint = ValueHint::FilePath)]
    pub old: String,
    /// The newer side, in the same words.
    #[arg(value_hint = ValueHint::FilePath)]
    pub new: String,
    /// Look for the images named FROM at TO, on both sides, as export does; may be given several times.
    #[arg(long, value_name = "FROM=TO")]
    pub mirror: Vec<String>,
    /// The same for OLD alone.
    #[arg(long, value_name = "FROM=TO")]
    pub old_mirror: Vec<String>,
    /// The same for NEW alone.
    #[arg(long, value_name = "FROM=TO")]
    pub new_mirror: Vec<String>,
    /// End with exit code 1 if the images differ; else a difference that is shown is no failure.
    #[arg(long)]
    pub exit_code: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Whom to trust.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// And for how long.
    #[command(flatten)]
    pub expiry: ExpiryArgs,
    /// Registries.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Runs it.
pub fn verb(args: DiffArgs, mode: ProgressMode) -> Result<Exit> {
    if let Some(pipe) = [&args.old, &args.new].into_iter().find(|side| is_pipe(side.as_ref())) {
        return Err(Error::new(Kind::Usage, "a side is a file or an image, not a pipe").got(pipe));
    }
    let diff = Diff {
        old: Side { what: args.old, mirrors: meant(&args.old_mirror)? },
        new: Side { what: args.new, mirrors: meant(&args.new_mirror)? },
        mirrors: meant(&args.mirror)?,
        site: site(args.trust, args.expiry.allow_expired, Leave::default()),
        jobs: args.registry.jobs.into(),
    };
    let watch = progress::watcher(mode);
    let options = registry_options(args.registry, &watch);
    let (send, receive) = std::sync::mpsc::channel();
    on_runtime(async move {
        let client = registry::Client::new(options)?;
        let difference = diff.run(&client, &Arc::clone(&watch)).await?;
        drop(watch);
        match args.json {
            true => report::json_out(&difference)?,
            false => report::out(&shown(&difference))?,
        }
        let _ = send.send(difference.same);
        Ok(())
    })?;
    let differs = receive.try_iter().any(|same| !same);
    Ok(if differs && args.exit_code { Exit::Failed } else { Exit::Done })
}

fn shown(difference: &Difference) -> String {
    let Difference { old, new, images, metadata, delta, .. } = difference;
    let side = |side: &crate::verbs::diff::Described| {
        let release = side.release.as_ref().map(|release| format!("{release}, ")).unwrap_or_default();
        let blobs = report::count(side.content.blobs, "blob");
        format!("{}: {release}{blobs}, {}\n", printable(&side.what), bytes(side.content.bytes))
    };
    let mut text = format!("old {}new {}\n{}\n", side(old), side(new), verdict(difference));
    for image in images {
        text += &image_lines(image);
    }
    text += &metadata.iter().map(fact_line).collect::<String>();
    text + &format!(
        "new has {} that old lacks, {} ({} bytes): what a delta would carry\n",
        report::count(delta.blobs, "blob"),
        bytes(delta.bytes),
        delta.bytes
    )
}

/// The one line that matters.
fn verdict(difference: &Difference) -> String {
    let images = &difference.images;
    let changed: Vec<_> = images.iter().filter(|image| image.status != Status::Same).collect();
    if changed.is_empty() {
        return format!("same: {} with the same digests", report::count(images.len(), "image"));
    }
    let words = changed.iter().map(|image| format!("{} {}", printable(&image.label()), word(image.status)));
    format!("different: {} of {}: {}", changed.len(), images.len(), words.collect::<Vec<_>>().join(", "))
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Same => "same",
        Status::Changed => "changed",
        Status::Added => "added",
        Status::Removed => "removed",
    }
}

/// `OLD -> NEW`, or the one of them that there is.
fn step(old: Option<String>, new: Option<String>) -> String {
    match (old, new) {
        (Some(old), Some(new)) if old == new => old,
        (Some(old), Some(new)) => format!("{old} -> {new}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => "nothing".to_owned(),
    }
}

fn image_lines(image: &ImageChange) -> String {
    let digest = |facts: &crate::verbs::diff::ImageFacts| facts.digest.to_string();
    let digests = step(image.old.as_ref().map(digest), image.new.as_ref().map(digest));
    let mut text = format!("{} {}: {digests}\n", word(image.status), printable(&image.label()));
    if image.status == Status::Changed {
        text += &image.platforms.iter().map(platform_line).collect::<String>();
    }
    let source = |facts: &crate::verbs::diff::ImageFacts| facts.source.to_string();
    let both = image.old.is_some() && image.new.is_some();
    let (old, new) = (image.old.as_ref().map(source), image.new.as_ref().map(source));
    if both && old != new {
        text += &format!("  name: {}\n", printable(&step(old, new)));
    }
    let tags = image.tags_added.iter().map(|tag| format!("+{tag}"));
    let tags: Vec<_> = tags.chain(image.tags_removed.iter().map(|tag| format!("-{tag}"))).collect();
    if both && !tags.is_empty() {
        text += &format!("  tags: {}\n", tags.join(" "));
    }
    let attached = (image.attached_added, image.attached_removed);
    if both && attached != (0, 0) {
        text += &format!("  attached: {} more, {} less\n", attached.0, attached.1);
    }
    text
}

fn platform_line(change: &PlatformChange) -> String {
    let build = |build: &crate::verbs::diff::BuildFacts| format!("{} ({})", build.digest, bytes(build.size));
    let builds = step(change.old.as_ref().map(build), change.new.as_ref().map(build));
    format!("  {} {}: {builds}\n", word(change.status), printable(&change.platform))
}

fn fact_line(fact: &FactChange) -> String {
    let value = |value: &Option<String>| Some(value.clone().unwrap_or_else(|| "none".to_owned()));
    format!("{}: {}\n", printable(&fact.key), printable(&step(value(&fact.old), value(&fact.new))))
}
