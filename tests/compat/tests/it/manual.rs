//! Help, manual pages and completion.

use firn_testkit::World;

fn complete(world: &World, words: &[&str]) -> String {
    let mut command = world.command("nix");
    let output = command.args(words).env("NIX_GET_COMPLETIONS", words.len().to_string()).output();
    let output = output.expect("the program starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn completion_as_shells_ask_for_it() {
    let world = World::new();
    std::fs::create_dir(world.work_dir().join("foo")).unwrap();
    world.write("set.nix", "{ arg ? 1 }: { outputs.inner = 1; other = throw \"x\"; }");
    world.write("bad.nix", "throw \"x\"");
    let check = |words: &[&str], expected: &str| assert_eq!(complete(&world, words), expected, "{words:?}");
    check(&["buil"], "normal\nbuild\t\n");
    check(&["store", "veri"], "normal\nverify\t\n");
    check(&["nothing", ""], &complete(&world, &[""]));
    check(&["build", "./f"], "filenames\n./foo\t\n");
    check(&["build", "./nonexistent"], "filenames\n");
    check(&["eval", "--file", "./set.nix", "outp"], "attrs\noutputs\t\n");
    check(&["eval", "--file", "./set.nix", "outputs."], "attrs\noutputs.inner\t\n");
    check(&["eval", "-f", "./bad.nix", "outp"], "attrs\n");
    check(&["build", "-f", "se"], "filenames\nset.nix\t\n");
    check(
        &["build", "--option", "allow-import-from"],
        "normal\nallow-import-from-derivation\tSet the `allow-import-from-derivation` setting\n",
    );
    check(&["build", "--option", "cores", ""], "normal\n");
    let flags = complete(&world, &["build", "--log-form"]);
    assert!(flags.starts_with("normal\n--log-format\tHow messages are shown"), "{flags}");
    assert!(complete(&world, &["build", "--out"]).contains("--out-link\t"));
}

#[test]
fn help_of_commands() {
    let world = World::new();
    let build = world.run("nix", &["build", "--help"]).success().stdout_text();
    assert!(
        build.starts_with("Usage: nix build [OPTIONS]") && build.contains("-o, --out-link LINK"),
        "{build}"
    );
    assert_eq!(world.run("nix", &["help", "build"]).success().stdout_text(), build);
    assert!(world.run("nix", &["help"]).success().stdout_text().contains("nix store gc"));
    assert!(world.run("nix", &["help", "nix-env"]).success().stdout_text().starts_with("Usage: nix-env"));
    assert!(world.run("nix", &["help", "nonsense"]).fails(1).stderr_text().contains("there is no command"));
    assert!(world.run("nix", &["help-stores"]).success().stdout_text().contains("ssh-ng://"));
    // Without `man` the older programs end as scripts know it.
    let world = world.env("PATH", "");
    let run = world.run("nix-store", &["--help"]).fails(1);
    assert!(run.stdout_text().starts_with("Usage: nix-store"), "{run:?}");
    assert!(run.stderr_text().contains("The 'man' command was not found, but it is needed for 'nix-store'"));
}

#[test]
fn scripts_and_pages() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = world.run("nix", &["completions", shell]).success().stdout_text();
        assert!(script.contains("NIX_GET_COMPLETIONS"), "{script}");
        let file = world.write(&format!("script.{shell}"), &script);
        // Shells that are there can read it.
        if let Ok(output) = world
            .command("/usr/bin/env")
            .args(["sh", "-c", &format!("{shell} -n {}", file.display())])
            .output()
        {
            let missing = output.status.code() == Some(127);
            assert!(output.status.success() || missing, "{shell}: {output:?}");
        }
    }
    let text = world.run("nix", &["completions", "csh"]).fails(1).stderr_text();
    assert!(text.contains("there is no completion for 'csh'"), "{text}");
    world.run("nix", &["man", "pages"]).success();
    let page = std::fs::read_to_string(world.work_dir().join("pages/man1/nix3-store-gc.1")).unwrap();
    assert!(page.starts_with(".TH NIX3\\-STORE\\-GC 1"), "{page}");
}

/// Bash with our script completes as a user would see it.
#[test]
fn in_bash() {
    let world = World::new();
    let script = world.run("nix", &["completions", "bash"]).success().stdout_text();
    world.write("complete.bash", &script);
    let nix = firn_testkit::program_dir().join("nix");
    let ask = format!(
        "source ./complete.bash; compopt() {{ :; }}; COMP_WORDS=({} store opt); COMP_CWORD=2; _firn_nix; \
         printf '%s,' \"${{COMPREPLY[@]}}\"",
        nix.display()
    );
    let output = world.command("/usr/bin/env").args(["bash", "-c", &ask]).output().expect("bash");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "optimise,", "{output:?}");
}

/// The words of all commands of a dump that has others below it or not.
fn commands_of(value: &serde_json::Value, before: &[String], all: &mut Vec<Vec<String>>) {
    for (word, command) in value["commands"].as_object().into_iter().flatten() {
        let words: Vec<String> = before.iter().cloned().chain([word.clone()]).collect();
        commands_of(command, &words, all);
        all.push(words);
    }
}

