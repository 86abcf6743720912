//! Binary caches: with the reference on the other side, behind nginx and a proxy, served by us, and from the language.

use firn_testkit::servers::{Served, free_port, has_program};
use firn_testkit::{World, can_sandbox};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// A world whose store has one folder, with something that refers to it.
fn filled() -> (World, String) {
    let world = World::new().conf("sandbox = false");
    world.write("folder/hello.txt", &"hello ".repeat(20_000));
    world.write("folder/sub/tool", "tool\n");
    let folder = world.run("nix", &["store", "add", "folder"]).success().stdout_text();
    let folder = folder.trim_end().to_owned();
    world.write(
        "default.nix",
        &format!(
            "derivation {{ name = \"user\"; system = builtins.currentSystem; builder = \"/bin/sh\"; \
             args = [ \"-c\" \"echo ${{builtins.storePath \"{folder}\"}} > $out\" ]; }}"
        ),
    );
    let user = world.run("nix-build", &["--no-out-link"]).success().stdout_text().trim_end().to_owned();
    (world, user)
}

/// Nix itself, in the same world.
#[expect(clippy::disallowed_methods, reason = "tests run programs")]
fn reference(world: &World, args: &[&str]) -> bool {
    let ours = world.command("nix");
    let mut command = Command::new("/usr/bin/nix");
    command.env_clear().current_dir(world.work_dir()).args(["--extra-experimental-features", "nix-command"]);
    for (name, value) in ours.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        command.env(name, value);
    }
    let output = command.args(args).output().expect("the reference runs");
    if !output.status.success() {
        eprintln!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    output.status.success()
}

/// Nothing is kept by a root.
fn forget(world: &World, path: &str) {
    world.run("nix-store", &["--gc"]).success();
    assert!(!fs::exists(path).expect("a look"));
}

fn hash(world: &World, path: &str) -> String {
    world.run("nix", &["hash", "path", path]).success().stdout_text()
}

#[test]
fn caches_of_the_reference_and_ours() {
    if !has_program("nix-copy-closure") || !fs::exists("/usr/bin/nix").unwrap_or(false) {
        eprintln!("NOT TESTED: nix-bin is missing");
        return;
    }
    let (world, path) = filled();
    let content = hash(&world, &path);
    for compression in ["xz", "bzip2", "zstd", "br", "gzip", "lzip", "lzma", "lz4", "compress", "none"] {
        let uri = |who: &str| {
            let place = world.path(&format!("cache-{who}-{compression}"));
            format!("file://{}?compression={compression}", place.display())
        };
        let (theirs, ours) = (uri("theirs"), uri("ours"));
        assert!(reference(&world, &["copy", "--to", &theirs, &path]), "{compression}");
        world.run("nix", &["copy", "--to", &ours, &path]).success();
        forget(&world, &path);
        world.run("nix", &["copy", "--no-check-sigs", "--from", &theirs, &path]).success();
        assert_eq!(hash(&world, &path), content, "{compression}");
        forget(&world, &path);
        if compression == "lzma" && !reference(&world, &["copy", "--no-check-sigs", "--from", &theirs, &path])
        {
            eprintln!("NOT TESTED: the reference cannot read its own lzma");
            world.run("nix", &["copy", "--no-check-sigs", "--from", &ours, &path]).success();
            continue;
        }
        assert!(reference(&world, &["copy", "--no-check-sigs", "--from", &ours, &path]), "{compression}");
        assert_eq!(hash(&world, &path), content, "{compression}");
    }
}

/// Nix 2.34 refuses to write these.
#[test]
fn caches_that_programs_compress() {
    let (world, path) = filled();
    let content = hash(&world, &path);
    for program in ["lzop", "lrzip"] {
        if !has_program(program) {
            continue;
        }
        let cache = world.path(&format!("cache-{program}"));
        let uri = format!("file://{}?compression={program}", cache.display());
        world.run("nix", &["copy", "--to", &uri, &path]).success();
        let info = fs::read_dir(&cache).expect("a folder").map(|entry| entry.expect("an entry").path());
        let info = info.filter(|file| file.extension().is_some_and(|e| e == "narinfo"));
        let info: Vec<String> = info.map(|file| fs::read_to_string(file).expect("a text")).collect();
        assert!(info.iter().all(|text| text.contains(&format!("\nCompression: {program}\n"))), "{info:?}");
        forget(&world, &path);
        world.run("nix", &["copy", "--no-check-sigs", "--from", &uri, &path]).success();
        assert_eq!(hash(&world, &path), content, "{program}");
        // Half of an archive is none.
        let archives = fs::read_dir(cache.join("nar")).expect("a folder");
        for archive in archives.map(|entry| entry.expect("an entry").path()) {
            let whole = fs::read(&archive).expect("the archive");
            fs::write(&archive, &whole[..whole.len() / 2]).expect("written");
        }
        let copy = world.path("copy").display().to_string();
        let args = ["copy", "--no-check-sigs", "--from", &uri, "--to", &copy, &path];
        let text = world.run("nix", &args).fails(1).stderr_text();
        assert!(text.contains("-folder"), "{text}");
    }
    let uri = format!("file://{}?compression=grzip", world.path("cache-grzip").display());
    if !has_program("grzip") {
        let text = world.run("nix", &["copy", "--to", &uri, &path]).fails(1).stderr_text();
        assert!(text.contains("cannot run program 'grzip', which does this compression"), "{text}");
    }
}

