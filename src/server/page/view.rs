//! The page: the facts, written down for people.

use super::attached::{Attached, File, Kind};
use super::clients::{Client, Host, artifact, registries};
use super::html::{Html, html};
use super::listing::{Build, Card, Cover, Listing, Serving, Verified};
use super::{SCRIPT, STYLE};
use crate::oci::Platform;
use crate::release::Moment;
use crate::rules::Outcome;
use crate::text::bytes;

/// The icon: a crate that is lifted. In the page, so that browsers do not ask for one.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath fill='%230b5c8a' d='M8 0l4 4H9.200v3H6.800V4H4zM2 8h12v8H2z'/%3E%3C/svg%3E";

/// Days before its end from which on a bundle's expiry is pointed out.
const SOON: i64 = 30;

/// Writes the page.
pub fn page(listing: &Listing, host: &Host, now: Moment) -> String {
    let mut to = Html::default();
    let title = title(listing);
    html!(to,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>" (title) " · sealift</title>\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"");
    to.markup(ICON);
    html!(to, "\">\n<style>");
    to.markup(STYLE);
    html!(to, "</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#images\">Skip to the images</a>\n");
    head(&mut to, listing, host, &title);
    html!(to, "<main>\n");
    for cover in &listing.bundles {
        bundle(&mut to, cover, listing.bundles.len() == 1, now);
    }
    if listing.images.is_empty() {
        html!(to, "<p id=\"images\" class=\"card\">There are no images here yet.</p>\n");
    } else {
        overview(&mut to, listing);
        pulling(&mut to, listing, host);
        images(&mut to, listing, host);
    }
    rest(&mut to, listing);
    html!(to, "</main>\n");
    foot(&mut to, listing);
    html!(to, "<p id=\"live\" class=\"unseen\" role=\"status\"></p>\n<script>");
    to.markup(SCRIPT);
    html!(to, "</script>\n</body>\n</html>\n");
    to.into_text()
}

fn title(listing: &Listing) -> String {
    match (listing.serving, listing.bundles.as_slice()) {
        (Serving::Store, _) => "Image store".to_owned(),
        (_, [cover]) => format!("{} {}", cover.name, cover.version),
        (_, covers) => format!("{} releases", covers.len()),
    }
}

/// `1 image`, `2 images`.
fn count(number: usize, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}

fn head(to: &mut Html, listing: &Listing, host: &Host, title: &str) {
    let here = listing.images.len();
    let all = match listing.serving {
        Serving::Bundles => listing.bundles.iter().map(|cover| cover.images).sum(),
        Serving::Store => here,
    };
    let total = match (listing.next.is_some() || here < all, listing.serving) {
        (true, Serving::Bundles) => format!("{here} of {} on this page", count(all, "image")),
        (true, Serving::Store) => format!("{} on this page, and more behind it", count(here, "image")),
        (false, _) => count(all, "image"),
    };
    let platforms = platforms(listing).len();
    let way = match (listing.serving, listing.writable) {
        (Serving::Bundles, _) => "straight from the bundle, read-only",
        (Serving::Store, true) => "from a store that takes pushes",
        (Serving::Store, false) => "from a store, read-only",
    };
    html!(to,
        "<header class=\"top\">\n<p class=\"brand\">sealift registry</p>\n<h1>" (title) "</h1>\n<p class=\"lede\">" (total));
    // Charts and files are for none.
    if platforms > 0 {
        html!(to, " for "(count(platforms, "platform")));
    }
    html!(to, ", "(way));
    if host.known {
        html!(to, ", at <strong class=\"host\">" (host.url()) "</strong>");
    }
    html!(to, ".</p>\n</header>\n");
}

fn platforms(listing: &Listing) -> Vec<Platform> {
    let builds = listing.images.iter().flat_map(|card| &card.platforms).filter(|build| build.size.is_some());
    let mut found: Vec<_> = builds.filter_map(|build| build.platform.clone()).collect();
    found.sort();
    found.dedup();
    found
}

// ── Bundles ──────────────────────────────────────────────────────────────────────────────────────

