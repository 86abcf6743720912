//! Commits that must be signed: keys of OpenSSH, and repositories that name programs of their own.

use firn_testkit::World;
use std::path::PathBuf;

struct Signed {
    world: World,
}

/// Where the repository is, and the URL of it in expressions.
const URL: &str = "url = ./repo;";

impl Signed {
    /// A repository of which the first commit is signed by `ed`, and keys.
    fn new() -> Self {
        let features = "nix-command flakes fetch-tree verified-fetches";
        let world = World::new().conf(&format!("extra-experimental-features = {features}"));
        let signed = Self { world };
        for (name, kind) in [("ed", "ed25519"), ("ecdsa", "ecdsa"), ("rsa", "rsa")] {
            let file = signed.key_file(name);
            let mut keygen = signed.world.command("/usr/bin/ssh-keygen");
            keygen.args(["-q", "-N", "", "-t", kind, "-C", name, "-f"]).arg(file.with_extension(""));
            assert!(keygen.status().unwrap().success());
        }
        std::fs::create_dir(signed.dir()).unwrap();
        signed.git(&["init", "-q", "-b", "main", "."]);
        signed.git(&["config", "user.email", "a@b"]);
        signed.git(&["config", "user.name", "A"]);
        signed.git(&["config", "gpg.format", "ssh"]);
        signed.commit("first", Some("ed"));
        signed
    }

    fn dir(&self) -> PathBuf {
        self.world.work_dir().join("repo")
    }

    fn key_file(&self, name: &str) -> PathBuf {
        self.world.work_dir().join(format!("key-{name}.pub"))
    }

    /// The key in base 64.
    fn key(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.key_file(name)).unwrap();
        text.split(' ').nth(1).unwrap().to_owned()
    }

    fn git(&self, args: &[&str]) {
        let mut git = self.world.command("/usr/bin/git");
        let output = git.current_dir(self.dir()).args(args).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {output:?}");
    }

    fn commit(&self, text: &str, signer: Option<&str>) {
        self.world.write("repo/text", text);
        self.git(&["add", "text"]);
        match signer {
            None => self.git(&["commit", "-qm", text]),
            Some(name) => {
                let key = format!("user.signingkey={}", self.key_file(name).display());
                self.git(&["-c", &key, "commit", "-q", "-S", "-m", text]);
            }
        }
    }

    fn fetch(&self, arguments: &str) -> firn_testkit::Run {
        let call = format!("builtins.readFile (builtins.fetchGit {{ {arguments} }} + \"/text\")");
        self.world.run("nix", &["eval", "--impure", "--raw", "--expr", &call])
    }

    #[track_caller]
    fn gives(&self, arguments: &str, expected: &str) {
        assert_eq!(self.fetch(arguments).success().stdout_text(), expected);
    }

    #[track_caller]
    fn fails(&self, arguments: &str, expected: &str) {
        let run = self.fetch(arguments);
        let said = run.stderr_text();
        assert!(run.code() == Some(1) && said.contains(expected), "{said}");
    }
}

