//! R14: a farm of three machines, each in a network of its own. On the way one is killed and one is cut off; all is
//! built, and what is not on those two only once.
//!
//! `FIRN_FARM_SIZE` is the number of derivations (the long run is 500), `FIRN_FARM_CLIENT=reference` has Nix drive the same
//! farm, to compare times (with `FIRN_FARM_ACCIDENTS=0` nothing happens to any machine), and `FIRN_FARM_REFERENCE` holds words to put before another one's programs; the test prints
//! how long it took.

use firn_testkit::{Make, World, has_reference, has_sshd};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PORT: u16 = 2222;

#[expect(clippy::disallowed_methods, reason = "tests run programs")]
fn ip(args: &str) -> bool {
    Command::new("ip")
        .args(args.split(' '))
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A machine: a network with one cable to here, and its own files where the store is.
struct Host {
    space: String,
    cable: String,
    address: String,
    child: Child,
}

impl Host {
    #[expect(clippy::disallowed_methods, reason = "tests run programs")]
    fn start(world: &World, number: u32, store: &Path, shared: &Path) -> Option<Host> {
        let id = std::process::id();
        let (space, cable) = (format!("firn-{id}-{number}"), format!("fi{}h{number}", id % 1_000_000));
        let net = format!("10.231.{}", id % 64 * 4 + number);
        let address = format!("{net}.2");
        if !ip(&format!("netns add {space}")) {
            println!("SKIPPED: networks of their own are not possible here");
            return None;
        }
        let made = [
            format!("link add {cable} type veth peer name eth0 netns {space}"),
            format!("addr add {net}.1/24 dev {cable}"),
            format!("link set {cable} up"),
            format!("-n {space} addr add {address}/24 dev eth0"),
            format!("-n {space} link set eth0 up"),
            format!("-n {space} link set lo up"),
        ];
        assert!(made.iter().all(|args| ip(args)), "a network is made");
        let own = world.path("own-store");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(world.path("name"), format!("host{number}")).unwrap();
        let config = world.sshd_config(Make::Firn, None, &address, PORT);
        let script = format!(
            "mount -t proc proc /proc && mount --bind {} {} && mount --bind {} {}/host && exec /usr/sbin/sshd -D -e -f {}",
            own.display(),
            store.display(),
            world.path("name").display(),
            shared.display(),
            config.display()
        );
        let log = std::fs::File::create(world.path("sshd-log")).unwrap();
        let child = Command::new("ip")
            .args([
                "netns",
                "exec",
                &space,
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "--pid",
                "--fork",
            ])
            .args(["--kill-child", "/bin/sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let host = Host { space, cable, address, child };
        let place: SocketAddr = format!("{}:{PORT}", host.address).parse().unwrap();
        let started = Instant::now();
        while TcpStream::connect_timeout(&place, Duration::from_millis(200)).is_err() {
            let log = std::fs::read_to_string(world.path("sshd-log")).unwrap_or_default();
            assert!(started.elapsed() < Duration::from_secs(20), "the machine does not answer: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(host)
    }

    /// Everything on it ends at once.
    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Nothing comes through any more, and nobody is told.
    fn cut_off(&self) {
        assert!(ip(&format!("link set {} down", self.cable)));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
        ip(&format!("link del {}", self.cable));
        ip(&format!("netns del {}", self.space));
    }
}

/// A graph with some order in it: each uses a few of those shortly before it, some use one from long ago, and some
/// have a source.
fn graph(size: usize, shared: &Path) -> String {
    let mut text = format!(
        "let d = name: deps: derivation {{ inherit name deps; system = builtins.currentSystem; builder = \"/bin/sh\"; \
         args = [ \"-c\" ''\n  read host < {0}/host\n  echo begin ${{name}} $host >> {0}/log\n  \
         for dep in $deps; do [ -e $dep ] || exit 1; done\n  /bin/sleep 0.2\n  echo $deps > $out\n  \
         echo end ${{name}} $host >> {0}/log\n'' ]; }};\n",
        shared.display()
    );
    let mut random: u64 = 12345;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below.max(1)
    };
    let mut unused: BTreeSet<usize> = BTreeSet::new();
    for i in 0..size {
        let mut deps = BTreeSet::new();
        if i >= 12 {
            for _ in 0..=next(3) {
                deps.insert(i - 1 - (11 + next(30)).min(i - 1));
            }
            if next(4) == 0 {
                deps.insert(next(i));
            }
        }
        let mut list = String::new();
        for dep in &deps {
            unused.remove(dep);
            write!(list, " p{dep}").unwrap();
        }
        if next(6) == 0 {
            list += " ./source";
        }
        unused.insert(i);
        writeln!(text, "p{i} = d \"p{i}\" [{list} ];").unwrap();
    }
    let all: String = unused.iter().map(|i| format!(" p{i}")).collect();
    text + &format!("in d \"top\" [{all} ]\n")
}

/// Names by what happened to them on which hosts.
fn happened(log: &str, what: &str) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in log.lines() {
        if let [event, name, host] = line.split(' ').collect::<Vec<_>>()[..]
            && event == what
        {
            all.entry(name.to_owned()).or_default().push(host.to_owned());
        }
    }
    all
}

#[expect(clippy::disallowed_methods, reason = "tests run programs")]
fn client_command(here: &World, client: Make) -> Command {
    let plain = here.command_of(client, "nix-build");
    let words = std::env::var("FIRN_FARM_REFERENCE").unwrap_or_default();
    let mut words = words.split_ascii_whitespace();
    let Some(first) = words.next().filter(|_| client == Make::Reference) else { return plain };
    let mut command = Command::new(first);
    command.args(words).arg("env");
    for (name, value) in plain.get_envs() {
        command.arg(format!("{}={}", name.to_string_lossy(), value.unwrap_or_default().to_string_lossy()));
    }
    // Not ours, which stand first in the path of tests.
    command.arg("PATH=/usr/sbin:/usr/bin:/sbin:/bin");
    command.args(["sh", "-c", "cd \"$0\" && exec nix-build \"$@\""]).arg(here.work_dir());
    command.stdin(Stdio::null());
    command
}

#[test]
fn one_machine_dies_and_one_hangs() {
    let size = std::env::var("FIRN_FARM_SIZE").map_or(60, |text| text.parse().unwrap());
    let client = match std::env::var("FIRN_FARM_CLIENT").as_deref() {
        Ok("reference") => Make::Reference,
        _ => Make::Firn,
    };
    let here = World::new().conf("sandbox = false\nmax-jobs = 0\nconnect-timeout = 3");
    if !here.is_root() || !has_sshd() || !ip("-V") || (client == Make::Reference && !has_reference()) {
        return;
    }
    let (store, shared, own) = (here.path("store"), here.path("shared"), here.path("own"));
    for dir in [&store, &shared] {
        std::fs::create_dir_all(dir).unwrap();
    }
    std::fs::write(shared.join("host"), "nowhere").unwrap();
    std::fs::write(shared.join("log"), "").unwrap();
    let own = own.display();
    let uri = format!("local?store={}&real={own}/store&state={own}/state&log={own}/log", store.display());
    let here = here.conf(&format!("store = {uri}"));
    let worlds: Vec<World> = (0..3)
        .map(|_| World::new().env("NIX_STORE_DIR", &store.display().to_string()).conf("sandbox = false"))
        .collect();
    let mut hosts = Vec::new();
    for (number, world) in worlds.iter().enumerate() {
        let Some(host) = Host::start(world, number as u32, &store, &shared) else { return };
        hosts.push(host);
    }
    let builders: Vec<String> = hosts
        .iter()
        .zip(&worlds)
        .zip(["ssh-ng", "ssh", "ssh"])
        .map(|((host, world), scheme)| {
            let key = world.path("ssh/client");
            format!("{scheme}://root@{} - {} 4 1", host.address, key.display())
        })
        .collect();
    here.write("source", "a source\n");
    here.write("farm.nix", &graph(size, &shared));
    let options = format!(
        "-p {PORT} -oStrictHostKeyChecking=no -oUserKnownHostsFile=/dev/null -oLogLevel=ERROR \
         -oServerAliveInterval=1 -oServerAliveCountMax=2"
    );
    let said = here.path("said");
    let started = Instant::now();
    let mut build = client_command(&here, client)
        .args(["--no-out-link", "--builders", &builders.join("; "), "farm.nix"])
        .env("NIX_SSHOPTS", options)
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    let read_log = || std::fs::read_to_string(shared.join("log")).unwrap();
    let limit = Duration::from_secs(60 + size as u64);
    let accidents = std::env::var("FIRN_FARM_ACCIDENTS").as_deref() != Ok("0");
    let mut step = if accidents { 0 } else { 2 };
    let status = loop {
        if let Some(status) = build.try_wait().unwrap() {
            break status;
        }
        let ended = happened(&read_log(), "end").len();
        if step == 0 && ended >= size / 4 {
            hosts[1].kill();
            step = 1;
        } else if step == 1 && ended >= size / 2 {
            hosts[0].cut_off();
            step = 2;
        }
        if started.elapsed() > limit {
            let _ = build.kill();
            panic!("the farm hangs: {}", std::fs::read_to_string(&said).unwrap());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    println!("{size} derivations took {:.1} s", started.elapsed().as_secs_f64());
    let said = std::fs::read_to_string(&said).unwrap();
    assert!(status.success(), "{said}");
    assert_eq!(step, 2, "both accidents happened on the way");
    let output = std::io::read_to_string(build.stdout.take().unwrap()).unwrap();

    // Nothing is lost: each output names what it was made from, so all of them are in the closure.
    let closure = here.run("nix-store", &["-qR", output.trim_end()]).success().stdout_text();
    let made = closure.lines().filter(|path| !path.ends_with("-source")).count();
    assert_eq!(made, size + 1, "{said}");
    let log = read_log();
    let (begun, ended) = (happened(&log, "begin"), happened(&log, "end"));
    assert_eq!(ended.len(), size + 1);
    if client == Make::Reference {
        return;
    }
    for (name, hosts) in &begun {
        // What was under way on the two that went, or was not fetched from them yet, is begun once more.
        let here = hosts.iter().filter(|host| *host == "host2").count();
        assert!(here <= 1, "{name} was begun {here} times on the machine that stayed: {hosts:?}");
        for lost in ["host0", "host1"] {
            assert!(hosts.iter().filter(|host| *host == lost).count() <= 1, "{name}: {hosts:?}");
        }
    }
    // At most what the slots of both held.
    let again = begun.values().filter(|hosts| hosts.len() > 1).count();
    assert!(again <= 8, "{again} were begun more than once");
}