#[test]
fn behind_nginx_with_a_password_and_a_proxy() {
    if !has_program("nginx") || !has_program("tinyproxy") {
        return;
    }
    let (world, path) = filled();
    let cache = world.path("cache");
    let to = format!("file://{}?compression=zstd", cache.display());
    world.run("nix", &["copy", "--to", &to, &path]).success();
    // user:secret, in the form that needs no other program.
    fs::write(world.path("users"), "user:{PLAIN}secret\n").expect("a file is written");
    let rules = format!(
        "auth_basic \"cache\"; auth_basic_user_file {};\ndav_methods PUT; create_full_put_path on;",
        world.path("users").display()
    );
    let server = Served::nginx(&world.path("tmp"), &cache, &rules);
    let proxy = Served::tinyproxy(&world.path("tmp"));
    let content = hash(&world, &path);
    forget(&world, &path);
    let from = ["copy", "--no-check-sigs", "--from", &server.url(), &path];
    let refused = world.run("nix", &from).fails(1).stderr_text();
    assert!(refused.contains("HTTP error 401"), "{refused}");
    let netrc = "machine 127.0.0.1 login user password secret\n";
    fs::write(world.path("etc/netrc"), netrc).expect("a file is written");
    world.run("nix", &from).success();
    assert_eq!(hash(&world, &path), content);

    forget(&world, &path);
    let world = world.env("http_proxy", &proxy.url());
    world.run("nix", &from).success();
    let log = fs::read_to_string(world.path("tmp/tinyproxy.log")).expect("the proxy's log");
    assert!(log.contains(&format!("127.0.0.1:{}", server.port)), "{log}");

    // Uploads by PUT.
    fs::remove_dir_all(&cache).expect("the cache goes");
    fs::create_dir(&cache).expect("a folder");
    fs::write(cache.join("nix-cache-info"), format!("StoreDir: {}\n", world.path("store").display()))
        .expect("a file is written");
    let to = format!("{}?compression=zstd&write-nar-listing=true", server.url());
    world.run("nix", &["copy", "--refresh", "--to", &to, &path]).success();
    let names: Vec<String> = cache
        .read_dir()
        .expect("a folder")
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names.iter().filter(|name| name.ends_with(".narinfo")).count(), 2, "{names:?}");
    assert_eq!(names.iter().filter(|name| name.ends_with(".ls")).count(), 2, "{names:?}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "tests run programs")]
fn behind_tls_with_a_ca_of_our_own() {
    if !has_program("nginx") || !has_program("openssl") {
        return;
    }
    let (world, path) = filled();
    let cache = world.path("cache");
    let to = format!("file://{}?compression=zstd", cache.display());
    world.run("nix", &["copy", "--to", &to, &path]).success();
    let content = hash(&world, &path);
    let openssl = |line: &str| {
        let mut command = Command::new("openssl");
        let output =
            command.args(line.split(' ')).current_dir(world.path("tmp")).output().expect("openssl runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=firn-test-ca -days 2"));
    openssl(&format!("req {key} -keyout host.key -out host.csr -subj /CN=localhost"));
    fs::write(world.path("tmp/names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        .expect("a file is written");
    openssl(
        "x509 -req -in host.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out host.pem -days 2 -extfile names",
    );
    let tls = free_port();
    let tmp = world.path("tmp").display().to_string();
    let rules = format!(
        "listen 127.0.0.1:{tls} ssl http2; ssl_certificate {tmp}/host.pem; ssl_certificate_key {tmp}/host.key;"
    );
    let _server = Served::nginx(&world.path("tmp"), &cache, &rules);
    forget(&world, &path);
    let url = format!("https://localhost:{tls}");
    let from = ["copy", "--no-check-sigs", "--from", &url, &path];
    // Nobody vouches for it.
    let refused = world.run("nix", &from).fails(1).stderr_text();
    assert!(refused.to_lowercase().contains("certificate"), "{refused}");
    let ca = world.path("tmp/ca.pem").display().to_string();
    let trusting: Vec<&str> = from.iter().copied().chain(["--option", "ssl-cert-file", &ca]).collect();
    world.run("nix", &trusting).success();
    assert_eq!(hash(&world, &path), content);
    let log = fs::read_to_string(world.path("tmp/nginx/access")).expect("the server's log");
    assert!(log.contains(".narinfo HTTP/2.0\" 200"), "{log}");
    // A certificate that vouches for itself is believed where it is trusted, for its own name.
    openssl(&format!(
        "req -x509 {key} -keyout self.key -out self.pem -subj /CN=localhost -days 2 -addext subjectAltName=DNS:localhost"
    ));
    let own = free_port();
    let rules = format!(
        "listen 127.0.0.1:{own} ssl; ssl_certificate {tmp}/self.pem; ssl_certificate_key {tmp}/self.key;"
    );
    fs::create_dir_all(world.path("tmp/self")).expect("a folder");
    let _own = Served::nginx(&world.path("tmp/self"), &cache, &rules);
    let itself = world.path("tmp/self.pem").display().to_string();
    for (host, trusted, good) in
        [("localhost", &itself, true), ("127.0.0.1", &itself, false), ("localhost", &ca, false)]
    {
        forget(&world, &path);
        let url = format!("https://{host}:{own}");
        let args = ["copy", "--no-check-sigs", "--from", &url, &path, "--option", "ssl-cert-file", trusted];
        let run = world.run("nix", &args);
        assert_eq!(run.code() == Some(0), good, "{host} {trusted}: {}", run.stderr_text());
    }
    // The same by the variable, as a substituter.
    forget(&world, &path);
    let world = world.env("NIX_SSL_CERT_FILE", &ca);
    let substitute = ["-r", &path, "--option", "substituters", &url, "--option", "require-sigs", "false"];
    world.run("nix-store", &substitute).success();
    assert_eq!(hash(&world, &path), content);
}

/// `nix serve` of the world's store.
fn serve(world: &World, more: &[&str]) -> Served {
    let port = free_port();
    let mut command = world.command("nix");
    command.args(["serve", "--listen", &format!("127.0.0.1:{port}")]).args(more);
    Served::start(command, port)
}

#[test]
fn substitutes_from_nix_serve() {
    let (world, path) = filled();
    let key = world.run("nix", &["key", "generate-secret", "--key-name", "test-1"]).success().stdout_text();
    fs::write(world.path("key"), key).expect("a file is written");
    let file = world.path("key").display().to_string();
    let server = serve(&world, &["--key-file", &file]);
    let other = world.path("other").display().to_string();
    let realise = |more: &[&str]| {
        let mut args =
            vec!["--store", other.as_str(), "--realise", path.as_str(), "--option", "substituters"];
        let url = server.url();
        args.push(&url);
        args.extend(more);
        world.run("nix-store", &args)
    };
    let dry = realise(&["--dry-run"]).success().stderr_text();
    assert!(dry.contains("these 2 paths will be fetched (0.0 KiB download, 118."), "{dry}");
    let unsigned = realise(&[]).fails(1).stderr_text();
    assert!(
        unsigned.contains("as it's not signed by any of the keys in 'trusted-public-keys'"),
        "{unsigned}"
    );
    let public = {
        let mut command = world.command("nix");
        command.args(["key", "convert-secret-to-public"]);
        command.stdin(fs::File::open(world.path("key")).expect("the key"));
        let output = command.output().expect("the program runs");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    };
    realise(&["--option", "trusted-public-keys", &public]).success();
    let there = world.run("nix", &["path-info", "--store", &other, "-r", &path]).success().stdout_text();
    assert_eq!(there.lines().count(), 2, "{there}");
    // A store in a folder is named by it.
    let mut command = world.command("nix");
    command.args(["serve", "--store", &other, "--listen", &format!("127.0.0.1:{}", free_port())]);
    let mut served = command.stderr(std::process::Stdio::piped()).spawn().expect("the program starts");
    let mut said = String::new();
    let stderr = served.stderr.take().expect("its errors");
    let read = std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut said);
    served.kill().and_then(|()| served.wait()).expect("it ends");
    assert!(read.is_ok() && said.starts_with(&format!("serving store '{other}' at http://")), "{said}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "tests run programs")]
fn the_language_fetches() {
    if !has_program("nginx") {
        return;
    }
    let world = World::new().conf("tarball-ttl = 0");
    world.write("files/tree/a", "a\n");
    world.write("files/tree/b/c", "c\n");
    let root = world.work_dir().join("files");
    let tar = Command::new("tar").current_dir(&root).args(["-czf", "tree.tar.gz", "tree"]).status();
    assert!(tar.expect("tar runs").success());
    let server = Served::nginx(&world.path("tmp"), &root, "");
    let url = format!("{}/tree.tar.gz", server.url());
    let eval = |expr: &str| world.run("nix", &["eval", "--impure", "--raw", "--expr", expr]);
    let tree = eval(&format!("\"${{fetchTarball \"{url}\"}}\"")).success().stdout_text();
    assert_eq!(fs::read_to_string(format!("{tree}/b/c")).expect("a file"), "c\n");
    // Asked again, since nothing is fresh; the server says that it is the same.
    assert_eq!(eval(&format!("\"${{fetchTarball \"{url}\"}}\"")).success().stdout_text(), tree);
    let log = fs::read_to_string(world.path("tmp/nginx/access")).expect("the server's log");
    assert!(log.contains("\" 304 "), "{log}");
    let file = eval(&format!("builtins.readFile (builtins.fetchurl \"{}/tree/a\")", server.url()));
    assert_eq!(file.success().stdout_text(), "a\n");
    let wrong = "sha256 = \"0000000000000000000000000000000000000000000000000000\"";
    let error = eval(&format!("builtins.fetchurl {{ url = \"{}/tree/a\"; {wrong}; }}", server.url()));
    assert!(error.fails(102).stderr_text().contains("hash mismatch in file downloaded from"));
    let prefetched =
        world.run("nix-prefetch-url", &["--unpack", "--print-path", &url]).success().stdout_text();
    let (hash, path) = prefetched.trim_end().split_once('\n').expect("two lines");
    assert_eq!((hash.len(), path.ends_with("-tree.tar.gz")), (52, true));
    assert_eq!(fs::read_to_string(format!("{path}/a")).expect("a file"), "a\n");
    let missing =
        world.run("nix-prefetch-url", &[&format!("{}/nothing", server.url())]).fails(1).stderr_text();
    assert!(missing.contains("HTTP error 404"), "{missing}");
}

/// One request, without a library: only its status is of interest.
fn put(port: u16, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    let text =
        format!("PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "tests run programs")]
fn buckets_of_s3() {
    if !has_program("moto_server") {
        return;
    }
    let port = free_port();
    let mut command = Command::new("moto_server");
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    let server = Served::start(command, port);
    let answer = put(port, "/bucket");
    assert!(answer.contains(" 200 "), "{answer}");
    let (world, path) = filled();
    let world = world.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
    fs::write(world.path("work/random"), noise(9 << 20)).expect("a file is written");
    let large = world.run("nix", &["store", "add", "random"]).success().stdout_text().trim_end().to_owned();
    let bucket = format!("s3://bucket/some/where?endpoint={}&region=eu-west-1", server.url());
    let (content, large_content) = (hash(&world, &path), hash(&world, &large));
    let copy = |to: &str, path: &str| {
        world
            .run("nix", &["copy", "--debug", "--to", &format!("{bucket}&{to}"), path])
            .success()
            .stderr_text()
    };
    let said = copy("compression=zstd", &path);
    assert!(said.contains("using S3 regular upload for 'nar/"), "{said}");
    assert_eq!(
        said.matches("creating new AWS credential provider for profile '(default)'").count(),
        1,
        "{said}"
    );
    // Requests are told of with the URL that they go to.
    assert!(said.contains(&format!("uploading '{}/bucket/some/where/nar/", server.url())), "{said}");
    let said = copy(
        "compression=none&multipart-upload=true&multipart-threshold=6000000&write-nar-listing=true",
        &large,
    );
    assert!(said.contains("using S3 multipart upload for 'nar/"), "{said}");
    assert!(said.contains("S3 multipart upload completed: 2 parts uploaded for 'nar/"), "{said}");
    let nothing = format!("s3://bucket/nothing?endpoint={}&region=eu-west-1", server.url());
    let said = world.run("nix-prefetch-url", &[&nothing]).fails(1).stderr_text();
    assert!(
        said.contains(&format!("unable to download '{}/bucket/nothing': HTTP error 404", server.url())),
        "{said}"
    );
    forget(&world, &path);
    forget(&world, &large);
    world.run("nix", &["copy", "--no-check-sigs", "--from", &bucket, &path, &large]).success();
    assert_eq!((hash(&world, &path), hash(&world, &large)), (content, large_content));
    let missing = path.replace("-user", "-other");
    world.run("nix", &["path-info", "--store", &bucket, &missing]).fails(1);
}

/// Bytes that cannot be compressed.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut out = Vec::with_capacity(length);
    while out.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend(state.to_le_bytes());
    }
    out
}

/// `builtin:fetchurl` of an `s3://` URL signs with the credentials of who asked for the build, in the sandbox too.
#[test]
fn fetching_from_s3_in_a_build() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its number").port();
    let requests = Arc::new(Mutex::new(Vec::<String>::new()));
    let seen = Arc::clone(&requests);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.expect("a client");
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|n| n > 0) {
                head.push(byte[0]);
            }
            seen.lock().expect("the requests").push(String::from_utf8_lossy(&head).to_lowercase());
            let _ =
                client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nfrom3");
        }
    });
    let fetch = |world: &World, key: &str| {
        let expression = format!(
            r#"derivation {{ name = "{key}"; system = "builtin"; builder = "builtin:fetchurl";
               url = "s3://bucket/some/{key}?endpoint=http://127.0.0.1:{port}&region=eu-west-1";
               outputHashMode = "flat"; outputHashAlgo = "sha256";
               outputHash = builtins.hashString "sha256" "from3"; }}"#
        );
        let built = world.run("nix-build", &["--no-out-link", "-E", &expression]).success().stdout_text();
        assert_eq!(fs::read_to_string(built.trim_end()).expect("the file"), "from3");
        requests.lock().expect("the requests").pop().expect("a request")
    };
    let sandboxes: &[&str] = if can_sandbox() { &["false", "true"] } else { &["false"] };
    for sandbox in sandboxes {
        let world = World::new().conf(&format!("sandbox = {sandbox}"));
        let world = world
            .env("AWS_ACCESS_KEY_ID", "the-key")
            .env("AWS_SECRET_ACCESS_KEY", "the-secret")
            .env("AWS_SESSION_TOKEN", "the-token");
        let request = fetch(&world, "signed");
        assert!(request.starts_with("get /bucket/some/signed http/1.1"), "{request}");
        assert!(request.contains("authorization: aws4-hmac-sha256 credential=the-key/"), "{request}");
        assert!(request.contains("/eu-west-1/s3/aws4_request"), "{request}");
        assert!(request.contains("x-amz-security-token: the-token"), "{request}");
        assert!(!request.contains("the-secret"), "{request}");
        // From the files of AWS's programs.
        let world = World::new().conf(&format!("sandbox = {sandbox}"));
        fs::create_dir(world.path("home/.aws")).expect("a folder");
        let text = "[default]\naws_access_key_id = file-key\naws_secret_access_key = x\n";
        fs::write(world.path("home/.aws/credentials"), text).expect("a file");
        let request = fetch(&world, "profile");
        assert!(request.contains("credential=file-key/"), "{request}");
    }
}