fn bundle(to: &mut Html, cover: &Cover, alone: bool, now: Moment) {
    html!(to, "<section class=\"card bundle\" aria-label=\"Release " (cover.name) " " (cover.version) "\">\n<h2>");
    // Where there is only one, its name stands above already.
    match alone {
        true => html!(to, "Signatures and release"),
        false => html!(to, (cover.name) " " (cover.version)),
    }
    html!(to, "</h2>\n<ul class=\"verdicts\">\n");
    trusted(to, cover);
    expiry(to, cover, now);
    for check in &cover.policy.checks {
        verdict(to, outcome(check.result));
        html!(to, "Policy rule <strong>" (check.id) "</strong>: " (said(check.result)) "</span></li>\n");
    }
    html!(to, "</ul>\n<dl class=\"facts\">\n");
    fact(to, "Tier", cover.tier);
    fact(to, "Channel", cover.channel);
    fact(to, "Policy profile", &cover.policy.profile);
    fact(to, "Created", day(cover.created));
    if let Some(sequence) = cover.sequence {
        fact(to, "Sequence", sequence);
    }
    if let Some(versions) = &cover.upgrades_from {
        fact(to, "Installs over", versions);
    }
    fact(to, "Bundle", format!("{} ({} bytes)", bytes(cover.bytes), cover.bytes));
    fact(to, "Made by", &cover.producer);
    html!(to, "</dl>\n</section>\n");
}

/// `2026-11-20 09:30 UTC`.
fn day(moment: Moment) -> String {
    let text = moment.to_string();
    let (day, time) = text.split_once('T').unwrap_or((&text, ""));
    format!("{day} {} UTC", time.get(..5).unwrap_or_default())
}

/// How a verdict looks: never by colour alone.
#[derive(Clone, Copy)]
enum Look {
    Good,
    Warn,
    Bad,
    Plain,
}

/// Begins a verdict.
fn verdict(to: &mut Html, look: Look) {
    html!(to, "<li class=\"");
    to.markup(match look {
        Look::Good => "good\"><span class=\"mark\" aria-hidden=\"true\">✓",
        Look::Warn => "warn\"><span class=\"mark\" aria-hidden=\"true\">!",
        Look::Bad => "bad\"><span class=\"mark\" aria-hidden=\"true\">✗",
        Look::Plain => "plain\"><span class=\"mark\" aria-hidden=\"true\">–",
    });
    html!(to, "</span><span>");
}

fn trusted(to: &mut Html, cover: &Cover) {
    for signer in &cover.signers {
        verdict(to, Look::Good);
        html!(to, "Signed by <strong>" (signer.name) "</strong>, key ");
        copyable(to, &signer.key_id, &format!("id of key {}", signer.name));
        html!(to, "</span></li>\n");
    }
    match cover.verified {
        Verified::All => {
            verdict(to, Look::Good);
            html!(
                to,
                "<strong>Verified</strong>: every byte was read and matched the signed checksums when this server started"
            );
        }
        Verified::Head => {
            verdict(to, Look::Warn);
            html!(
                to,
                "<strong>Verified as it is pulled</strong>: signature and checksum list are good; each file is checked before it is given out for the first time"
            );
        }
    }
    html!(to, "</span></li>\n");
}

fn expiry(to: &mut Html, cover: &Cover, now: Moment) {
    let days = cover.expires.map(|expires| expires.days_since(now));
    let left = |days: i64| count(days.unsigned_abs() as usize, "day");
    match (cover.expires, days) {
        (Some(expires), _) if cover.expired => {
            verdict(to, Look::Bad);
            html!(to, "<strong>Expired</strong> on <time datetime=\"" (expires) "\">" (day(expires)) "</time>: taken with --allow-expired, or since this server started");
        }
        (Some(expires), Some(days)) if days < SOON => {
            verdict(to, Look::Warn);
            html!(to, "<strong>Expires soon</strong>: <time datetime=\"" (expires) "\">" (day(expires)) "</time>, in " (left(days)));
        }
        (Some(expires), Some(days)) => {
            verdict(to, Look::Good);
            html!(to, "Expires <time datetime=\"" (expires) "\">" (day(expires)) "</time>, in " (left(days)));
        }
        _ => {
            verdict(to, Look::Plain);
            html!(to, "Does not expire");
        }
    }
    html!(to, "</span></li>\n");
}

