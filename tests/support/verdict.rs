//! Judging a bundle from all sides: as a file and through a pipe, by verify and by import, into a layout
//! and into a registry that would take anything.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex};

use super::lying::{Answer, Lying, Request};
use super::{Run, Scratch, run, sha256};

/// A registry that takes whatever it is sent, and knows what its tags lead to.
pub fn taking_all() -> Lying {
    taking_all_but(|_, _| None)
}

/// The same, but for the requests that `instead` answers; the number counts requests from 0.
pub fn taking_all_but(instead: impl Fn(&Request, usize) -> Option<Answer> + Send + Sync + 'static) -> Lying {
    let documents = Arc::new(Mutex::new(HashMap::<String, Vec<u8>>::new()));
    Lying::start(move |request, number| {
        if let Some(answer) = instead(request, number) {
            return answer;
        }
        let mut documents = documents.lock().unwrap();
        let path = request.path.clone();
        match request.method.as_str() {
            "GET" if path == "/v2/" => Answer::new(200),
            "POST" => Answer::new(202).header("Location", format!("/v2/session/{number}")),
            "PUT" | "PATCH" => {
                if path.contains("/manifests/") {
                    documents.insert(path, request.body.clone());
                }
                Answer::new(if request.method == "PUT" { 201 } else { 202 })
            }
            "DELETE" => Answer::new(204),
            _ => match documents.get(&path) {
                Some(document) => {
                    let digest = format!("sha256:{}", sha256(document));
                    Answer::new(200).header("Docker-Content-Digest", digest).body(document)
                }
                None => Answer::new(404),
            },
        }
    })
}

/// Requests that would change something at a registry.
pub fn writes(server: &Lying) -> Vec<String> {
    let asks = |method: &str| matches!(method, "GET" | "HEAD");
    let written = server.seen().into_iter().filter(|request| !asks(&request.method));
    written.map(|request| format!("{} {}", request.method, request.path)).collect()
}

/// Requests that would move a tag.
pub fn tags(server: &Lying) -> Vec<String> {
    let tag = |write: &String| {
        write.starts_with("PUT ") && write.contains("/manifests/") && !write.contains("/sha256:")
    };
    writes(server).into_iter().filter(tag).collect()
}

/// A command that reads a file through standard input.
pub fn piped(scratch: &Scratch, file: &str, arguments: &str) -> Run {
    let mut command = scratch.command(arguments);
    command.stdin(File::open(scratch.path(file)).unwrap());
    run(command)
}

/// Whether a run is this failure; `kind` may name several kinds: `A or B`.
pub fn is_one_of(run: &Run, code: i32, kind: &str) -> bool {
    kind.split(" or ").any(|kind| run.is_failure(code, kind))
}

/// What is wrong with how a file is judged: it must be refused with exit code 3 and the kind that is named
/// for files and for pipes, nothing foreign may reach the terminal as it is, and nothing may be written.
/// Through a pipe content may have gone to a registry before the fault came by, but no tag.
pub fn refused(scratch: &Scratch, file: &str, filed: &str, through_pipe: &str) -> Result<(), String> {
    let server = taking_all();
    let to = server.host();
    let check = |run: Run, kind: &str| {
        let raw = run.stderr.chars().any(|c| c.is_control() && c != '\n');
        match is_one_of(&run, 3, kind) {
            true if raw => Err(format!("control characters in {:?}", run.stderr)),
            true => Ok(()),
            false => Err(format!("expected exit 3 [{kind}]\n{run}")),
        }
    };
    for command in ["verify", "import --to oci:destination", &format!("import --to {to}")] {
        check(scratch.sealift(&format!("{command} {file} --trust trust")), filed)?;
    }
    if !writes(&server).is_empty() {
        return Err(format!("the registry was sent {:?}", writes(&server)));
    }
    if scratch.has("destination") {
        return Err("the destination was touched".into());
    }
    for command in ["verify", "import --to oci:piped", &format!("import --to {to}")] {
        check(piped(scratch, file, &format!("{command} - --trust trust")), through_pipe)?;
    }
    if !tags(&server).is_empty() {
        return Err(format!("tags were set: {:?}", tags(&server)));
    }
    // What an import through a pipe has begun is no layout yet.
    if scratch.has("piped/index.json") {
        return Err("the destination names images".into());
    }
    let _ = std::fs::remove_dir_all(scratch.path("piped"));
    Ok(())
}

/// The control: what this file would have done if it were good.
pub fn accepted(scratch: &Scratch, file: &str) {
    let server = taking_all();
    let to = server.host();
    for command in ["verify", &format!("import --to {to}")] {
        scratch.sealift(&format!("{command} {file} --trust trust")).ok();
        piped(scratch, file, &format!("{command} - --trust trust")).ok();
    }
    assert!(!tags(&server).is_empty(), "the registry was sent nothing: {:?}", server.seen());
}

/// Judges each recipe's bundle, and reports all that were judged otherwise.
pub fn all_refused(
    scratch: &Scratch,
    recipes: impl IntoIterator<Item = (String, Vec<u8>, String, String)>,
) -> usize {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (name, bundle, filed, through_pipe) in recipes {
        count += 1;
        scratch.write("spoiled.tar", bundle);
        if let Err(what) = refused(scratch, "spoiled.tar", &filed, &through_pipe) {
            wrong.push(format!("{name}: {what}"));
            let _ = std::fs::remove_dir_all(scratch.path("destination"));
            let _ = std::fs::remove_dir_all(scratch.path("piped"));
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    count
}
