//! How images run: whom as, what, on which ports; and what they say of their making.

use super::{Case, Judged, Need, Rule};
use crate::oci::Settings;
use crate::release::{Channel, Tier};
use crate::rules::{Finding, RuleId, Service};

/// The image that one was built on, by digest (image-spec annotations.md).
const BASE_LABEL: &str = "org.opencontainers.image.base.digest";

/// Programs that are there to start others. An init that only reaps (tini, dumb-init, catatonit) is none.
const SUPERVISORS: &[&str] = &[
    "supervisord",
    "s6-svscan",
    "s6-overlay",
    "runsvdir",
    "systemd",
    "circusd",
    "monit",
    "pm2",
    "pm2-runtime",
];

/// Programs that run what their arguments say.
const SHELLS: &[&str] = &["sh", "bash", "ash", "dash", "zsh", "ksh"];

impl<'a> Case<'a> {
    /// What is agreed on this image.
    fn service(&self) -> Option<&'a Service> {
        self.rules.service(&self.image.name)
    }

    /// Builds that break an agreement.
    fn agreed(&self, judge: impl Fn(&'a Service, &'a Settings) -> Option<(String, String)>) -> Vec<Finding> {
        match self.service() {
            Some(service) => self.builds(|settings| judge(service, settings)),
            None => Vec::new(),
        }
    }
}

pub(super) const USER: Rule = Rule {
    id: RuleId::User,
    origin: "container images specification: hardening, user app (10001), non-root",
    from: None,
    binds: Tier::Community,
    asked: |rules| rules.agrees(|service| service.user.as_ref()),
    needs: &[Need::Settings],
    judge: Judged::Image(|case| {
        let agreed = case.service().and_then(|service| service.user.as_ref());
        case.builds(|settings| {
            let user = settings.user.split(':').next().unwrap_or_default();
            let is_root = matches!(user, "" | "root") || user.parse() == Ok(0u64);
            let shown =
                || if user.is_empty() { "no user, so root".to_owned() } else { format!("the user {user}") };
            match agreed {
                _ if is_root => Some((
                    shown(),
                    agreed.map_or("one other than root".to_owned(), |users| users.join(" or ")),
                )),
                Some(users) if !users.iter().any(|one| one == user) => Some((shown(), users.join(" or "))),
                _ => None,
            }
        })
    }),
    hint: "have it built with USER",
};

pub(super) const PORTS: Rule = Rule {
    id: RuleId::Ports,
    origin: "container images specification: hardening, allowed ports",
    from: None,
    binds: Tier::Community,
    asked: |rules| rules.agrees(|service| service.ports.as_ref()),
    needs: &[Need::Settings],
    judge: Judged::Image(|case| {
        let development = case.facts.channel == Channel::Development;
        case.agreed(|service, settings| {
            let ports = service.ports.as_ref()?;
            let also = service.development_ports.iter().filter(|_| development);
            let allowed: Vec<String> = ports.iter().chain(also).map(ToString::to_string).collect();
            let number = |port: &&String| port.split('/').next().unwrap_or_default().to_owned();
            let others = settings.ports.iter().filter(|port| !allowed.contains(&number(port)));
            let others: Vec<&str> = others.map(String::as_str).collect();
            let expected =
                if allowed.is_empty() { "none".to_owned() } else { format!("only {}", allowed.join(", ")) };
            (!others.is_empty()).then(|| (format!("exposed {}", others.join(", ")), expected))
        })
    }),
    hint: "have it built without that EXPOSE, or agree on the port in [policy.service]",
};

pub(super) const ENTRYPOINT: Rule = Rule {
    id: RuleId::Entrypoint,
    origin: "container images specification: expected entrypoint per service",
    from: None,
    binds: Tier::Community,
    asked: |rules| rules.agrees(|service| service.entrypoint.as_ref()),
    needs: &[Need::Settings],
    judge: Judged::Image(|case| {
        case.agreed(|service, settings| {
            let expected =
                service.entrypoint.as_ref().filter(|expected| **expected != settings.entrypoint)?;
            Some((listed(&settings.entrypoint), listed(expected)))
        })
    }),
    hint: "have it built with the agreed ENTRYPOINT, in its list form",
};