fn outcome(outcome: Outcome) -> Look {
    match outcome {
        Outcome::Pass => Look::Good,
        Outcome::Warn | Outcome::Waived => Look::Warn,
        Outcome::Fail => Look::Bad,
    }
}

fn said(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "kept",
        Outcome::Warn => "broken, which this profile allows",
        Outcome::Fail => "broken",
        Outcome::Waived => "broken, and waived by somebody responsible",
    }
}

fn fact(to: &mut Html, name: &'static str, value: impl std::fmt::Display) {
    html!(to, "<div><dt>" (name) "</dt><dd>" (value) "</dd></div>\n");
}

// ── Overview ─────────────────────────────────────────────────────────────────────────────────────

fn overview(to: &mut Html, listing: &Listing) {
    let platforms = platforms(listing);
    let rows = if listing.serving == Serving::Store { "Repository and tag" } else { "Image and variant" };
    html!(to,
        "<section aria-labelledby=\"overview\">\n<h2 id=\"overview\">Overview</h2>\n"
        "<div class=\"scroll\" role=\"region\" aria-labelledby=\"overview\" tabindex=\"0\">\n<table class=\"matrix\">\n"
        "<caption>Download size of each image for each platform</caption>\n<thead><tr><th scope=\"col\">" (rows) "</th>");
    for platform in &platforms {
        html!(to, "<th scope=\"col\" class=\"number\">" (platform) "</th>");
    }
    if platforms.is_empty() {
        html!(to, "<th scope=\"col\" class=\"number\">Size</th>");
    }
    html!(to, "</tr></thead>\n");
    let mut group = None;
    html!(to, "<tbody>\n");
    for (number, card) in listing.images.iter().enumerate() {
        let cover = card.bundle.filter(|bundle| listing.bundles.len() > 1 && group != Some(*bundle));
        if let Some(cover) = cover.and_then(|bundle| listing.bundles.get(bundle)) {
            group = card.bundle;
            html!(to, "</tbody>\n<tbody>\n<tr class=\"group\"><th scope=\"rowgroup\" colspan=\""
                (platforms.len().max(1).saturating_add(1)) "\">" (cover.name) " " (cover.version) "</th></tr>\n");
        }
        overview_row(to, number, card, &platforms);
    }
    html!(to, "</tbody>\n</table>\n</div>\n</section>\n");
}

fn overview_row(to: &mut Html, number: usize, card: &Card, platforms: &[Platform]) {
    html!(to, "<tr data-image=\"image-" (number) "\"><th scope=\"row\"><a href=\"#image-" (number) "\">" (card.title()) "</a></th>");
    let everywhere: Vec<_> = card.platforms.iter().filter(|build| build.platform.is_none()).collect();
    let only = !everywhere.is_empty() && everywhere.len() == card.platforms.len();
    if platforms.is_empty() || only {
        html!(to, "<td class=\"number\" colspan=\"" (platforms.len().max(1)) "\">" (bytes(card.bytes())));
        // Not the size for the platform whose column it ends in.
        if !platforms.is_empty() {
            html!(to, " for any platform");
        }
        return html!(to, "</td></tr>\n");
    }
    for platform in platforms {
        let build = card.platforms.iter().find(|build| build.platform.as_ref() == Some(platform));
        match build {
            Some(Build { size: Some(size), .. }) => html!(to, "<td class=\"number\">" (bytes(*size)) "</td>"),
            Some(_) => html!(to, "<td class=\"number\">not here</td>"),
            None => html!(to, "<td class=\"number none\"><span aria-label=\"none\">–</span></td>"),
        }
    }
    html!(to, "</tr>\n");
}

// ── Pulling ──────────────────────────────────────────────────────────────────────────────────────