/// A store that cannot be opened is told about, and left out.
#[test]
fn substituters_that_cannot_be_opened() {
    let world = World::new().conf("sandbox = false");
    world.write("file", "text");
    // A file is where the folder of its database would be.
    let broken = format!("local?root={}", world.work_dir().join("file").display());
    let expression = r#"derivation {
      name = "x"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo > $out" ];
    }"#;
    let args = ["--no-out-link", "-E", expression, "--option", "substituters", &broken];
    let built = world.run("nix-build", &args).success();
    assert_eq!(built.stderr_text().matches("warning: ").count(), 1, "{built:?}");
}

/// That nothing is to be copied is told as well.
#[test]
fn copies_of_nothing() {
    let world = World::new();
    world.write("file", "text");
    let path = world.run("nix-store", &["--add", "file"]).success().stdout_text();
    let cache = format!("file://{}", world.path("cache").display());
    for count in [1, 0] {
        let copied = world.run("nix", &["copy", "--to", &cache, path.trim()]).success();
        assert!(copied.stderr_text().starts_with(&format!("copying {count} paths...\n")), "{copied:?}");
    }
}

#[test]
fn nothing_is_built_in_a_cache() {
    let world = World::new().conf("sandbox = false");
    world.expression(r#"make "x" "echo > $out""#);
    let cache = format!("file://{}", world.path("cache").display());
    let said = world.run("nix-build", &["--no-out-link", "--store", &cache]).fails(100).stderr_text();
    assert!(
        said.contains("error: Unable to build with a primary store that isn't a local store; "),
        "{said}"
    );
    assert!(said.contains("For more information check 'man nix.conf' and search for '/machines'."), "{said}");
}
