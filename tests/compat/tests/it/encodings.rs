//! Files that a server encodes for the way: what arrives is what was meant, whoever asked for it and however.

use firn_testkit::World;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

/// What all files are once they are decoded.
const PLAIN: &str = "plain\n";

const GZIP: &str = "1f8b08000000000002032bc849cccce30200d0f9153906000000";
const ZLIB: &str = "78da2bc849cccce302000867021f";
const DEFLATE: &str = "2bc849cccce30200";
/// The gzip file as a zlib stream.
const BOTH: &str = "78da93efe66000012666ed139e67ce3c6662b8f053d4920d2802005113068e";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

/// Answers by path: the header, and the body.
fn serve(answers: BTreeMap<&'static str, (&'static str, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let (mut first, mut line) = (String::new(), String::new());
            reader.read_line(&mut first).unwrap();
            while reader.read_line(&mut line).is_ok_and(|len| len > 2) {
                line.clear();
            }
            let path = first.split(' ').nth(1).unwrap_or_default();
            let (encoding, body) = &answers[path];
            let head = format!(
                "HTTP/1.1 200 OK\r\n{encoding}content-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            // One that goes away has what it wants.
            let _ = reader.into_inner().write_all(&[head.as_bytes(), body].concat());
        }
    });
    url
}

fn world() -> World {
    World::new().conf("download-attempts = 1").conf("extra-experimental-features = nix-command")
}

fn encoded() -> BTreeMap<&'static str, (&'static str, Vec<u8>)> {
    BTreeMap::from([
        ("/plain", ("", PLAIN.into())),
        ("/identity", ("content-encoding: identity\r\n", PLAIN.into())),
        ("/gzip", ("content-encoding: gzip\r\n", bytes(GZIP))),
        ("/old", ("Content-Encoding: X-GZIP\r\n", bytes(GZIP))),
        ("/zlib", ("content-encoding: deflate\r\n", bytes(ZLIB))),
        ("/deflate", ("content-encoding: deflate\r\n", bytes(DEFLATE))),
        ("/both", ("content-encoding: gzip, deflate\r\n", bytes(BOTH))),
        ("/lines", ("content-encoding: gzip\r\ncontent-encoding: deflate\r\n", bytes(BOTH))),
        ("/odd", ("content-encoding: odd\r\n", PLAIN.into())),
        ("/broken", ("content-encoding: gzip\r\n", PLAIN.into())),
    ])
}

const GOOD: [&str; 8] = ["plain", "identity", "gzip", "old", "zlib", "deflate", "both", "lines"];

#[test]
fn evaluation_gets_what_was_meant() {
    let (world, url) = (world(), serve(encoded()));
    for name in GOOD {
        let text = format!("builtins.readFile (builtins.fetchurl {url}/{name})");
        let run = world.run("nix", &["eval", "--impure", "--raw", "--expr", &text]).success();
        assert_eq!(run.stdout_text(), PLAIN, "{name}");
    }
}

#[test]
fn prefetching_and_building_take_the_decoded_file_for_the_file() {
    let (world, url) = (world(), serve(encoded()));
    let hash = |name: &str| {
        let run = world.run("nix-prefetch-url", &[&format!("{url}/{name}")]);
        run.success().stdout_text().trim().to_owned()
    };
    let plain = hash("plain");
    for name in GOOD {
        assert_eq!(hash(name), plain, "{name}");
        let text = format!(
            "import <nix/fetchurl.nix> {{ name = \"b-{name}\"; url = \"{url}/{name}\"; sha256 = \"{plain}\"; }}"
        );
        world.run("nix-build", &["--no-out-link", "-E", &text]).success();
    }
}

#[test]
fn what_cannot_be_decoded_is_an_error() {
    let (world, url) = (world(), serve(encoded()));
    for (name, expected) in [("odd", "content encoding 'odd'"), ("broken", "content encoding 'gzip'")] {
        let run = world.run("nix-prefetch-url", &[&format!("{url}/{name}")]);
        assert_eq!(run.code(), Some(1), "{name}");
        let said = run.stderr_text();
        assert!(said.contains("unable to download") && said.contains(expected), "{said}");
    }
}

#[test]
fn archives_may_be_compressed_twice_or_be_said_to_be() {
    let world = world();
    world.write("top/file", PLAIN);
    let tar = |args: &[&str]| {
        let mut command = world.command("/usr/bin/tar");
        assert!(command.args(args).status().unwrap().success());
    };
    tar(&["-czf", "once", "top"]);
    let once = std::fs::read(world.work_dir().join("once")).unwrap();
    let mut gzip = world.command("/usr/bin/gzip");
    assert!(gzip.args(["once"]).status().unwrap().success());
    let twice = std::fs::read(world.work_dir().join("once.gz")).unwrap();
    let url = serve(BTreeMap::from([
        ("/plain.tar.gz", ("", once.clone())),
        // Many servers say so of any file with this name.
        ("/said.tar.gz", ("content-encoding: x-gzip\r\n", once)),
        ("/twice.tar.gz", ("content-encoding: gzip\r\n", twice)),
    ]));
    for name in ["plain", "said", "twice"] {
        let text = format!("builtins.readFile (builtins.fetchTarball \"{url}/{name}.tar.gz\" + \"/file\")");
        let run = world.run("nix", &["eval", "--impure", "--raw", "--expr", &text]).success();
        assert_eq!(run.stdout_text(), PLAIN, "{name}");
    }
}