fn pulling(to: &mut Html, listing: &Listing, host: &Host) {
    html!(to,
        "<section class=\"pulling\" aria-labelledby=\"pulling\">\n<h2 id=\"pulling\">Pulling</h2>\n"
        "<fieldset class=\"clients\"><legend>Show commands for</legend>\n");
    for client in Client::ALL {
        html!(to, "<label><input type=\"radio\" name=\"client\" id=\"client-" (client.id()) "\"");
        if client == Client::Docker {
            html!(to, " checked");
        }
        html!(to, "><span>" (client.label()) "</span></label>\n");
    }
    html!(to, "</fieldset>\n");
    address(to, host);
    let registries = registries(listing);
    for client in Client::ALL {
        let steps = client.setup(host, &registries, listing.login);
        html!(to, "<div class=\"for " (client.id()) "\">\n");
        if steps.is_empty() {
            html!(to, "<p>" (client.label()) " needs no setup for this address: 127.0.0.0/8 is trusted without TLS.</p>\n</div>\n");
            continue;
        }
        html!(to, "<details class=\"setup\"><summary>Set up " (client.label()) " for " (host.url()) "</summary>\n<ol>\n");
        for step in steps {
            html!(to, "<li><p>" (step.what) "</p>");
            if let Some(file) = &step.file {
                html!(to, "<p class=\"file\">" (file) "</p>");
            }
            html!(to, "<div class=\"copyable block\"><pre tabindex=\"0\"><code data-copy=\"setup for " (client.label()) "\">");
            to.code(step.code.trim_end());
            html!(to, "</code></pre></div></li>\n");
        }
        html!(to, "</ol></details>\n</div>\n");
    }
    html!(to, "</section>\n");
}

/// What is to be known of the address before it is used.
fn address(to: &mut Html, host: &Host) {
    if !host.known {
        html!(to, "<p class=\"note\">Put the name and port of this server in the place of HOST:PORT.</p>\n");
    }
    if host.loopback {
        html!(to,
            "<p class=\"note\">" (host.text) " is this machine only. For other machines, start sealift with "
            "<code>--listen</code> and open this page under the server’s name: the commands change with it.</p>\n");
    } else if host.known && !host.secure {
        html!(to,
            "<p class=\"note warn\"><strong>Plain HTTP:</strong> anybody on the way can change what this server sends. "
            "What is pulled by digest (<code>NAME@sha256:…</code>) is safe from that; so is everything where the server "
            "is started with TLS (<code>--self-signed</code>, or <code>--tls-cert</code>).</p>\n");
    }
}

// ── Images ───────────────────────────────────────────────────────────────────────────────────────

fn images(to: &mut Html, listing: &Listing, host: &Host) {
    html!(
        to,
        "<section aria-labelledby=\"images\">\n<h2 id=\"images\" tabindex=\"-1\">Images</h2>\n<div id=\"filter\"></div>\n"
    );
    for (number, card) in listing.images.iter().enumerate() {
        image(to, number, card, listing, host);
    }
    html!(to, "</section>\n");
}

fn image(to: &mut Html, number: usize, card: &Card, listing: &Listing, host: &Host) {
    html!(to, "<article class=\"card image\" id=\"image-" (number) "\" aria-labelledby=\"title-" (number) "\">\n<h3 id=\"title-" (number) "\">");
    match (&card.name, &card.variant) {
        (Some(name), Some(variant)) => html!(to, (name) " <span class=\"variant\">" (variant) "</span>"),
        _ => html!(to, (card.repository)),
    }
    html!(to, "</h3>\n");
    if let Some(cover) =
        card.bundle.filter(|_| listing.bundles.len() > 1).and_then(|at| listing.bundles.get(at))
    {
        html!(to, "<p class=\"origin\">" (cover.name) " " (cover.version) "</p>\n");
    }
    commands(to, card, listing.login, host);
    html!(to, "<dl class=\"facts\">\n");
    tags(to, card, host);
    html!(to, "<div class=\"wide\"><dt>Digest</dt><dd>");
    copyable(to, &card.digest.to_string(), &format!("digest of {}", card.title()));
    html!(to, "</dd></div>\n");
    if let Some(source) = &card.source {
        html!(to, "<div class=\"wide\"><dt>Name at its origin</dt><dd>");
        copyable(to, &source.to_string(), &format!("origin of {}", card.title()));
        html!(to, "</dd></div>\n");
    }
    if let Some(kind) = &card.artifact_type {
        html!(to, "<div class=\"wide\"><dt>Not a container image, but</dt><dd><code>" (kind) "</code></dd></div>\n");
    }
    html!(to, "</dl>\n");
    if let Some(gap) = card.unread {
        html!(to, "<p class=\"note warn\">Not all is told here: " (gap) ".</p>\n");
    }
    builds(to, card);
    left_out(to, card);
    attached(to, card);
    html!(to, "</article>\n");
}

