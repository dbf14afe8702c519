//! How images run: whom as, what, on which ports; and what they say of their making.

use super::{About, Case, Need, Rule};
use crate::oci::{Digest, Settings};
use crate::release::{Channel, Tier};
use crate::rules::{Finding, RuleId, Service};

/// The image that one was built on, by digest (image-spec annotations.md).
const BASE_LABEL: &str = "org.opencontainers.image.base.digest";

/// Programs that are there to start others.
const SUPERVISORS: &[&str] = &[
    "supervisord",
    "s6-svscan",
    "s6-overlay-suexec",
    "runsvdir",
    "runsv",
    "systemd",
    "init",
    "my_init",
    "circusd",
    "monit",
    "pm2",
    "pm2-runtime",
    "horust",
    "dinit",
];

/// Programs that run what their arguments say, and nothing beside it.
const WRAPPERS: &[&str] =
    &["tini", "tini-static", "dumb-init", "catatonit", "docker-init", "env", "busybox", "gosu", "su-exec"];

/// Programs that run what a text says.
const SHELLS: &[&str] = &["sh", "bash", "ash", "dash", "zsh", "ksh"];

impl<'a> Case<'a> {
    /// What is agreed on this image, in one respect.
    fn service<T: 'a>(&self, on: impl Fn(&'a Service) -> Option<&'a T>) -> Option<&'a T> {
        self.rules.agreed(&self.image.name, on)
    }

    /// Builds that break an agreement.
    fn agreed<T: 'a>(
        &self,
        on: impl Fn(&'a Service) -> Option<&'a T>,
        judge: impl Fn(&'a T, &'a Settings) -> Option<(String, String)>,
    ) -> Vec<Finding> {
        match self.service(on) {
            Some(agreed) => self.builds(|settings| judge(agreed, settings)),
            None => Vec::new(),
        }
    }
}

pub(super) const USER: Rule = Rule {
    id: RuleId::User,
    origin: "container images specification: hardening, user app (10001), non-root",
    from: Some(Tier::Regulated),
    binds: None,
    asked: |rules| rules.agrees(|service| service.user.as_ref()),
    needs: &[Need::Settings],
    judge: About::Image(|case| {
        let agreed = case.service(|service| service.user.as_ref());
        case.builds(|settings| {
            let user = settings.user.split(':').next().unwrap_or_default();
            // As runc reads it: any spelling of the number zero.
            let is_root = matches!(user, "" | "root") || user.parse() == Ok(0i64);
            let shown =
                if user.is_empty() { "no user, so root".to_owned() } else { format!("the user {user}") };
            let expected = agreed.map_or("one other than root".to_owned(), |users| users.join(" or "));
            let agreed = agreed.is_none_or(|users| users.iter().any(|one| one == user));
            (is_root || !agreed).then_some((shown, expected))
        })
    }),
    hint: "have it built with USER",
};

pub(super) const PORTS: Rule = Rule {
    id: RuleId::Ports,
    origin: "container images specification: hardening, allowed ports",
    from: None,
    binds: Some(Tier::Community),
    asked: |rules| rules.agrees(|service| service.ports.as_ref()),
    needs: &[Need::Settings],
    judge: About::Image(|case| {
        let development = case.facts.channel == Channel::Development;
        let also = case.service(|service| service.development_ports.as_ref()).filter(|_| development);
        case.agreed(
            |service| service.ports.as_ref(),
            |ports, settings| {
                let allowed = ports.iter().chain(also.into_iter().flatten());
                let allowed: Vec<String> = allowed.map(|port| format!("{port}/tcp")).collect();
                // config.md, "Properties": tcp where nothing is said.
                let full =
                    |port: &String| if port.contains('/') { port.clone() } else { format!("{port}/tcp") };
                let others: Vec<String> =
                    settings.ports.iter().map(full).filter(|port| !allowed.contains(port)).collect();
                let expected = match allowed.is_empty() {
                    true => "none".to_owned(),
                    false => format!("only {}", allowed.join(", ")),
                };
                (!others.is_empty()).then(|| (format!("exposed {}", others.join(", ")), expected))
            },
        )
    }),
    hint: "have it built without that EXPOSE, or agree on the port in [policy.service]",
};

pub(super) const ENTRYPOINT: Rule = Rule {
    id: RuleId::Entrypoint,
    origin: "container images specification: expected entrypoint per service",
    from: None,
    binds: Some(Tier::Community),
    asked: |rules| {
        rules.agrees(|service| service.entrypoint.as_ref())
            || rules.agrees(|service| service.command.as_ref())
    },
    needs: &[Need::Settings],
    judge: About::Image(|case| {
        let other = |expected: &Vec<String>, there: &Vec<String>| {
            (expected != there).then(|| (listed(there), listed(expected)))
        };
        let entrypoint = case.agreed(
            |service| service.entrypoint.as_ref(),
            |expected, settings| other(expected, &settings.entrypoint),
        );
        let command = case.agreed(
            |service| service.command.as_ref(),
            |expected, settings| {
                other(expected, &settings.cmd)
                    .map(|(got, expected)| (format!("CMD {got}"), format!("CMD {expected}")))
            },
        );
        entrypoint.into_iter().chain(command).collect()
    }),
    hint: "have it built with the agreed ENTRYPOINT (and CMD), in its list form",
};

