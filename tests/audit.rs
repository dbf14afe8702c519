//! The audit log: what was done is written down before and after, nobody can change it unnoticed, and no crash makes
//! it worthless.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use support::lying::Answer;
use support::running::{Hand, Running};
use support::verdict::{taking_all, taking_all_but, writes};
use support::{EXPORT, Run, Scratch, run, sha256};

const LOG: &str = "home/audit.jsonl";

fn lines(scratch: &Scratch) -> Vec<Value> {
    let text = String::from_utf8(scratch.read(LOG)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A command without any log named.
fn without_log(scratch: &Scratch, arguments: &str) -> Run {
    let mut command = scratch.command(arguments);
    command.env_remove("SEALIFT_AUDIT_LOG");
    run(command)
}

/// A log of an export, an import, and an import that was refused.
fn used() -> Scratch {
    let scratch = Scratch::with_release().exported();
    scratch.sealift("import bundle.tar --to oci:there --trust trust").ok();
    fs::write(scratch.path("bundle.tar"), b"nothing of the kind").unwrap();
    scratch.sealift("import bundle.tar --to oci:there --trust trust").fails(3, "Truncated");
    scratch
}

#[test]
fn every_run_leaves_who_did_what_and_what_came_of_it() {
    let scratch = Scratch::with_release().exported();
    let sums = scratch.run("tar", "-xOf bundle.tar bundle/SHA256SUMS").ok().stdout;
    let mut command = scratch.command("import bundle.tar --to oci:there --trust trust");
    command.env("SUDO_USER", "engineer").env("SSH_CONNECTION", "192.0.2.7 1 192.0.2.8 22");
    run(command).ok();
    let lines = lines(&scratch);
    let told: Vec<_> = lines.iter().map(|line| (&line["action"], &line["event"])).collect();
    let (export, import) = (json!("export"), json!("import"));
    let (begin, end) = (json!("begin"), json!("end"));
    assert_eq!(told, [(&export, &begin), (&export, &end), (&import, &begin), (&import, &end)]);
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(line["bundle"], format!("sha256:{}", sha256(sums.as_bytes())), "{line}");
        assert_eq!(line["release"]["name"], "nexus-engine");
        assert_eq!(line["release"]["version"], "2.1.0");
        assert_eq!(line["release"]["tier"], "sovereign");
        assert_eq!(line["signers"][0]["keyId"], scratch.key_id("release.pub.pem"));
        assert_eq!(line["policy"]["results"]["fail"], Value::Null);
        assert_eq!(line["sequence"], number as u64 + 1);
        assert!(line["who"]["uid"].is_u64() && !line["who"]["host"].as_str().unwrap().is_empty());
    }
    let done = &lines[3];
    assert_eq!((&done["outcome"], &done["destination"]), (&json!("done"), &json!("oci:there")));
    assert_eq!((&done["who"]["behalf"], &done["who"]["from"]), (&json!("engineer"), &json!("192.0.2.7")));
    let placed = done["images"].as_array().unwrap();
    let names: Vec<_> = placed.iter().flat_map(|image| image["names"].as_array().unwrap()).collect();
    assert_eq!(names.len(), 8);
    assert!(placed.iter().all(|image| image["digest"].as_str().unwrap().starts_with("sha256:")));
    assert_eq!(lines[2]["run"], lines[3]["run"]);
    assert_ne!(lines[1]["run"], lines[2]["run"]);
}

#[test]
fn each_line_holds_the_hash_of_the_one_before() {
    let scratch = used();
    let text = String::from_utf8(scratch.read(LOG)).unwrap();
    let mut previous = "0".repeat(64);
    for line in text.lines() {
        let parsed: Value = serde_json::from_str(line).unwrap();
        assert_eq!(parsed["previous"], format!("sha256:{previous}"));
        previous = sha256(line.as_bytes());
    }
    let head = scratch.sealift(&format!("audit {LOG} --json")).ok().json();
    assert_eq!((&head["head"], &head["lines"]), (&json!(format!("sha256:{previous}")), &json!(5)));
    assert_eq!(head["log"].as_array().unwrap().len(), 5);
}

#[test]
fn attempts_that_are_refused_are_written_down() {
    let scratch = used();
    let refused = lines(&scratch).pop().unwrap();
    assert_eq!((&refused["event"], &refused["outcome"]), (&json!("end"), &json!("untrusted")));
    assert_eq!(refused["error"]["kind"], "Truncated");
    // By a rule: an older release.
    let scratch = Scratch::with_small_release();
    scratch.export_small("old.tar", "1.0.0", "", &["release"]);
    scratch.export_small("new.tar", "2.0.0", "", &["release"]);
    scratch.sealift("import new.tar --to oci:there --trust trust").ok();
    scratch.sealift("import old.tar --to oci:there --trust trust").fails(4, "Rollback");
    let refused = lines(&scratch).pop().unwrap();
    assert_eq!((&refused["outcome"], &refused["error"]["kind"]), (&json!("refused"), &json!("Rollback")));
    assert_eq!(refused["release"]["version"], "1.0.0");
    assert!(refused["images"].is_null());
    let said = scratch.sealift(&format!("audit {LOG}")).ok().stdout;
    assert!(said.contains("refused: ") && said.contains("[Rollback]"), "{said}");
}

#[test]
fn signing_and_a_new_trust_store_are_written_down() {
    let scratch = Scratch::with_release().exported();
    scratch.key("quality");
    scratch.sealift("sign bundle.tar --key quality.key.pem").ok();
    let lines = lines(&scratch);
    assert_eq!((&lines[3]["action"], &lines[3]["outcome"]), (&json!("sign"), &json!("done")));
    assert_eq!(lines[3]["signers"][0]["keyId"], scratch.key_id("quality.pub.pem"));
    scratch.sealift("trust update bundle.tar --trust trust").fails(3, "RootChain");
    let last = self::lines(&scratch).pop().unwrap();
    assert_eq!((&last["action"], &last["outcome"]), (&json!("trust update"), &json!("untrusted")));
}

#[test]
fn a_strict_tier_is_not_exported_without_an_account() {
    let scratch = Scratch::with_release();
    without_log(&scratch, EXPORT)
        .fails(4, "PolicyRefused")
        .says("the release: got no audit log")
        .says("--audit-log FILE");
    scratch.holds_no_bundle();
    without_log(&scratch, &format!("{EXPORT} --dry-run")).ok().says("asks for --audit-log");
    without_log(&scratch, &format!("{EXPORT} --audit-log log.jsonl")).ok();
    let cut = "export --from bundle.tar --variant edge -o edge.tar --key release.key.pem --trust trust";
    without_log(&scratch, cut).fails(4, "PolicyRefused");
    // Others need none.
    let small = Scratch::with_small_release();
    without_log(&small, EXPORT).ok();
    without_log(&small, "import bundle.tar --to oci:there --trust trust").ok();
    assert!(!small.has(LOG) && !small.has("home/state/audit.jsonl"));
}

#[test]
fn an_import_of_a_strict_tier_keeps_account_by_itself() {
    let scratch = Scratch::with_release().exported();
    without_log(&scratch, "import bundle.tar --to oci:there --trust trust --dry-run").ok();
    assert!(!scratch.has("home/state/audit.jsonl"));
    without_log(&scratch, "import bundle.tar --to oci:there --trust trust").ok().says("audit.jsonl");
    let said = scratch.sealift("audit home/state/audit.jsonl --json").ok().json();
    assert_eq!(said["lines"], 2);
}

#[test]
fn nothing_is_sent_where_no_account_can_be_kept() {
    let scratch = Scratch::with_release().exported();
    fs::create_dir(scratch.path("directory")).unwrap();
    scratch.write("odd.jsonl", "{\"not\":\"a line\"}\n");
    scratch.write("open.jsonl", "");
    scratch.chmod("open.jsonl", 0o666);
    symlink("elsewhere.jsonl", scratch.path("link.jsonl")).unwrap();
    scratch.run("mkfifo", "pipe.jsonl").ok();
    for (log, code, kind) in [
        ("directory", 2, "Usage"),
        ("link.jsonl", 2, "Usage"),
        ("pipe.jsonl", 2, "Usage"),
        ("/dev/null", 2, "Usage"),
        ("nowhere/log.jsonl", 1, "Io"),
        ("open.jsonl", 3, "StatePerms"),
        ("odd.jsonl", 3, "AuditBroken"),
    ] {
        let server = taking_all();
        let to = server.host();
        let import = format!("import bundle.tar --to {to} --trust trust --audit-log {log}");
        scratch.sealift(&import).fails(code, kind);
        assert_eq!(writes(&server), [""; 0], "{log}");
        scratch.sealift(&format!("{} --overwrite --audit-log {log}", EXPORT)).fails(code, kind);
    }
    assert!(!scratch.has("elsewhere.jsonl"));
    assert_eq!(scratch.read("odd.jsonl"), b"{\"not\":\"a line\"}\n");
}

/// Requires that a log which was changed like that is refused, and that this is said of it.
#[track_caller]
fn noticed(change: impl FnOnce(&mut Vec<String>), said: &str) {
    let scratch = used();
    let text = String::from_utf8(scratch.read(LOG)).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    change(&mut lines);
    scratch.write(LOG, lines.join("\n") + "\n");
    scratch.sealift(&format!("audit {LOG}")).fails(3, "AuditBroken").says(said);
}

#[test]
fn a_changed_line_is_noticed() {
    let change = |lines: &mut Vec<String>| lines[1] = lines[1].replace("\"done\"", "\"failed\"");
    noticed(change, "audit.jsonl, line 2: got sha256:");
    noticed(|lines| lines[2] = lines[2].replace("\"host\"", "\"hose\""), "line 3");
    noticed(|lines| lines[3] = "garbage".into(), "line 4");
}

#[test]
fn lines_that_are_removed_moved_or_put_in_are_noticed() {
    noticed(|lines| _ = lines.remove(2), "line 3: got sequence 4, expected sequence 3");
    noticed(|lines| lines.drain(..2).for_each(drop), "line 1: got sequence 3, expected sequence 1");
    noticed(|lines| lines.swap(1, 2), "line 2: got sequence 3, expected sequence 2");
    noticed(|lines| lines.insert(2, lines[1].clone()), "line 3: got sequence 2, expected sequence 3");
    noticed(|lines| lines.insert(2, "garbage".into()), "line 3");
    noticed(|lines| lines.insert(2, String::new()), "line 3");
}

#[test]
fn a_log_that_was_cut_short_is_noticed_by_its_noted_head() {
    let scratch = used();
    let head =
        scratch.sealift(&format!("audit {LOG} --json")).ok().json()["head"].as_str().unwrap().to_owned();
    scratch.sealift("import bundle.tar --to oci:there --trust trust").fails(3, "Truncated");
    let said = scratch.sealift(&format!("audit {LOG} --head {head}")).ok().stdout;
    assert!(said.contains("line 5; 1 were added since"), "{said}");
    let text = String::from_utf8(scratch.read(LOG)).unwrap();
    let short: String = text.lines().take(4).map(|line| format!("{line}\n")).collect();
    scratch.write(LOG, &short);
    // The chain alone says nothing.
    scratch.sealift(&format!("audit {LOG}")).ok();
    scratch.sealift(&format!("audit {LOG} --head {head}")).fails(3, "AuditBroken").says(&head);
    scratch.sealift(&format!("audit {LOG} --head 1234")).fails(3, "DigestInvalid");
    // Nor of the last line, which nothing follows.
    scratch.write(LOG, text.replace("\"untrusted\"", "\"done\""));
    scratch.sealift(&format!("audit {LOG} --head {head}")).fails(3, "AuditBroken");
}

#[test]
fn a_torn_tail_is_noticed_and_closed_by_a_line_that_says_so() {
    let scratch = used();
    let whole = scratch.read(LOG);
    for left in [1, 100, whole.len() - 1] {
        let cut = whole.len() - left;
        scratch.write(LOG, &whole[..cut]);
        scratch.sealift(&format!("audit {LOG}")).fails(3, "AuditBroken").says("breaks off");
        let run = scratch.sealift("import bundle.tar --to oci:there --trust trust").fails(3, "Truncated");
        run.says("broken off");
        let said = scratch.sealift(&format!("audit {LOG}")).ok().stdout;
        assert!(said.contains("the line before was broken off after "), "{said}");
        // And what is said of it must be true.
        let text = String::from_utf8(scratch.read(LOG)).unwrap();
        let fragment = &text.lines().map(str::to_owned).collect::<Vec<_>>();
        let torn = fragment.iter().position(|line| line.contains("\"event\":\"torn\"")).unwrap();
        if serde_json::from_str::<Value>(&fragment[torn - 1]).is_err() {
            let mut other = fragment.clone();
            other[torn - 1].pop();
            scratch.write(LOG, other.join("\n") + "\n");
            scratch.sealift(&format!("audit {LOG}")).fails(3, "AuditBroken");
        }
    }
}

#[test]
fn nobody_goes_on_with_a_log_whose_end_was_changed() {
    let scratch = used();
    let text = String::from_utf8(scratch.read(LOG)).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.remove(3);
    scratch.write(LOG, lines.join("\n") + "\n");
    let before = scratch.read(LOG);
    let run = scratch.sealift("import bundle.tar --to oci:there --trust trust");
    run.fails(3, "AuditBroken").says("sealift audit says where");
    assert_eq!(scratch.read(LOG), before);
}

#[test]
fn a_killed_import_is_seen_to_have_begun() {
    let scratch = Scratch::with_release().exported();
    let hand: Arc<OnceLock<Hand>> = Arc::default();
    let killer = hand.clone();
    let server = taking_all_but(move |request, _| {
        if request.method != "POST" {
            return None;
        }
        while killer.get().is_none() {
            std::thread::yield_now();
        }
        killer.get().unwrap().kill();
        Some(Answer::new(500))
    });
    let import =
        Running::start(scratch.command(&format!("import bundle.tar --to {} --trust trust", server.host())));
    assert!(hand.set(import.hand()).is_ok());
    assert_eq!(import.ended().code, -1);
    let told = lines(&scratch);
    assert_eq!((told.len(), &told[2]["event"], &told[2]["action"]), (3, &json!("begin"), &json!("import")));
    let said = scratch.sealift(&format!("audit {LOG}")).ok().stdout;
    assert!(
        said.contains("began, and never ended") && said.contains("the run that began in line 3"),
        "{said}"
    );
    // The next run goes on.
    scratch.sealift("import bundle.tar --to oci:there --trust trust").ok();
    assert_eq!(scratch.sealift(&format!("audit {LOG} --json")).ok().json()["lines"], 5);
}

#[test]
fn many_runs_add_to_one_log_at_once() {
    let scratch = Scratch::with_small_release().exported();
    let import = |number: usize| {
        let mut command = scratch.command(&format!("import bundle.tar --to oci:there{number} --trust trust"));
        command.env("SEALIFT_STATE", scratch.path(format!("state{number}")));
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command.spawn().unwrap()
    };
    let running: Vec<_> = (0..8).map(import).collect();
    for mut child in running {
        assert!(child.wait().unwrap().success());
    }
    let said = scratch.sealift(&format!("audit {LOG} --json")).ok().json();
    assert_eq!((&said["lines"], &said["unfinished"]), (&json!(2 + 8 * 2), &json!({})));
}

#[test]
fn a_long_log_is_not_read_whole_to_add_to_it() {
    let scratch = Scratch::with_small_release().exported();
    // The end of a log that is larger than the memory.
    let log = String::from_utf8(scratch.read(LOG)).unwrap();
    let mut file = fs::File::create(scratch.path("long.jsonl")).unwrap();
    file.set_len(8 << 30).unwrap();
    use std::io::Seek;
    file.seek(std::io::SeekFrom::End(0)).unwrap();
    file.write_all(format!("\n{log}").as_bytes()).unwrap();
    let run = scratch.sealift("import bundle.tar --to oci:there --trust trust --audit-log long.jsonl");
    // Its last two lines are a chain.
    run.ok();
    // All of it is no log: its first line has no end within what a line may have.
    scratch.sealift("audit long.jsonl").fails(3, "AuditBroken").says("line 1");
}

#[test]
fn no_login_gets_into_the_log() {
    let scratch = Scratch::with_small_release().exported();
    scratch
        .sealift("import bundle.tar --to docker://user:canary@127.0.0.1:1 --trust trust")
        .fails(2, "RefInvalid");
    scratch.sealift("import bundle.tar --to docker://127.0.0.1:1 --trust trust");
    assert!(!String::from_utf8(scratch.read(LOG)).unwrap().contains("canary"));
}

#[test]
fn a_log_is_a_file_of_its_own() {
    let scratch = Scratch::with_release().exported();
    scratch.sealift(&format!("{EXPORT} --audit-log own.jsonl --overwrite")).ok();
    let log = scratch.read("own.jsonl");
    let usage = |command: &str| {
        scratch.sealift(command).fails(2, "Usage").says("the audit log is one of the command's other files");
    };
    usage(&EXPORT.replace("-o bundle.tar", "-o own.jsonl --overwrite --audit-log own.jsonl"));
    usage(&EXPORT.replace("-o bundle.tar", "-o new.tar --audit-log ./new.tar"));
    usage(&EXPORT.replace("-o bundle.tar", "-o new.tar --audit-log new.tar.partial"));
    usage(&format!("{EXPORT} --overwrite --audit-log release.toml"));
    usage("import bundle.tar --to oci:x --trust trust --receipt own.jsonl --audit-log own.jsonl");
    usage("import bundle.tar --to oci:x --trust trust --audit-log bundle.tar");
    usage("import bundle.tar --to oci-archive:own.jsonl --overwrite --trust trust --audit-log own.jsonl");
    assert_eq!(scratch.read("own.jsonl"), log);
    for name in ["new.tar", "new.tar.partial", "x"] {
        assert!(!scratch.has(name), "{name}");
    }
}

#[test]
fn what_is_no_log_is_not_added_to() {
    let scratch = Scratch::with_release();
    for content in ["hello world", "{\"bundle\":{}}", "text\n", "{}\n"] {
        scratch.write("other", content);
        scratch.sealift(&format!("{EXPORT} --audit-log other")).fails(3, "AuditBroken");
        assert_eq!(scratch.read("other"), content.as_bytes());
    }
    scratch.holds_no_bundle();
}
