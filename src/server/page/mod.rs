//! What people see: one page at `/`, and the same facts as JSON at `/api/v1/contents`. The page is whole
//! without a script, loads nothing, and is made anew for each request; the script only copies and filters.
//!
//! Names and types of images are foreign text: they are escaped wherever they stand ([`html`]), and should
//! one ever get through, the policy sent along lets no other script run than the page's own.

mod attached;
mod clients;
mod gather;
mod html;
mod listing;
mod view;

use std::sync::LazyLock;

use base64::Engine as _;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use tokio::sync::Semaphore;

use super::Server;
use super::answer::{Answer, Body, Code};
use super::route::Query;
use crate::limits;
use crate::oci::Digest;
use crate::plan::Image;
use crate::release::Moment;

use gather::{Gather, Names};
use listing::{Listing, Serving};

pub(super) use clients::Host;
pub use listing::{Cover, Signature, Verified};

/// Where it is asked whether the server is alive.
pub(super) const HEALTH: &str = "/healthz";

pub(super) fn healthy() -> Answer {
    Answer::of(StatusCode::OK, "text/plain", Body::Bytes("ok\n".into()))
}

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A bundle, as it is shown.
pub struct Shown {
    /// What it says of itself.
    pub cover: Cover,
    /// Its images.
    pub images: Vec<Image>,
}

/// What is shown besides that which is found in the holdings.
pub struct Page {
    /// The bundles that are served; none where a store is.
    shown: Vec<Shown>,
    names: Names,
    turns: Semaphore,
}

impl Page {
    /// The page of a server of these bundles, or of a store.
    pub fn new(shown: Vec<Shown>) -> Self {
        let names = Names::of(&shown);
        Page { shown, names, turns: Semaphore::new(limits::PAGES_AT_ONCE) }
    }

    /// All images, and which bundle each is in.
    fn images(&self) -> impl Iterator<Item = (usize, &Image)> {
        let numbered = self.shown.iter().enumerate();
        numbered.flat_map(|(number, shown)| shown.images.iter().map(move |image| (number, image)))
    }
}

impl Server {
    /// Whatever is not below `/v2/`.
    pub(super) async fn page(&self, path: &str, host: Host, query: &Query) -> Result<Answer, Answer> {
        match path {
            "/" => {
                let listing = self.listing(query).await?;
                let text = view::page(&listing, &host, Moment::now());
                Ok(guarded(Answer::of(StatusCode::OK, "text/html; charset=utf-8", Body::Bytes(text.into()))))
            }
            "/api/v1/contents" => {
                let listing = self.listing(query).await?;
                let value = serde_json::to_value(&listing).unwrap_or_default();
                Ok(Answer::json(&value).with(CACHE_CONTROL, "no-store"))
            }
            _ => Err(Answer::error(Code::NotFound, "there is nothing at this path")),
        }
    }

    /// The facts, as they are now.
    async fn listing(&self, query: &Query) -> Result<Listing, Answer> {
        let _turn = self.page.turns.acquire().await;
        let mut gather = Gather::new(&*self.holdings, &*self.trouble);
        let (after, count) = (query.get("after"), limits::PAGE_IMAGES);
        let mut listing = self.empty();
        match listing.serving {
            Serving::Bundles => {
                let from = after.map_or(Ok(0), str::parse).map_err(|_| nowhere())?;
                (listing.images, listing.next) = gather.bundles(&self.page, from, count).await;
            }
            Serving::Store => {
                let stock = gather.store(after, count).await.map_err(|e| self.broken(e))?;
                let stock = stock.ok_or_else(nowhere)?;
                listing.images = stock.cards;
                listing.untagged = stock.untagged;
                listing.broken = stock.broken;
                listing.next = stock.next;
            }
        }
        Ok(listing)
    }

    fn empty(&self) -> Listing {
        let now = Moment::now();
        let cover = |shown: &Shown| {
            let expired = shown.cover.expires.is_some_and(|expires| expires <= now);
            Cover { expired, ..shown.cover.clone() }
        };
        Listing {
            version: 1,
            serving: if self.page.shown.is_empty() { Serving::Store } else { Serving::Bundles },
            writable: self.stock.is_some(),
            login: self.gate.users.is_some() && !self.gate.anonymous_pull,
            bundles: self.page.shown.iter().map(cover).collect(),
            images: Vec::new(),
            untagged: Vec::new(),
            broken: Vec::new(),
            next: None,
        }
    }
}

fn nowhere() -> Answer {
    Answer::error(Code::NotFound, "no page begins there")
}

/// The policy of the page: its own style and script, known by their digests, the icon in it, and nothing else.
fn policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let hash = |text: &str| {
            base64::engine::general_purpose::STANDARD.encode(Digest::of(text.as_bytes()).bytes())
        };
        format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash(SCRIPT),
            hash(STYLE)
        )
    });
    &POLICY
}

fn guarded(answer: Answer) -> Answer {
    answer
        .with(CONTENT_SECURITY_POLICY, policy())
        .with(REFERRER_POLICY, "no-referrer")
        .with(CACHE_CONTROL, "no-store")
}