#[test]
fn the_command_line_as_json() {
    let world = World::new();
    let text = world.run("nix", &["__dump-cli"]).success().stdout_text();
    let dump: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let mut commands = Vec::new();
    commands_of(&dump["args"], &[], &mut commands);
    let store_ls = ["store".to_owned(), "ls".to_owned()];
    assert!(commands.contains(&store_ls.to_vec()) && commands.contains(&store_ls[..1].to_vec()));
    for words in &commands {
        let args: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
        let help = world.run("nix", &args).success().stdout_text();
        assert!(help.starts_with(&format!("Usage: nix {}", words.join(" "))), "{help}");
    }
    let build = &dump["args"]["commands"]["build"];
    assert_eq!(build["args"], serde_json::json!([{ "label": "installables", "optional": false }]));
    assert_eq!(build["category"]["experimental-feature"], "nix-command");
    let flag = &build["flags"]["out-link"];
    assert_eq!((&flag["arity"], &flag["shortName"]), (&1.into(), &"o".into()));
    let flags = &dump["args"]["flags"];
    assert_eq!(flags["no-fallback"]["arity"], 0);
    assert_eq!(flags["extra-substituters"]["labels"], serde_json::json!(["value"]));
    assert_eq!(flags["http-connections"]["hiddenCategory"], true);
}

/// What can be set of stores: what is told is what they take, and nothing else.
#[test]
fn stores_and_fetchers_as_json() {
    let world = World::new();
    let text = world.run("nix", &["__dump-cli"]).success().stdout_text();
    let dump: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let help = world.run("nix", &["help-stores"]).success().stdout_text();
    let stores = dump["stores"].as_object().expect("stores");
    assert_eq!(stores.len(), 10);
    for (title, store) in stores {
        let scheme = store["uri-schemes"][0].as_str().expect("a scheme");
        let settings = store["settings"].as_object().expect("settings");
        assert!(settings.contains_key("want-mass-query"), "{title}");
        for (name, setting) in settings {
            assert!(help.contains(&format!("\n  {name} ")), "{name} is in help-stores");
            assert!(setting["description"].as_str().is_some_and(|text| !text.is_empty()), "{title}: {name}");
            assert_eq!(setting["value"], setting["defaultValue"], "{title}: {name}");
        }
        if matches!(scheme, "local" | "file" | "dummy" | "unix") {
            // There is no daemon: that comes to light later.
            let authority = match scheme {
                "file" | "unix" => world.path("cache").display().to_string(),
                _ => String::new(),
            };
            let given: Vec<String> = settings
                .iter()
                .filter(|(_, setting)| setting["experimentalFeature"].is_null())
                .filter_map(|(name, setting)| match &setting["defaultValue"] {
                    serde_json::Value::String(text) if !text.is_empty() => Some(format!("{name}={text}")),
                    number @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => {
                        Some(format!("{name}={number}"))
                    }
                    _ => None,
                })
                .collect();
            let open = |settings: &str| {
                let uri = format!("{scheme}://{authority}?{settings}");
                world.run("nix", &["store", "info", "--store", &uri])
            };
            let said = open(&given.join("&")).stderr_text();
            assert!(!said.contains("unknown setting") && !said.contains("invalid value"), "{title}: {said}");
            let run = open("no-such-setting=1&want-mass-query=true");
            assert!(run.stderr_text().contains("unknown setting 'no-such-setting'"), "{title}");
            if scheme != "unix" {
                let shown = run.success().stderr_text();
                let params = if scheme == "file" { "" } else { "?want-mass-query=true" };
                assert!(shown.contains(&format!("{scheme}://{authority}{params}\n")), "{shown}");
            }
            for (setting, said) in [
                ("trusted=maybe", "Boolean setting 'trusted' has invalid value 'maybe'"),
                ("priority=high", "setting 'priority' has invalid value 'high'"),
            ] {
                let failed = open(setting);
                assert!(failed.stderr_text().contains(said), "{title}: {}", failed.stderr_text());
                assert_eq!(failed.code(), Some(1), "{title}");
            }
        }
    }
    let sizes = &stores["S3 Binary Cache Store"]["settings"]["multipart-chunk-size"];
    assert_eq!(
        (&sizes["aliases"], &sizes["value"]),
        (&serde_json::json!(["buffer-size"]), &(5 << 20).into())
    );
    assert_eq!(stores["Experimental Local Overlay Store"]["experimentalFeature"], "local-overlay-store");
    assert_eq!(dump["fetchers"].as_object().map(|fetchers| fetchers.len()), Some(9));
    let shallow = &dump["fetchers"]["git"]["allowedAttrs"]["shallow"];
    assert_eq!((&shallow["type"], &shallow["required"]), (&"Bool".into(), &false.into()));
}

/// What language servers are built from.
#[test]
fn the_language_as_json() {
    let world = World::new();
    let text = world.run("nix", &["__dump-language"]).success().stdout_text();
    let dump: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let of = |name: &str| {
        let mut entry = dump[name].clone();
        let doc = entry.as_object_mut().and_then(|entry| entry.remove("doc"));
        assert!(doc.is_some_and(|doc| doc.as_str().is_some_and(|doc| !doc.is_empty())), "{name}");
        entry
    };
    assert_eq!(of("map"), serde_json::json!({ "args": ["f", "list"] }));
    assert_eq!(of("null"), serde_json::json!({ "type": "null" }));
    assert_eq!(of("currentSystem"), serde_json::json!({ "type": "string", "impure-only": true }));
    let flake = serde_json::json!({ "args": ["args"], "experimental-feature": "flakes" });
    assert_eq!(of("getFlake"), flake);
}