fn copyable(to: &mut Html, text: &str, what: &str) {
    html!(to, "<span class=\"copyable\"><code data-copy=\"" (what) "\">");
    to.code(text);
    html!(to, "</code></span>");
}

fn commands(to: &mut Html, card: &Card, login: bool, host: &Host) {
    let title = card.title();
    let mut command = |class: &'static str, label: &str, command: String| {
        html!(to, "<div class=\"command");
        to.markup(class);
        html!(to, "\"><span class=\"label\">" (label) "</span><span class=\"copyable line\"><code data-copy=\"" (label) " command for " (title) "\">");
        to.code(&command);
        html!(to, "</code></span></div>\n");
    };
    if card.artifact_type.is_some() {
        return command("", "Download", artifact(host, card));
    }
    for client in Client::ALL {
        let class = match client {
            Client::Docker => " for docker",
            Client::Podman => " for podman",
            Client::Containerd => " for containerd",
            Client::K3s => " for k3s",
        };
        command(class, client.label(), client.command(host, card, login));
    }
}

fn tags(to: &mut Html, card: &Card, host: &Host) {
    html!(to, "<div class=\"wide\"><dt>Names here</dt><dd><ul class=\"tags\">\n");
    for reference in &card.pull {
        html!(to, "<li>");
        copyable(to, &format!("{}/{reference}", host.text), &format!("name {reference}"));
        html!(to, "</li>\n");
    }
    html!(to, "</ul></dd></div>\n");
}

fn builds(to: &mut Html, card: &Card) {
    if card.platforms.is_empty() {
        return html!(to, "<p>One image for any platform.</p>\n");
    }
    html!(to,
        "<table class=\"builds\" role=\"table\">\n<caption>Platforms of " (card.title()) "</caption>\n"
        "<thead role=\"rowgroup\"><tr role=\"row\"><th role=\"columnheader\" scope=\"col\">Platform</th>"
        "<th role=\"columnheader\" scope=\"col\" class=\"number\">Size</th>"
        "<th role=\"columnheader\" scope=\"col\" class=\"digest\">Digest</th></tr></thead>\n<tbody role=\"rowgroup\">\n");
    for build in &card.platforms {
        let platform = build.platform.as_ref().map_or_else(|| "any".to_owned(), ToString::to_string);
        let size = build.size.map_or_else(|| "not here".to_owned(), bytes);
        html!(to,
            "<tr role=\"row\"><th role=\"rowheader\" scope=\"row\">" (platform)
            "</th><td role=\"cell\" class=\"number\">" (size) "</td><td role=\"cell\" class=\"digest\">");
        copyable(to, &build.digest.to_string(), &format!("digest of {} for {platform}", card.title()));
        html!(to, "</td></tr>\n");
    }
    html!(to, "</tbody>\n</table>\n");
}

fn left_out(to: &mut Html, card: &Card) {
    if card.omitted.is_empty() {
        return;
    }
    html!(to, "<details><summary>" (count(card.omitted.len(), "part")) " left out when the bundle was made</summary>\n<ul>\n");
    for omitted in &card.omitted {
        let platform = omitted.platform.as_ref().map(ToString::to_string);
        let digest = omitted.digest.map(|digest| digest.to_string());
        let what = [platform, digest].into_iter().flatten().collect::<Vec<_>>().join(" ");
        html!(to, "<li class=\"long\">" (what) ": " (omitted.reason) "</li>\n");
    }
    html!(to, "</ul></details>\n");
}

