# A machine with Nix is taken over by firn, used by root and two users, and given back. Runs as root in a copy of this
# machine that is thrown away; $1 is firn. Whatever fails ends it with a message.
set -eu
firn=$1
fail() { echo "FAILED: $*" >&2; exit 1; }
same() { [ "$1" = "$2" ] || fail "'$1' is not '$2'"; }
cd /
mount -t tmpfs -o mode=755 none /nix
mkdir -p /etc/nix
printf 'sandbox = false\nsubstituters =\nbuild-users-group = nixbld\n' > /etc/nix/nix.conf
cat > /packages.nix <<'NIX'
let
  make = name: version: derivation {
    name = "${name}-${version}";
    system = builtins.currentSystem;
    builder = "/bin/sh";
    PATH = "/usr/bin:/bin";
    args = [ "-c" "mkdir -p $out/bin; printf '#!/bin/sh\necho ${name} ${version}\n' > $out/bin/${name}; chmod +x $out/bin/${name}" ];
  };
in {
  v1 = { hello = make "hello" "1"; patch = make "patch" "1"; tree = make "tree" "1"; };
  v2 = { hello = make "hello" "2"; patch = make "patch" "2"; tree = make "tree" "1"; };
  root = make "roots" "1";
}
NIX
state() { (cd / && find etc usr/local -not -name '*-' | sort | while read -r f; do
  if [ -L "$f" ]; then echo "$f -> $(readlink "$f")"; elif [ -f "$f" ]; then sha256sum "$f"; else echo "$f"; fi; done); }
user() { who=$1; shift; su "$who" -s /bin/sh -c "cd; export HOME=/home/$who; unset NIX_REMOTE; . /etc/profile.d/zz-firn.sh; $*"; }

useradd --create-home ann
useradd --create-home bob
old=$(/usr/bin/nix-build /packages.nix -A root -o /nix/var/nix/gcroots/old)
state > /before

# Taken over: the same store, other programs, and users for builds as they were.
"$firn" install --yes --multi-user > /plan || fail "firn install"
grep -q 'stays as' /plan || grep -q 'stay as they are' /plan || fail "the plan says nothing of what stays: $(cat /plan)"
same "$(sh -c '. /etc/profile.d/zz-firn.sh; readlink -f "$(command -v nix-build)"')" /usr/local/bin/firn
grep -q /usr/local/bin/nix-daemon /etc/systemd/system/nix-daemon.service.d/firn.conf || fail "no unit of firn's"
/usr/local/bin/nix-store --check-validity "$old"
"$firn" install --yes --multi-user | grep -q 'nothing to do' || fail "installing twice does something"

/usr/local/bin/nix-daemon --daemon & daemon=$!
for _ in $(seq 100); do [ -S /nix/var/nix/daemon-socket/socket ] && break; sleep 0.05; done

# Two users live with it.
user ann nix-env -f /packages.nix -iA v1.hello v1.patch v1.tree
user bob nix-env -f /packages.nix -iA v1.hello
same "$(user ann hello)" "hello 1"
user ann nix-env -f /packages.nix -uA v2.hello v2.patch
same "$(user ann hello)" "hello 2"
user ann nix-env --rollback
same "$(user ann 'hello; patch; tree' | tr '\n' ,)" "hello 1,patch 1,tree 1,"
user ann nix-env --switch-generation 2
user ann nix-env --delete-generations old
same "$(user ann nix-env --list-generations | wc -l)" 1
user ann nix-collect-garbage -d
same "$(user ann hello)" "hello 2"
same "$(user bob hello)" "hello 1"
same "$(user ann "nix-shell -E 'derivation { name = \"sh\"; system = builtins.currentSystem; builder = \"/bin/sh\"; WORD = \"in the shell\"; }' --pure --run 'echo \$WORD'")" "in the shell"
same "$(echo '1 + 2' | user bob nix repl --extra-experimental-features nix-command | tr -d '\n ')" 3
nobody=$(user bob nix-store --delete "$(user ann readlink -f /home/ann/.nix-profile/bin/hello | cut -d/ -f1-4)" 2>&1) && fail "bob deleted ann's package: $nobody"
/usr/local/bin/nix-env -f /packages.nix -iA v2.tree
same "$(/usr/local/bin/nix-env -q)" tree-1
"$firn" doctor --no-network > /doctor || fail "firn doctor: $(cat /doctor)"

# Given back: nothing of firn's is left but what users made in the store, and Nix goes on with that.
kill $daemon; wait $daemon || true
/usr/local/bin/firn uninstall --yes --multi-user > /left || fail "firn uninstall: $(cat /left)"
state > /after
diff /before /after || fail "something is left"
/usr/bin/nix-store --verify --check-contents
/usr/bin/nix-store --check-validity "$old"
same "$(/usr/bin/nix-env -q)" tree-1
profile=$(readlink -f /home/ann/.nix-profile)
/usr/bin/nix-store --check-validity "$profile"
same "$("$profile/bin/hello")" "hello 2"
same "$(/usr/bin/nix-build /packages.nix -A root --no-out-link)" "$old"
/usr/bin/nix-collect-garbage > /dev/null
/usr/bin/nix-store --check-validity "$profile"
echo "all is well"
