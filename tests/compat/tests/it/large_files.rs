//! Git LFS: files that a server has, and a commit only points to.

use firn_testkit::World;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What the server knows and does.
#[derive(Default)]
struct Known {
    /// Files by the SHA-256 of what they should be.
    objects: BTreeMap<String, Vec<u8>>,
    /// What must be in the header `Authorization` of requests for large files.
    login: Option<String>,
    /// The header that downloads are said to need, and do.
    ticket: Option<String>,
    /// Requests for large files.
    asked: Vec<String>,
}

/// Serves bare repositories as files, and large files of all of them.
struct Server {
    url: String,
    known: Arc<Mutex<Known>>,
}

impl Server {
    fn start(root: &Path) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let known = Arc::new(Mutex::new(Known::default()));
        let (root, own, state) = (root.to_owned(), url.clone(), Arc::clone(&known));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (root, own, state) = (root.clone(), own.clone(), Arc::clone(&state));
                std::thread::spawn(move || answer(&stream, &root, &own, &state));
            }
        });
        Server { url, known }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    /// The requests since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.known().asked)
    }
}

fn answer(mut stream: &TcpStream, root: &Path, own: &str, known: &Mutex<Known>) {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(1..) if !line.trim().is_empty() => lines.push(line.trim().to_owned()),
            _ => break,
        }
    }
    let header = |name: &str| {
        lines.iter().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    let Some(path) = lines.first().and_then(|line| line.split(' ').nth(1)) else { return };
    let mut body = vec![0; header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let mut known = known.lock().unwrap();
    let login = header("authorization");
    let (status, content) = if let Some(oid) = path.strip_prefix("/large/") {
        known.asked.push("file".to_owned());
        match known.objects.get(oid) {
            _ if known.ticket.is_some() && known.ticket != login => (403, Vec::new()),
            Some(content) => (200, content.clone()),
            None => (404, Vec::new()),
        }
    } else if path.ends_with("/objects/batch") {
        known.asked.push(path.to_owned());
        match known.login.is_some() && known.login != login {
            true => (401, Vec::new()),
            false => (200, batch(&body, own, &known)),
        }
    } else {
        let path = root.join(path.split('?').next().unwrap().trim_start_matches('/'));
        std::fs::read(path).map_or((404, Vec::new()), |content| (200, content))
    };
    drop(known);
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", content.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&content));
}

fn batch(body: &[u8], own: &str, known: &Known) -> Vec<u8> {
    let asked: serde_json::Value = serde_json::from_slice(body).unwrap();
    assert_eq!(asked["operation"], "download");
    let answers = asked["objects"].as_array().unwrap().iter().map(|object| {
        let (oid, size) = (&object["oid"], &object["size"]);
        if !known.objects.contains_key(oid.as_str().unwrap()) {
            return serde_json::json!({ "oid": oid, "size": size, "error": { "code": 404, "message": "no such file" } });
        }
        let href = format!("{own}/large/{}", oid.as_str().unwrap());
        let header = known.ticket.as_ref().map(|ticket| serde_json::json!({ "Authorization": ticket }));
        serde_json::json!({
            "oid": oid, "size": size, "actions": { "download": { "href": href, "header": header } },
        })
    });
    serde_json::json!({ "transfer": "basic", "objects": answers.collect::<Vec<_>>() })
        .to_string()
        .into_bytes()
}

struct Repository {
    world: World,
    server: Server,
}

impl Repository {
    fn new() -> Repository {
        let world = World::new()
            .conf("extra-experimental-features = nix-command flakes fetch-tree\ndownload-attempts = 1")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        // For who goes through ssh.
        let ssh = format!("sh {}", world.path("work/ssh").display());
        let world = world.env("GIT_SSH_COMMAND", &ssh).env("GIT_SSH_VARIANT", "ssh");
        std::fs::create_dir_all(world.work_dir().join("repo")).unwrap();
        let server = Server::start(&world.work_dir());
        let repository = Repository { world, server };
        repository.git(&["init", "-q", "-b", "main", "."]);
        repository.git(&["config", "user.email", "a@b"]);
        repository.git(&["config", "user.name", "A"]);
        repository.world.write("repo/.gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
        repository
    }

    fn dir(&self) -> PathBuf {
        self.world.work_dir().join("repo")
    }

    fn git(&self, args: &[&str]) -> String {
        let mut command = self.world.command("/usr/bin/git");
        // The filter is not run: what is added are pointers.
        command.current_dir(self.dir()).args(["-c", "filter.lfs.clean=cat"]).args(args);
        let output = command.output().unwrap();
        assert!(output.status.success(), "git {args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A large file that the server has, and a pointer to it.
    fn large(&self, name: &str, content: &[u8]) -> String {
        let hash = firn_core::Hash::of(firn_core::HashAlgo::Sha256, content);
        let oid = hash.to_base(firn_core::HashFormat::Base16);
        let size = content.len();
        let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n");
        self.world.write(&format!("repo/{name}"), &pointer);
        self.server.known().objects.insert(oid.clone(), content.to_owned());
        oid
    }

    /// Commits everything, and makes `bare.git` of it, which the server has.
    fn commit(&self) {
        self.git(&["add", "."]);
        self.git(&["commit", "-qm", "x"]);
        let bare = self.world.work_dir().join("bare.git");
        let _ = std::fs::remove_dir_all(&bare);
        self.git(&["clone", "-q", "--bare", ".", "../bare.git"]);
        self.git(&["--git-dir", "../bare.git", "update-server-info"]);
    }

    fn fetch(&self, attrs: &str) -> firn_testkit::Run {
        let expression = format!("(builtins.fetchGit {{ {attrs} }}).outPath");
        self.world.run("nix", &["eval", "--impure", "--raw", "--expr", &expression])
    }

    #[track_caller]
    fn tree(&self, attrs: &str) -> PathBuf {
        self.fetch(attrs).success().stdout_text().into()
    }
}

fn read(tree: &Path, name: &str) -> Vec<u8> {
    std::fs::read(tree.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn files_come_from_the_server() {
    let repository = Repository::new();
    let large: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    repository.large("a.bin", b"large 1\n");
    repository.large("same.bin", b"large 1\n");
    repository.large("dir/b.bin", &large);
    let script = repository.dir().join("dir/b.bin");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    repository.large("pointer", b"nobody wants it");
    repository.world.write("repo/text.bin", "a text");
    repository.world.write("repo/empty.bin", "");
    repository.world.write("repo/long.bin", &"version https://git-lfs.github.com/spec/v1\n".repeat(50));
    repository.commit();
    let url = format!("url = \"{}/bare.git\"; ref = \"main\";", repository.server.url);

    let run = repository.fetch(&format!("{url} lfs = true;")).success();
    let tree = PathBuf::from(run.stdout_text());
    assert!(read(&tree, "a.bin") == b"large 1\n" && read(&tree, "same.bin") == b"large 1\n");
    assert!(read(&tree, "dir/b.bin") == large, "another file");
    let data = std::fs::metadata(tree.join("dir/b.bin")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&data.permissions()) & 0o777, 0o555);
    assert!(read(&tree, "pointer").starts_with(b"version ") && read(&tree, "text.bin") == b"a text");
    let said = run.stderr_text();
    for (name, what) in [("text.bin", "invalid"), ("long.bin", "too large")] {
        let warning =
            format!("encountered file '/{name}' that should have been a git-lfs pointer, but is {what}");
        assert!(said.contains(&warning), "{said}");
    }
    assert!(!said.contains("empty.bin"), "{said}");
    assert_eq!(repository.server.asked(), ["/bare.git/info/lfs/objects/batch", "file", "file"]);

    // Without it they are what is in Git.
    let pointers = repository.tree(&url);
    assert!(pointers != tree && read(&pointers, "a.bin").starts_with(b"version "));
    // What was downloaded is kept.
    repository.large("c.bin", b"large 3\n");
    repository.commit();
    let newer =
        repository.tree(&format!("{url} lfs = true; rev = \"{}\";", repository.git(&["rev-parse", "HEAD"])));
    assert!(read(&newer, "c.bin") == b"large 3\n" && read(&newer, "dir/b.bin") == large);
    assert_eq!(repository.server.asked(), ["/bare.git/info/lfs/objects/batch", "file"]);
}

#[test]
fn servers_are_not_believed() {
    let repository = Repository::new();
    let oid = repository.large("dir/a.bin", b"large 1\n");
    repository.commit();
    let attrs = format!("url = \"{}/bare.git\"; ref = \"main\"; lfs = true;", repository.server.url);
    for (content, expected) in [
        (Some("large 2\n"), "hash mismatch: expected sha256:"),
        (Some("large\n"), "size mismatch: expected 8 but got 6"),
        (None, "no such file (404)"),
    ] {
        let mut known = repository.server.known();
        match content {
            Some(content) => drop(known.objects.insert(oid.clone(), content.into())),
            None => drop(known.objects.remove(&oid)),
        }
        drop(known);
        let said = repository.fetch(&attrs).fails(1).stderr_text();
        assert!(said.contains(expected) && said.contains("smudging git-lfs file '/dir/a.bin'"), "{said}");
    }
    // A damaged copy is not believed either.
    repository.server.known().objects.insert(oid.clone(), b"large 1\n".to_vec());
    repository.tree(&attrs);
    let kept = repository.world.path("home/.cache/nix/git-lfs");
    let kept = kept.join(&oid[..2]).join(&oid[2..4]).join(&oid);
    std::fs::write(&kept, "large 9\n").unwrap();
    repository.world.write("repo/more", "");
    repository.commit();
    let rev = repository.git(&["rev-parse", "HEAD"]);
    assert_eq!(read(&repository.tree(&format!("{attrs} rev = \"{rev}\";")), "dir/a.bin"), b"large 1\n");
    assert_eq!(std::fs::read(&kept).unwrap(), b"large 1\n");
}

#[test]
fn logins() {
    let repository = Repository::new();
    repository.large("a.bin", b"large 1\n");
    repository.commit();
    {
        let mut known = repository.server.known();
        // user:word
        known.login = Some("Basic dXNlcjp3b3Jk".to_owned());
        known.ticket = Some("a ticket".to_owned());
    }
    let attrs = format!("url = \"{}/bare.git\"; ref = \"main\"; lfs = true;", repository.server.url);
    let said = repository.fetch(&attrs).fails(1).stderr_text();
    assert!(said.contains("401"), "{said}");
    // What the user's git knows.
    let helper = "[credential]\n\thelper = \"!f() { echo username=user; echo password=word; }; f\"\n";
    std::fs::write(repository.world.path("home/.gitconfig"), helper).unwrap();
    let tree = repository.tree(&attrs);
    assert_eq!(read(&tree, "a.bin"), b"large 1\n");
}

#[test]
fn servers_behind_ssh() {
    let repository = Repository::new();
    repository.large("a.bin", b"large 1\n");
    repository.commit();
    let (url, token) = (&repository.server.url, "Bearer from-ssh");
    repository.server.known().login = Some(token.to_owned());
    // Git runs the last word on the other side.
    let answer = format!("{{\"href\":\"{url}/by/ssh/\",\"header\":{{\"Authorization\":\"{token}\"}}}}");
    let script = format!(
        "echo \"$*\" >> asked\nfor last; do :; done\n\
         case \"$*\" in *git-lfs-authenticate*) echo '{answer}';; *) exec sh -c \"$last\";; esac\n"
    );
    repository.world.write("ssh", &script);
    let path = repository.world.path("work/bare.git");
    let tree = repository
        .tree(&format!("url = \"ssh://me@there:77{}\"; ref = \"main\"; lfs = true;", path.display()));
    assert_eq!(read(&tree, "a.bin"), b"large 1\n");
    assert_eq!(repository.server.asked(), ["/by/ssh/objects/batch", "file"]);
    let asked = std::fs::read_to_string(repository.world.path("work/asked")).unwrap();
    let last = asked.lines().last().unwrap();
    assert_eq!(last, format!("-p77 me@there -- git-lfs-authenticate {} download", path.display()));
    // One that says nothing of use.
    repository.world.write("ssh", &script.replace("echo '{", "echo '["));
    repository.large("a.bin", b"large 2\n");
    repository.commit();
    let rev = repository.git(&["rev-parse", "HEAD"]);
    let attrs = format!("url = \"ssh://me@there:77{}\"; rev = \"{rev}\"; lfs = true;", path.display());
    let said = repository.fetch(&attrs).fails(1).stderr_text();
    assert!(said.contains("on 'me@there' answered '["), "{said}");
}

#[test]
fn files_that_are_on_this_machine() {
    let repository = Repository::new();
    let oid = repository.large("a.bin", b"large 1\n");
    repository.commit();
    let rev = repository.git(&["rev-parse", "HEAD"]);
    let attrs = format!("url = ./repo; rev = \"{rev}\"; lfs = true;");
    let said = repository.fetch(&attrs).fails(1).stderr_text();
    assert!(said.contains("no remote 'origin' to get them from"), "{said}");
    // Where `git lfs` keeps them.
    let object = format!("repo/.git/lfs/objects/{}/{}/{oid}", &oid[..2], &oid[2..4]);
    repository.world.write(&object, "large 1\n");
    assert_eq!(read(&repository.tree(&attrs), "a.bin"), b"large 1\n");
    assert!(repository.server.asked().is_empty());
    std::fs::remove_file(repository.world.work_dir().join(&object)).unwrap();
    // The commit names a server.
    repository.large("a.bin", b"large 2\n");
    repository.world.write("repo/.lfsconfig", &format!("[lfs]\n\turl = {}/named/\n", repository.server.url));
    repository.commit();
    let rev = repository.git(&["rev-parse", "HEAD"]);
    let tree = repository.tree(&format!("url = ./repo; rev = \"{rev}\"; lfs = true;"));
    assert_eq!(read(&tree, "a.bin"), b"large 2\n");
    assert_eq!(repository.server.asked(), ["/named/objects/batch", "file"]);
}

#[test]
fn flakes_with_large_files() {
    let repository = Repository::new();
    repository.large("a.bin", b"large 1\n");
    let flake = "{ inputs.self.lfs = true; outputs = { self }: { x = builtins.readFile ./a.bin; }; }";
    repository.world.write("repo/flake.nix", flake);
    repository.commit();
    let read = |query: &str| {
        let url = format!("git+{}/bare.git{query}#x", repository.server.url);
        repository.world.run("nix", &["eval", "--raw", &url]).success().stdout_text()
    };
    assert_eq!(read("?ref=main"), "large 1\n");
    // Asked for by the one who uses it.
    let flake = "{ outputs = { self }: { x = builtins.readFile ./a.bin; }; }";
    repository.world.write("repo/flake.nix", flake);
    repository.commit();
    let rev = repository.git(&["rev-parse", "HEAD"]);
    assert!(read(&format!("?ref=main&rev={rev}")).starts_with("version "));
    assert_eq!(read(&format!("?ref=main&rev={rev}&lfs=1")), "large 1\n");
}