#[test]
fn commits_by_those_who_were_named() {
    let signed = Signed::new();
    let (ed, ecdsa, rsa) = (signed.key("ed"), signed.key("ecdsa"), signed.key("rsa"));
    let one = format!("{URL} publicKey = \"{ed}\";");
    signed.gives(&one, "first");
    // Once it is in the store it is looked at all the same.
    signed.fails(&format!("{URL} publicKey = \"{rsa}\"; keytype = \"ssh-rsa\";"), "No principal matched.");
    signed.gives(
        &format!("{URL} publicKey = \"{rsa}\"; keytype = \"ssh-rsa\"; verifyCommit = false;"),
        "first",
    );
    signed.fails(&format!("{URL} verifyCommit = true;"), "Commit signature verification on commit ");
    signed.fails(
        &format!("{URL} publicKey = \"{rsa}\"; keytype = \"rsa\";"),
        "Invalid SSH key type 'rsa' in publicKeys.",
    );
    signed.fails(&format!("{URL} publicKeys = [ {{ }} ];"), "has no 'key'");
    // What was changed and not committed nobody signed.
    signed.world.write("repo/text", "changed");
    signed.fails(&one, "', but it's dirty");
    signed.commit("second", Some("rsa"));
    let several =
        format!("{URL} publicKeys = [ {{ key = \"{ed}\"; }} {{ type = \"ssh-rsa\"; key = \"{rsa}\"; }} ];");
    signed.gives(&several, "second");
    signed.fails(&one, "No principal matched.");
    signed.commit("third", Some("ecdsa"));
    signed.fails(&several, "No principal matched.");
    // Through an URL, as from another machine.
    let far = format!("url = \"file://{}/.git\"; ref = \"main\";", signed.dir().display());
    signed.fails(&format!("{far} publicKey = \"{ed}\";"), "No principal matched.");
    signed.gives(&format!("{far} publicKey = \"{ecdsa}\"; keytype = \"ssh-ecdsa\";"), "third");
    signed.commit("fourth", None);
    signed.fails(&one, "Commit signature verification on commit ");
}

#[test]
fn a_repository_does_not_say_who_checks_it() {
    let signed = Signed::new();
    signed.commit("second", Some("rsa"));
    let good = format!(
        "#!/bin/sh\ntouch {}/ran\necho 'Good \"git\" signature for * with RSA key SHA256:x'\n",
        signed.world.work_dir().display()
    );
    signed.world.write("liar", &good);
    let liar = signed.world.work_dir().join("liar");
    std::fs::set_permissions(&liar, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for name in ["gpg.ssh.program", "gpg.program", "gpg.openpgp.program", "gpg.x509.program"] {
        signed.git(&["config", name, liar.to_str().unwrap()]);
    }
    let ed = signed.key("ed");
    signed.fails(&format!("{URL} publicKey = \"{ed}\";"), "No principal matched.");
    assert!(!signed.world.work_dir().join("ran").exists());
}

#[test]
fn inputs_of_flakes() {
    let signed = Signed::new();
    let (ed, rsa) = (signed.key("ed"), signed.key("rsa"));
    let flake = |keys: &str| {
        let url = format!("git+file://{}", signed.dir().display());
        let text = format!(
            "{{ inputs.i = {{ type = \"git\"; url = \"{}\"; flake = false; {keys} }};\n\
             outputs = {{ self, i }}: {{ text = builtins.readFile (i + \"/text\"); }}; }}",
            url.strip_prefix("git+").unwrap()
        );
        signed.world.write("flake/flake.nix", &text);
        let flake = signed.world.work_dir().join("flake");
        signed.world.run("nix", &["eval", "--raw", &format!("path:{}#text", flake.display())])
    };
    let keys = format!("publicKeys = [ {{ type = \"ssh-rsa\"; key = \"{rsa}\"; }} {{ key = \"{ed}\"; }} ];");
    assert_eq!(flake(&keys).success().stdout_text(), "first");
    let said = flake(&format!("publicKey = \"{rsa}\"; keytype = \"ssh-rsa\";")).stderr_text();
    assert!(said.contains("No principal matched."), "{said}");
    let said = flake("publicKeys = [ 1 ];").stderr_text();
    assert!(said.contains("a key in flake input attribute 'publicKeys' is an integer"), "{said}");
}

#[test]
fn only_with_the_feature() {
    let signed = Signed::new();
    let ed = signed.key("ed");
    for keys in [format!("publicKey = \"{ed}\";"), format!("publicKeys = [ {{ key = \"{ed}\"; }} ];")] {
        let call = format!("(builtins.fetchGit {{ {URL} {keys} }}).rev");
        let features = "nix-command fetch-tree";
        let args = ["eval", "--impure", "--experimental-features", features, "--expr", &call];
        let said = signed.world.run("nix", &args).stderr_text();
        assert!(said.contains("experimental Nix feature 'verified-fetches' is disabled"), "{said}");
    }
}
