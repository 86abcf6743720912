//! Worlds of other users. They need root, and change nothing on the machine.

use crate::programs::program_dir;
use crate::world::World;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

/// Name of the group of build users in a world made by [`World::with_build_users`]; also how its members start.
pub const BUILD_USERS: &str = "firn-test-bld";

/// A user that owns nothing.
const NOBODY_IN_PARTICULAR: u32 = 54_321;
const FIRST_BUILD_USER: u32 = 54_400;

impl World {
    /// Whether tests run as root; says loudly if not.
    pub fn is_root(&self) -> bool {
        let root = fs::metadata(self.path("home")).is_ok_and(|home| home.uid() == 0);
        if !root {
            println!("SKIPPED: this needs root");
        }
        root
    }

    /// Other users get through to the world, and to programs that may lie where only root gets.
    fn open_up(&mut self) {
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        mode(&self.path(""), 0o755).expect("the world is opened up");
        let programs = self.path("programs");
        fs::create_dir(&programs).expect("a folder");
        for entry in fs::read_dir(program_dir()).expect("the programs") {
            let link = programs.join(entry.expect("a program").file_name());
            std::os::unix::fs::symlink("firn-program", link).expect("a link");
        }
        fs::copy(program_dir().join("firn"), programs.join("firn-program")).expect("the program is copied");
        self.programs = programs;
    }

    /// Programs run as a user without any rights, whom the world belongs to. Call it when all is written, as root.
    pub fn unprivileged(mut self) -> Self {
        self.open_up();
        give(&self.path(""), NOBODY_IN_PARTICULAR);
        let id = NOBODY_IN_PARTICULAR;
        let words = ["setpriv", &format!("--reuid={id}"), &format!("--regid={id}"), "--clear-groups"];
        self.wrapper = words.map(str::to_owned).into();
        self
    }

    /// Programs run as root where a group [`BUILD_USERS`] with two members exists, which `build-users-group` names.
    pub fn with_build_users(mut self) -> Self {
        self.open_up();
        let read = |path: &str| fs::read_to_string(path).expect("the users are read");
        let mut passwd = read("/etc/passwd");
        let mut names = Vec::new();
        for number in 1..=2 {
            let (name, id) = (format!("{BUILD_USERS}{number}"), FIRST_BUILD_USER + number);
            passwd += &format!("{name}:x:{id}:{FIRST_BUILD_USER}::/var/empty:/bin/false\n");
            names.push(name);
        }
        let group = format!("{}{BUILD_USERS}:x:{FIRST_BUILD_USER}:{}\n", read("/etc/group"), names.join(","));
        fs::write(self.path("passwd"), passwd).expect("passwd is written");
        fs::write(self.path("group"), group).expect("group is written");
        let script = format!(
            "mount --bind {0}/passwd /etc/passwd && mount --bind {0}/group /etc/group && exec \"$@\"",
            self.path("").display()
        );
        let words = ["unshare", "--mount", "sh", "-c", &script, "sh"];
        self.wrapper = words.map(str::to_owned).into();
        // Builds must not run below a folder that all can write, such as /tmp.
        let builds = tempfile::Builder::new().prefix("firn-test-").tempdir_in("/var/lib").expect("a folder");
        fs::set_permissions(builds.path(), fs::Permissions::from_mode(0o755)).expect("it is opened up");
        let build_dir = builds.path().display().to_string();
        self.builds = Some(builds);
        self.conf(&format!("build-users-group = {BUILD_USERS}\nbuild-dir = {build_dir}"))
    }

    /// Programs run by a command that takes them as its last arguments.
    pub fn wrapped(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Other users get to the world's files and programs, for daemons that serve them.
    pub fn multi_user(mut self) -> Self {
        self.open_up();
        self
    }

    /// Programs run as root where `members` are the members of a group `name`, which has the number `id`.
    pub fn with_group(mut self, name: &str, id: u32, members: &[(&str, u32)]) -> Self {
        let read = |path: &str| fs::read_to_string(path).expect("the users are read");
        let mut passwd = read("/etc/passwd");
        for (user, id) in members {
            passwd += &format!("{user}:x:{id}:{id}::/:/bin/sh\n");
        }
        let names: Vec<&str> = members.iter().map(|(user, _)| *user).collect();
        fs::write(self.path("passwd"), passwd).expect("passwd is written");
        fs::write(self.path("group"), format!("{}{name}:x:{id}:{}\n", read("/etc/group"), names.join(",")))
            .expect("group is written");
        let script = format!(
            "mount --bind {0}/passwd /etc/passwd && mount --bind {0}/group /etc/group && exec \"$@\"",
            self.path("").display()
        );
        self.wrapper = ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned).into();
        self
    }

    /// Programs run with a small file system, of `size` such as `8m`, mounted on the store; each run has its own.
    pub fn with_full_disk(mut self, size: &str) -> Self {
        let store = self.path("store");
        fs::create_dir(&store).expect("a folder");
        let script = format!("mount -t tmpfs -o size={size} none {} && exec \"$@\"", store.display());
        self.wrapper = ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned).into();
        self
    }
}

fn give(path: &Path, user: u32) {
    let kind = path.symlink_metadata().expect("a file of the world").file_type();
    if kind.is_symlink() {
        return;
    }
    chown(path, Some(user), Some(user)).expect("the world gets another owner");
    if kind.is_dir() {
        for entry in fs::read_dir(path).expect("a folder of the world") {
            give(&entry.expect("an entry").path(), user);
        }
    }
}