pub(super) const HEALTHCHECK: Rule = Rule {
    id: RuleId::Healthcheck,
    origin: "container images specification: expected healthcheck per service",
    from: None,
    binds: Tier::Community,
    asked: |rules| rules.agrees(|service| service.healthcheck.as_ref()),
    needs: &[Need::Settings],
    judge: Judged::Image(|case| {
        case.agreed(|service, settings| {
            let expected =
                service.healthcheck.as_ref().filter(|expected| **expected != settings.healthcheck)?;
            Some((listed(&settings.healthcheck), listed(expected)))
        })
    }),
    hint: "have it built with the agreed HEALTHCHECK; builders that leave it out in the OCI format keep it in Docker's",
};

pub(super) const PROCESS: Rule = Rule {
    id: RuleId::Process,
    origin: "NEXUS-ENGINE container bundles: the primary image is a single process",
    from: None,
    binds: Tier::Community,
    asked: |_| false,
    needs: &[Need::Settings],
    judge: Judged::Image(|case| case.builds(several)),
    hint: "start the program itself; what runs beside it is an image of its own",
};

/// Whether more is started than one program, as far as the command tells.
fn several(settings: &Settings) -> Option<(String, String)> {
    let command = settings.command();
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let expected = || "one program".to_owned();
    let Some(first) = command.first() else {
        return Some(("nothing that is started".to_owned(), expected()));
    };
    let script =
        command.iter().position(|word| *word == "-c").and_then(|at| command.get(at.saturating_add(1)));
    // Separators within a shell's text; `exec` replaces the shell by the program.
    let starts_more = |text: &&str| text.contains(['&', ';', '|', '\n']);
    let shell = SHELLS.contains(&name(first).as_str()) && script.is_some_and(starts_more);
    let supervises = command.iter().any(|word| SUPERVISORS.contains(&name(word).as_str()));
    (supervises || shell).then(|| (command.join(" "), expected()))
}

pub(super) const BASE: Rule = Rule {
    id: RuleId::Base,
    origin: "container build pipeline: base images pinned",
    from: None,
    binds: Tier::Community,
    asked: |_| false,
    needs: &[Need::Settings],
    judge: Judged::Image(|case| {
        case.builds(|settings| {
            let is_digest = |text: &str| text.parse::<crate::oci::Digest>().is_ok();
            let pinned = settings.labels.get(BASE_LABEL).is_some_and(|digest| is_digest(digest));
            let named =
                |step: &String| step.split('@').skip(1).any(|rest| rest.get(..71).is_some_and(is_digest));
            (!pinned && !settings.history.iter().any(named)).then(|| {
                (
                    "a base image without a digest".to_owned(),
                    format!("the label {BASE_LABEL}, or FROM …@sha256:… in the history"),
                )
            })
        })
    }),
    hint: "have it built FROM image@sha256:…, with the label",
};

pub(super) const LABELS: Rule = Rule {
    id: RuleId::Labels,
    origin: "R-096 containerized distribution: images say what they are",
    from: None,
    binds: Tier::Community,
    asked: |rules| !rules.labels.is_empty(),
    needs: &[Need::Settings],
    judge: Judged::Image(|case| {
        case.builds(|settings| {
            let is_absent = |label: &&String| settings.labels.get(*label).is_none_or(String::is_empty);
            let absent: Vec<&str> = case.rules.labels.iter().filter(is_absent).map(String::as_str).collect();
            (!absent.is_empty())
                .then(|| (format!("no label {}", absent.join(", ")), "these labels, as agreed".to_owned()))
        })
    }),
    hint: "have it built with the label",
};

/// A list of words as TOML and JSON have it.
fn listed(words: &[String]) -> String {
    if words.is_empty() { "none".to_owned() } else { format!("{words:?}") }
}