fn attached(to: &mut Html, card: &Card) {
    if card.attached.is_empty() {
        return html!(
            to,
            "<p class=\"quiet\">No SBOM, scan result or signature of its own is attached.</p>\n"
        );
    }
    html!(to, "<details class=\"attached\"><summary>Attached: " (summary(card)) "</summary>\n");
    html!(to,
        "<table role=\"table\">\n<caption>Attached to " (card.title()) "</caption>\n"
        "<thead role=\"rowgroup\"><tr role=\"row\"><th role=\"columnheader\" scope=\"col\">What</th>"
        "<th role=\"columnheader\" scope=\"col\">For</th>"
        "<th role=\"columnheader\" scope=\"col\" class=\"number\">Size</th>"
        "<th role=\"columnheader\" scope=\"col\" class=\"digest\">Digest and download</th></tr></thead>\n<tbody role=\"rowgroup\">\n");
    for attached in &card.attached {
        for file in &attached.files {
            attached_row(to, attached, Some(file));
        }
        if attached.files.is_empty() {
            attached_row(to, attached, None);
        }
    }
    html!(to, "</tbody>\n</table>\n</details>\n");
}

/// `3 × SBOM (SPDX), 1 × Signature (cosign)`.
fn summary(card: &Card) -> String {
    let mut labels: Vec<(&str, usize)> = Vec::new();
    for attached in &card.attached {
        let own = attached.files.is_empty().then(|| kind(attached.kind));
        for label in attached.files.iter().map(|file| file.label).chain(own) {
            match labels.iter_mut().find(|(known, _)| *known == label) {
                Some((_, number)) => *number = number.saturating_add(1),
                None => labels.push((label, 1)),
            }
        }
    }
    labels.iter().map(|(label, number)| format!("{number} × {label}")).collect::<Vec<_>>().join(", ")
}

fn attached_row(to: &mut Html, attached: &Attached, file: Option<&File>) {
    let label = file.map_or(kind(attached.kind), |file| file.label);
    let platform = attached.platform.as_ref().map_or_else(|| "all platforms".to_owned(), ToString::to_string);
    let size = file.map_or(attached.size, |file| file.size);
    let digest = file.map_or(attached.digest, |file| file.digest);
    html!(to, "<tr role=\"row\"><th role=\"rowheader\" scope=\"row\">"(label));
    let own = file.map_or(attached.artifact_type.as_str(), |file| file.media_type.as_str());
    let title = file.and_then(|file| file.title.as_deref());
    // The label says more than a media type, but for what has no label.
    if let Some(detail) = title.or(Some(own).filter(|_| attached.kind == Kind::Other)) {
        html!(to, "<span class=\"detail\">" (detail) "</span>");
    }
    html!(to,
        "</th><td role=\"cell\" class=\"about\">" (platform) "</td><td role=\"cell\" class=\"number\">" (bytes(size))
        "</td><td role=\"cell\" class=\"digest\">");
    copyable(to, &digest.to_string(), &format!("digest of {label} for {platform}"));
    let repository = &attached.repository;
    html!(to, "<span class=\"links\">");
    if file.is_some() {
        html!(to,
            "<a download=\"" (file_name(attached, label)) "\" href=\"/v2/" (repository) "/blobs/" (digest)
            "\">Download<span class=\"unseen\"> " (label) " for " (platform) "</span></a> ");
    }
    html!(to,
        "<a download href=\"/v2/" (repository) "/manifests/" (attached.digest)
        "\">Manifest<span class=\"unseen\"> of " (label) " for " (platform) "</span></a></span></td></tr>\n");
}

/// What a download is called: short, and never by a name that somebody else chose.
fn file_name(attached: &Attached, label: &str) -> String {
    let repository = attached.repository.as_str().rsplit('/').next().unwrap_or_default();
    let platform = attached.platform.as_ref().map(|platform| format!("-{platform}")).unwrap_or_default();
    let kind: String =
        label.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric() || *c == ' ').collect();
    format!("{repository}{}-{}.json", platform.replace('/', "-"), kind.replace(' ', "-"))
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Sbom => "SBOM",
        Kind::Scan => "Scan result",
        Kind::Vex => "VEX",
        Kind::Provenance => "Provenance",
        Kind::Signature => "Signature",
        Kind::Attestation => "Attestation",
        Kind::Other => "Other content",
    }
}