pub(super) const HEALTHCHECK: Rule = Rule {
    id: RuleId::Healthcheck,
    origin: "container images specification: expected healthcheck per service",
    from: None,
    binds: Some(Tier::Community),
    asked: |rules| rules.agrees(|service| service.healthcheck.as_ref()),
    needs: &[Need::Settings],
    judge: About::Image(|case| {
        case.agreed(
            |service| service.healthcheck.as_ref(),
            |expected, settings| {
                (*expected != settings.healthcheck).then(|| (listed(&settings.healthcheck), listed(expected)))
            },
        )
    }),
    hint: "have it built with the agreed HEALTHCHECK; builders that leave it out in the OCI format keep it in Docker's",
};

pub(super) const PROCESS: Rule = Rule {
    id: RuleId::Process,
    origin: "NEXUS-ENGINE container bundles: the primary image is a single process",
    from: None,
    binds: Some(Tier::Community),
    asked: |_| false,
    needs: &[Need::Settings],
    judge: About::Image(|case| case.builds(several)),
    hint: "start the program itself; what runs beside it is an image of its own",
};

/// Whether more is started than one program, as far as the command tells: what a script in the image does, it does
/// not.
fn several(settings: &Settings) -> Option<(String, String)> {
    let command = settings.command();
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    // Wrappers, and what they are told, are passed over.
    let wraps =
        |word: &&&str| WRAPPERS.contains(&name(word).as_str()) || word.starts_with('-') || word.contains('=');
    let wrapped = command.first().is_some_and(|first| WRAPPERS.contains(&name(first).as_str()));
    let program = if wrapped { command.iter().position(|word| !wraps(&word)) } else { Some(0) };
    let words = program.and_then(|at| command.get(at..)).unwrap_or_default();
    let Some(first) = words.first() else {
        return Some(("nothing that is started".to_owned(), "one program".to_owned()));
    };
    let reads_text = |word: &&str| {
        word.strip_prefix('-').is_some_and(|flags| !flags.starts_with('-') && flags.ends_with('c'))
    };
    let text = words.iter().position(reads_text).and_then(|at| words.get(at.saturating_add(1)));
    let shell = SHELLS.contains(&name(first).as_str()) && text.is_some_and(|text| starts_more(text));
    let supervises = SUPERVISORS.contains(&name(first).as_str());
    (supervises || shell).then(|| (command.join(" "), "one program".to_owned()))
}

/// Whether a shell's text has programs run side by side: what it runs one after the other, or gives its place to
/// (`exec`), is one at a time.
fn starts_more(text: &str) -> bool {
    let text = text.replace("&&", ";").replace(">&", ">").replace("&>", ">").replace("||", ";");
    let mut commands = text.split([';', '\n']).map(str::trim).filter(|command| !command.is_empty());
    let last = commands.next_back().unwrap_or_default();
    text.contains(['&', '|']) || (text.contains([';', '\n']) && !last.starts_with("exec "))
}

pub(super) const BASE: Rule = Rule {
    id: RuleId::Base,
    origin: "container build pipeline: base images pinned",
    from: None,
    binds: Some(Tier::Community),
    asked: |_| false,
    needs: &[Need::Settings, Need::Annotations],
    judge: About::Image(|case| {
        let is_digest = |text: &str| text.parse::<Digest>().is_ok();
        // `COPY --from=image@sha256:…` names no base.
        let from = |step: &String| {
            let rest = step.trim_start().strip_prefix("FROM ").and_then(|rest| rest.split_once('@'));
            rest.is_some_and(|(_, digest)| digest.get(..71).is_some_and(is_digest))
        };
        case.each_build(|build| {
            let label = build.settings.as_ref().and_then(|settings| settings.labels.get(BASE_LABEL));
            let annotation = build.annotations.get(BASE_LABEL);
            let history = build.settings.iter().flat_map(|settings| &settings.history);
            let named = label.into_iter().chain(annotation).any(|digest| is_digest(digest));
            (!named && !history.into_iter().any(from)).then(|| {
                (
                    "a base image without a digest".to_owned(),
                    format!("the label or annotation {BASE_LABEL}, or FROM …@sha256:… in the history"),
                )
            })
        })
    }),
    hint: "build FROM image@sha256:…, and say so: buildah writes the annotation by itself, for docker build add --label",
};

pub(super) const LABELS: Rule = Rule {
    id: RuleId::Labels,
    origin: "R-096 containerized distribution: images say what they are",
    from: None,
    binds: Some(Tier::Community),
    asked: |rules| !rules.labels.is_empty(),
    needs: &[Need::Settings],
    judge: About::Image(|case| {
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
