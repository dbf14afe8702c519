//! Docker's words, where they differ from OCI's: the `manifest.json` of a saved archive, and names that leave out what
//! goes without saying there.

use serde::Deserialize;

use super::{Digest, Name, strict};
use crate::error::{Error, Kind, Result};

/// An image of a docker archive: the paths of its files, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerImage {
    /// The image config's path.
    pub config: String,
    /// Its names, as they stand there.
    pub names: Vec<String>,
    /// The layers' paths, the lowest first.
    pub layers: Vec<String>,
}

/// Parses the `manifest.json` of a docker archive.
///
/// # Errors
/// `DocumentInvalid`, `DocumentAmbiguous`.
pub fn docker_index(bytes: &[u8]) -> Result<Vec<DockerImage>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct View {
        config: String,
        repo_tags: Option<Vec<String>>,
        layers: Option<Vec<String>>,
    }
    strict::check_list(bytes, &strict::DOCKER_IMAGE)?;
    let views: Vec<View> = serde_json::from_slice(bytes)
        .map_err(|e| Error::new(Kind::DocumentInvalid, "not a docker archive's manifest.json").got(e))?;
    let image = |view: View| DockerImage {
        config: view.config,
        names: view.repo_tags.unwrap_or_default(),
        layers: view.layers.unwrap_or_default(),
    };
    Ok(views.into_iter().map(image).collect())
}

/// The digests of an image's layers as they are unpacked, the lowest first, as its config names them (config.md,
/// `rootfs`).
///
/// # Errors
/// `DocumentInvalid`, `DocumentAmbiguous`, `DigestInvalid`.
pub fn diff_ids(config: &[u8]) -> Result<Vec<Digest>> {
    #[derive(Deserialize)]
    struct View {
        rootfs: RootFs,
    }
    #[derive(Deserialize)]
    struct RootFs {
        #[serde(default)]
        diff_ids: Option<Vec<String>>,
    }
    strict::check(config, &strict::CONFIG)?;
    let view: View = serde_json::from_slice(config)
        .map_err(|e| Error::new(Kind::DocumentInvalid, "not a valid image config").got(e))?;
    view.rootfs.diff_ids.unwrap_or_default().iter().map(|digest| digest.parse()).collect()
}

/// The full name that Docker takes a name for: `nginx` is `docker.io/library/nginx:latest`. `None` for what is no name
/// with a tag.
pub fn docker_name(text: &str) -> Option<Name> {
    let (first, rest) = text.split_once('/').unwrap_or(("", text));
    let is_host =
        first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase());
    let (host, path) = if is_host { (first, rest) } else { ("docker.io", text) };
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    let (path, tag) = path.rsplit_once(':').unwrap_or((path, "latest"));
    let library = if host == "docker.io" && !path.contains('/') { "library/" } else { "" };
    format!("{host}/{library}{path}:{tag}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_docker_takes_them_for() {
        for (text, expected) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1", "docker.io/library/nginx:1"),
            ("library/nginx:1", "docker.io/library/nginx:1"),
            ("docker.io/nginx:1", "docker.io/library/nginx:1"),
            ("index.docker.io/library/nginx:1", "docker.io/library/nginx:1"),
            ("user/app", "docker.io/user/app:latest"),
            ("localhost/app:1", "localhost/app:1"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("registry.example.com/a/b:2", "registry.example.com/a/b:2"),
        ] {
            assert_eq!(docker_name(text).unwrap().to_string(), expected, "{text}");
        }
        for text in ["", ":", "nginx:", "Nginx", "a//b", "../x", "a@sha256:00", "registry.example.com/"] {
            assert_eq!(docker_name(text), None, "{text}");
        }
    }

    #[test]
    fn an_index_that_readers_understand_differently_is_refused() {
        for (text, kind) in [
            (r#"[{"Config":"a","Layers":[]}]"#, None),
            (r#"[{"Config":"a","RepoTags":null,"Layers":null,"Parent":"x"}]"#, None),
            ("[]", None),
            (r#"[{"Config":"a","config":"b"}]"#, Some(Kind::DocumentAmbiguous)),
            (r#"[{"Config":"a","Config":"b"}]"#, Some(Kind::DocumentAmbiguous)),
            (r#"{"Config":"a"}"#, Some(Kind::DocumentInvalid)),
            (r#"[{"Layers":[]}]"#, Some(Kind::DocumentInvalid)),
            ("[1]", Some(Kind::DocumentInvalid)),
        ] {
            assert_eq!(docker_index(text.as_bytes()).err().map(|e| e.kind()), kind, "{text}");
        }
    }
}