// ── The rest ─────────────────────────────────────────────────────────────────────────────────────

fn rest(to: &mut Html, listing: &Listing) {
    if listing.serving == Serving::Store {
        html!(to,
            "<p class=\"note\">This is a store: what is in it was verified when it was imported, or pushed by somebody who may. "
            "Who signed the bundles it came from is in the receipts of those imports.</p>\n");
    }
    names(to, "Repositories without a tag", listing.untagged.iter().map(ToString::to_string));
    names(to, "Names that lead nowhere", listing.broken.iter().cloned());
    if let Some(next) = &listing.next {
        html!(to, "<nav class=\"more\" aria-label=\"Pages\"><a href=\"/?after=");
        to.text(form_urlencoded::byte_serialize(next.as_bytes()).collect::<String>());
        html!(to, "\">Next page</a></nav>\n");
    }
}

fn names(to: &mut Html, what: &'static str, names: impl ExactSizeIterator<Item = String>) {
    if names.len() == 0 {
        return;
    }
    html!(to, "<section class=\"card\"><h2>" (what) "</h2>\n<ul>\n");
    for name in names {
        html!(to, "<li class=\"long\">" (name) "</li>\n");
    }
    html!(to, "</ul></section>\n");
}

fn foot(to: &mut Html, listing: &Listing) {
    html!(to, "<footer>\n<p>The same facts as JSON: <a href=\"/api/v1/contents");
    if listing.serving == Serving::Bundles {
        html!(
            to,
            "\">/api/v1/contents</a>. A copy of this page proves nothing: check a bundle yourself with <code>sealift verify</code>.</p>\n"
        );
    } else {
        html!(to, "\">/api/v1/contents</a>. Check a store with <code>sealift store check</code>.</p>\n");
    }
    html!(to, "<p>sealift " (env!("CARGO_PKG_VERSION")) "</p>\n</footer>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::{Channel, Tier};
    use crate::rules::{Check, PolicyRecord};

    fn moment(text: &str) -> Moment {
        serde_json::from_str(&format!("{text:?}")).unwrap()
    }

    fn cover(expires: Option<&str>, expired: bool, result: Outcome) -> Cover {
        Cover {
            name: "nexus".parse().unwrap(),
            version: "1".parse().unwrap(),
            tier: Tier::Community,
            channel: Channel::Staging,
            created: moment("2026-01-01T00:00:00Z"),
            expires: expires.map(moment),
            expired,
            sequence: None,
            upgrades_from: None,
            producer: "sealift".to_owned(),
            policy: PolicyRecord {
                checks: vec![Check {
                    findings: Vec::new(),
                    id: "budget".to_owned(),
                    more: 0,
                    noted: Vec::new(),
                    result,
                }],
                cosign: Vec::new(),
                profile: "community".to_owned(),
            },
            signers: Vec::new(),
            verified: Verified::All,
            bytes: 1,
            images: 0,
        }
    }

    #[test]
    fn verdicts_are_words_and_signs_and_not_only_colours() {
        let now = moment("2026-11-21T12:00:00Z");
        for (cover, said) in [
            (cover(None, false, Outcome::Pass), ["–</span><span>Does not expire", "</strong>: kept"]),
            (
                cover(Some("2027-11-21T12:00:00Z"), false, Outcome::Warn),
                ["2027-11-21 12:00 UTC</time>, in 365 days", "</strong>: broken, which this profile allows"],
            ),
            (
                cover(Some("2026-11-22T13:00:00Z"), false, Outcome::Waived),
                ["!</span><span><strong>Expires soon</strong>", "waived by somebody responsible"],
            ),
            (
                cover(Some("2026-11-21T12:00:00Z"), true, Outcome::Fail),
                ["✗</span><span><strong>Expired</strong> on", "</strong>: broken</span>"],
            ),
        ] {
            let mut to = Html::default();
            bundle(&mut to, &cover, true, now);
            let text = to.into_text();
            assert!(said.iter().all(|said| text.contains(said)), "{said:?} in {text}");
        }
    }
}
